-- Adds dataset $1 if its blob is ready and the same is not there yet. Answers the new id, if there is one, and whether the
-- blob is ready.
WITH touched AS (
    INSERT INTO blob (sha256, size_bytes) VALUES ($9, $10)
    ON CONFLICT (sha256) DO UPDATE SET touched_at = now() WHERE blob.state = 'ready'
    RETURNING sha256
), added AS (
    INSERT INTO dataset (id, owner, name, digest, format, splits, labels, file_name, sha256, size_bytes, tags)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, touched.sha256, $10, $11 FROM touched
    ON CONFLICT (owner, name, digest) DO NOTHING
    RETURNING id
)
SELECT (SELECT id FROM added), EXISTS (SELECT FROM touched)
