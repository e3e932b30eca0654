-- Extends the lease of claim $2 on job $1 by $3 seconds from now; progress that moved leaves an event.
WITH held AS (
    SELECT id, fence, worker, (phase, progress_done, progress_total) <> ($4, $5, $6) AS moved
      FROM job WHERE id = $1 AND fence = $2 AND state = 'running'
       FOR NO KEY UPDATE
), told AS (
    INSERT INTO job_event (job_id, kind, fence, who, detail)
    SELECT id, 'progress', fence, worker, jsonb_build_object('phase', $4::text, 'done', $5::bigint, 'total', $6::bigint)
      FROM held WHERE moved
)
UPDATE job SET
    lease_expires_at = now() + make_interval(secs => $3),
    phase = $4, progress_done = $5, progress_total = $6
  FROM held
 WHERE job.id = held.id
RETURNING job.cancel_requested
