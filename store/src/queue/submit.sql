-- Inserts a job if the queue has room, the served name is free or the owner's, and the key is new.
WITH experiments AS (
    INSERT INTO experiment (owner, name) VALUES ($2, $3) ON CONFLICT DO NOTHING
), served AS (
    -- Locks the name, so that its owner is certain.
    INSERT INTO served_model (name, owner) VALUES ($8, $2)
    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner WHERE served_model.owner = excluded.owner
    RETURNING name
), added AS (
    INSERT INTO job (id, owner, experiment, model_id, model_name, dataset_id, dataset_name, train_split, eval_split,
                     served_name, spec, settings, requires, priority, max_stalls, idempotency_key, request_hash, changed_by,
                     plan, promote)
    SELECT $1, $2, $3, model.id, model.name, dataset.id, dataset.name, $6, $7,
           served.name, $9, $10, $11, $12, $13, $14, $15, $2,
           $19, $20
      FROM served, model, dataset
     WHERE model.id = $4 AND dataset.id = $5
       AND (SELECT count(*) FROM job WHERE state = 'queued') < $16
    ON CONFLICT (owner, idempotency_key) DO NOTHING
    RETURNING id
), tagged AS (
    INSERT INTO tag (job_id, key, value)
    SELECT added.id, given.key, given.value FROM added, unnest($17::text[], $18::text[]) AS given (key, value)
)
SELECT id FROM added
