-- Gives the next job that a worker with capabilities $1 can run to it, for $2 seconds. What went wrong before stays in its
-- events.
UPDATE job SET
    state = 'running', fence = fence + 1, attempts = attempts + 1, started_at = now(),
    lease_expires_at = now() + make_interval(secs => $2),
    worker = $3, host = $4, code_version = $5, changed_by = $3, reason = '',
    phase = 'load', progress_done = 0, progress_total = 0,
    error_code = NULL, error_message = NULL, error_retryable = NULL
 WHERE id = (
    SELECT id FROM job
     WHERE state = 'queued' AND run_at <= now() AND requires <@ $1::text[]
     ORDER BY priority DESC, run_at, id
     LIMIT 1
     FOR UPDATE SKIP LOCKED
 )
RETURNING id, fence
