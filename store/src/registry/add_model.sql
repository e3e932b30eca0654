-- Adds model $1 if all its blobs ($8, sizes $9) are ready and the same is not there yet. Files: names $10, hashes $11,
-- sizes $12. Answers the new id, if there is one, and how many blobs are ready.
WITH touched AS (
    INSERT INTO blob (sha256, size_bytes) SELECT sha256, size_bytes FROM unnest($8::bytea[], $9::bigint[]) AS b (sha256, size_bytes)
    ON CONFLICT (sha256) DO UPDATE SET touched_at = now() WHERE blob.state = 'ready'
    RETURNING sha256
), added AS (
    INSERT INTO model (id, owner, name, digest, main_file, info, tags)
    SELECT $1, $2, $3, $4, $5, $6, $7
     WHERE (SELECT count(*) FROM touched) = cardinality($8::bytea[])
    ON CONFLICT (owner, name, digest) DO NOTHING
    RETURNING id
), files AS (
    INSERT INTO model_file (model_id, position, name, sha256, size_bytes)
    SELECT added.id, f.position - 1, f.name, f.sha256, f.size_bytes
      FROM added, unnest($10::text[], $11::bytea[], $12::bigint[]) WITH ORDINALITY AS f (name, sha256, size_bytes, position)
)
SELECT (SELECT id FROM added), (SELECT count(*) FROM touched)
