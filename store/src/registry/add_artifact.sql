-- Publishes blob $3 of $4 bytes with summary $5 as artifact $1 and next version of $2, live or held by the gate as $6 asks;
-- nothing if the blob is being deleted.
WITH touched AS (
    INSERT INTO blob (sha256, size_bytes) VALUES ($3, $4)
    ON CONFLICT (sha256) DO UPDATE SET touched_at = now() WHERE blob.state = 'ready'
    RETURNING sha256
), made AS (
    INSERT INTO artifact (id, sha256, size_bytes, summary) SELECT $1, touched.sha256, $4, $5 FROM touched
    RETURNING id
), served AS (
    UPDATE served_model SET newest = newest + 1 FROM made WHERE name = $2
    RETURNING name, newest
)
INSERT INTO model_version (name, version, artifact_id, held)
SELECT name, newest, made.id, held_by_gate($6, $5) FROM served, made
RETURNING version
