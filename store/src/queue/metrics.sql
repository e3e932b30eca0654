-- Stores the values of claim $2 on job $1: names $3, steps $4, values $5. One event tells of the batch.
WITH held AS (
    SELECT id, fence, worker FROM job WHERE id = $1 AND fence = $2 AND state = 'running'
       FOR NO KEY UPDATE
), batch AS (
    SELECT DISTINCT ON (name, step) name, step, value, position
      FROM unnest($3::text[], $4::bigint[], $5::float8[]) WITH ORDINALITY AS given (name, step, value, position)
     ORDER BY name, step, position DESC
), stored AS (
    INSERT INTO metric (job_id, name, step, value)
    SELECT held.id, batch.name, batch.step, batch.value FROM held, batch
    ON CONFLICT (job_id, name, step) DO UPDATE SET value = excluded.value, at = excluded.at
)
INSERT INTO job_event (job_id, kind, fence, who, detail)
SELECT held.id, 'metrics', held.fence, held.worker, (
        SELECT jsonb_build_object('metrics', jsonb_agg(jsonb_build_object(
            'name', name, 'step', step, 'at', now(),
            'value', CASE WHEN value NOT IN ('NaN', 'Infinity', '-Infinity') THEN value END) ORDER BY position))
          FROM batch)
  FROM held
RETURNING job_id
