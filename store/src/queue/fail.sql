-- Ends the run of claim $2 on job $1 with error $3, message $4, retryable or not ($5).
UPDATE job SET
    (state, finished_at) = (
        SELECT next, CASE WHEN next <> 'queued' THEN now() END
          FROM (SELECT CASE WHEN cancel_requested THEN 'cancelled'
                            WHEN $5 AND stalls + 1 < max_stalls THEN 'queued'
                            ELSE 'failed' END AS next) AS choice
    ),
    stalls = stalls + 1, lease_expires_at = NULL,
    -- Ten seconds, doubling with each stall up to ten minutes, and up to a quarter more so that they spread.
    run_at = now() + make_interval(secs => least(10 * 2.0 ^ least(stalls, 20), 600) * (1 + random() / 4)),
    error_code = $3, error_message = $4, error_retryable = $5,
    changed_by = worker, reason = $4
 WHERE id = $1 AND fence = $2 AND state = 'running'
