-- Publishes blob $3 of $4 bytes with summary $5 as artifact $6 and next version, live or held by the gate, and ends job $1,
-- all or nothing.
WITH held AS (
    SELECT id, fence, served_name, promote FROM job
     WHERE id = $1 AND fence = $2 AND state = 'running' AND NOT cancel_requested
       FOR NO KEY UPDATE
), touched AS (
    INSERT INTO blob (sha256, size_bytes) SELECT $3, $4 FROM held
    ON CONFLICT (sha256) DO UPDATE SET touched_at = now() WHERE blob.state = 'ready'
    RETURNING sha256
), made AS (
    INSERT INTO artifact (id, job_id, fence, sha256, size_bytes, summary)
    SELECT $6, held.id, held.fence, touched.sha256, $4, $5 FROM held, touched
    RETURNING id
), served AS (
    UPDATE served_model SET newest = newest + 1 FROM held, made WHERE name = held.served_name
    RETURNING name, newest, pinned
), versioned AS (
    INSERT INTO model_version (name, version, artifact_id, held)
    SELECT name, newest, made.id, held_by_gate(held.promote, $5) FROM served, made, held
    RETURNING version, artifact_id, model_version.held
)
UPDATE job SET
    state = 'succeeded', finished_at = now(), lease_expires_at = NULL, changed_by = worker,
    reason = coalesce(
        'kept, not live: ' || versioned.held,
        'not the latest: ' || served.name || ' is pinned to version ' || served.pinned,
        ''),
    checkpoint_sha256 = NULL, checkpoint_step = NULL,
    error_code = NULL, error_message = NULL, error_retryable = NULL
  FROM held, versioned, served
 WHERE job.id = held.id
RETURNING versioned.artifact_id, versioned.version, versioned.held
