-- Announces blob $3 of $4 bytes, which is to become the checkpoint of claim $2 on job $1 at step $5.
INSERT INTO blob (sha256, size_bytes)
SELECT $3, $4 FROM job
 WHERE id = $1 AND fence = $2 AND state = 'running' AND coalesce(checkpoint_step, 0) <= $5
ON CONFLICT (sha256) DO UPDATE SET touched_at = now() WHERE blob.state = 'ready'
