-- Makes blob $3 of $4 bytes the checkpoint of claim $2 on job $1 at step $5.
WITH held AS (
    SELECT id FROM job
     WHERE id = $1 AND fence = $2 AND state = 'running' AND coalesce(checkpoint_step, 0) <= $5
       FOR NO KEY UPDATE
), touched AS (
    INSERT INTO blob (sha256, size_bytes) SELECT $3, $4 FROM held
    ON CONFLICT (sha256) DO UPDATE SET touched_at = now() WHERE blob.state = 'ready'
    RETURNING sha256
)
UPDATE job SET checkpoint_sha256 = touched.sha256, checkpoint_step = $5, stalls = 0, interruptions = 0
  FROM held, touched
 WHERE job.id = held.id
