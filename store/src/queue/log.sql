-- Stores lines of claim $2 on job $1: levels $3, messages $4; each is an event.
WITH held AS (
    SELECT id, fence, worker FROM job WHERE id = $1 AND fence = $2 AND state = 'running'
       FOR NO KEY UPDATE
)
INSERT INTO job_event (job_id, kind, fence, who, detail)
SELECT held.id, 'log', held.fence, held.worker, jsonb_build_object('level', given.level, 'message', given.message)
  FROM held, unnest($3::text[], $4::text[]) WITH ORDINALITY AS given (level, message, position)
 ORDER BY given.position
RETURNING job_id
