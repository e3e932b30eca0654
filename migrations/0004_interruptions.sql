-- Runs that ended early while they told of progress that no checkpoint keeps, since the last checkpoint: no stalls, but
-- not without end either.
ALTER TABLE job ADD COLUMN interruptions integer NOT NULL DEFAULT 0 CHECK (interruptions >= 0);
