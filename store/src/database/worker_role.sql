-- The statements that make a worker's login $1 with the password $2: what a worker's own statements need, no more.
SELECT array[
    CASE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = $1)
        THEN format('ALTER ROLE %I LOGIN PASSWORD %L', $1, $2)
        ELSE format('CREATE ROLE %I LOGIN PASSWORD %L', $1, $2) END,
    format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), $1),
    format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), $1),
    format('GRANT SELECT ON job, job_seen, model, model_seen, model_file, dataset, blob, artifact, metric, job_event, '
           'served_model, model_version TO %I', $1),
    format('GRANT UPDATE (state, run_at, fence, lease_expires_at, attempts, stalls, interruptions, changed_by, reason, worker, host, '
           'code_version, phase, progress_done, progress_total, checkpoint_sha256, checkpoint_step, error_code, '
           'error_message, error_retryable, started_at, finished_at) ON job TO %I', $1),
    format('GRANT INSERT ON job_event, artifact, model_version, blob, metric TO %I', $1),
    format('GRANT UPDATE (value, at) ON metric TO %I', $1),
    format('GRANT UPDATE (touched_at) ON blob TO %I', $1),
    format('GRANT UPDATE (newest) ON served_model TO %I', $1)
]
