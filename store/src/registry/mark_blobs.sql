-- Marks up to $2 blobs that nobody touched for $1 seconds and nothing references.
-- A publisher holds the row's lock while it references it; once we get the lock, the row is fresh and no longer matches.
WITH unused AS (
    SELECT sha256 FROM blob
     WHERE state = 'ready' AND touched_at < now() - make_interval(secs => $1)
       AND NOT EXISTS (SELECT FROM model_file WHERE model_file.sha256 = blob.sha256)
       AND NOT EXISTS (SELECT FROM dataset WHERE dataset.sha256 = blob.sha256)
       AND NOT EXISTS (SELECT FROM artifact WHERE artifact.held_sha256 = blob.sha256)
       AND NOT EXISTS (SELECT FROM job WHERE job.checkpoint_sha256 = blob.sha256)
     LIMIT $2
       FOR UPDATE
), marked AS (
    UPDATE blob SET state = 'deleting' FROM unused WHERE blob.sha256 = unused.sha256
    RETURNING blob.sha256
)
SELECT sha256 FROM marked
UNION
SELECT sha256 FROM blob WHERE state = 'deleting'
