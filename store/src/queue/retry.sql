-- Inserts job $1 as a copy of the finished job $2.
WITH added AS (
    INSERT INTO job (id, owner, experiment, model_id, model_name, dataset_id, dataset_name, train_split, eval_split,
                     served_name, spec, settings, requires, priority, max_stalls, request_hash, changed_by, retry_of,
                     checkpoint_sha256, checkpoint_step, reason, plan, promote)
    SELECT $1, owner, experiment, model_id, model_name, dataset_id, dataset_name, train_split, eval_split,
           served_name, spec, settings, requires, priority, max_stalls, request_hash, $3, id,
           CASE WHEN $4 THEN checkpoint_sha256 END, CASE WHEN $4 THEN checkpoint_step END, 'retry of ' || id, $6, promote
      FROM job
     WHERE id = $2 AND state IN ('succeeded', 'failed', 'cancelled')
       AND (SELECT count(*) FROM job WHERE state = 'queued') < $5
    RETURNING id
), tagged AS (
    INSERT INTO tag (job_id, key, value) SELECT added.id, tag.key, tag.value FROM added, tag WHERE tag.job_id = $2
)
SELECT id FROM added
