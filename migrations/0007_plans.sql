-- What was planned for each layer when a job was submitted, as a plan's text: the rules and what came of them. Null for
-- jobs from before. Not in job_seen: lists do not need it.
ALTER TABLE job ADD COLUMN plan text;
