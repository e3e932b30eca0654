-- Ends all claims whose lease has expired. The first time the job runs again at once.
-- A worker that went silent while the float network's evaluation or calibration advanced has not stalled: there is no checkpoint before its end. Ten times
-- as many of those as of stalls are borne.
WITH expired AS (
    SELECT id, cancel_requested, max_stalls, phase IN ('float', 'calibrate') AND progress_done > 0 AS advanced,
           stalls + CASE WHEN phase IN ('float', 'calibrate') AND progress_done > 0 THEN 0 ELSE 1 END AS stalls,
           interruptions + CASE WHEN phase IN ('float', 'calibrate') AND progress_done > 0 THEN 1 ELSE 0 END AS interruptions
      FROM job
     WHERE state = 'running' AND lease_expires_at < now()
     LIMIT 100
       FOR NO KEY UPDATE SKIP LOCKED
), counted AS (
    SELECT id, advanced, stalls, interruptions,
           CASE WHEN cancel_requested THEN 'cancelled'
                WHEN stalls < max_stalls AND interruptions < 10 * max_stalls THEN 'queued'
                ELSE 'failed' END AS next,
           -- What the backoff goes by.
           stalls + greatest(interruptions - max_stalls, 0) AS setbacks
      FROM expired
)
UPDATE job SET
    state = next, finished_at = CASE WHEN next <> 'queued' THEN now() END,
    stalls = counted.stalls, interruptions = counted.interruptions, lease_expires_at = NULL,
    run_at = now() + CASE WHEN setbacks <= 1 THEN interval '0'
        ELSE make_interval(secs => least(10 * 2.0 ^ least(setbacks - 1, 20), 600) * (1 + random() / 4)) END,
    error_code = CASE WHEN next = 'cancelled' THEN error_code ELSE 'stalled' END,
    error_message = CASE WHEN next = 'cancelled' THEN error_message
        WHEN advanced THEN format(
            'worker %s went silent in the phase %s, after %s of %s; interruption %s of at most %s before a checkpoint',
            worker, phase, progress_done, progress_total, counted.interruptions, 10 * max_stalls)
        ELSE format(
            'worker %s went silent in the phase %s; run %s of at most %s that ended early %s',
            worker, phase, counted.stalls, max_stalls,
            coalesce('since the checkpoint at step ' || checkpoint_step, 'before any checkpoint')) END,
    error_retryable = CASE WHEN next = 'cancelled' THEN error_retryable ELSE true END,
    changed_by = 'reaper', reason = 'the lease expired'
  FROM counted
 WHERE job.id = counted.id
RETURNING job.id, job.state
