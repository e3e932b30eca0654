-- Ends all claims whose lease has expired. The first time the job runs again at once.
WITH expired AS (
    SELECT id, CASE WHEN cancel_requested THEN 'cancelled'
                    WHEN stalls + 1 < max_stalls THEN 'queued'
                    ELSE 'failed' END AS next
      FROM job
     WHERE state = 'running' AND lease_expires_at < now()
     LIMIT 100
       FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE job SET
    state = next, finished_at = CASE WHEN next <> 'queued' THEN now() END,
    stalls = stalls + 1, lease_expires_at = NULL,
    run_at = now() + CASE WHEN stalls = 0 THEN interval '0'
        ELSE make_interval(secs => least(10 * 2.0 ^ least(stalls, 20), 600) * (1 + random() / 4)) END,
    error_code = CASE WHEN next = 'cancelled' THEN error_code ELSE 'stalled' END,
    error_message = CASE WHEN next = 'cancelled' THEN error_message
        ELSE format('worker %s went silent in the phase %s; this was run %s without a checkpoint of at most %s',
                    worker, phase, stalls + 1, max_stalls) END,
    error_retryable = CASE WHEN next = 'cancelled' THEN error_retryable ELSE true END,
    changed_by = 'reaper', reason = 'the lease expired'
  FROM expired
 WHERE job.id = expired.id
RETURNING job.id, job.state
