-- Versions that are kept but not live, artifacts that were pushed or removed.

-- What a job asks of the gate: always, never, or within:POINTS of the float network; null means the usual points.
ALTER TABLE job ADD COLUMN promote text
    CHECK (promote ~ '^(always|never|within:[0-9]{1,3}([.][0-9]+)?)$');

-- Why a version is kept but not live; null is live.
ALTER TABLE model_version ADD COLUMN held text CHECK (held <> '');

-- Why an artifact with this summary does not go live by itself; null if it does. Where no accuracies were measured, the
-- share of images on which it is of another opinion than its float network stands for the points, since no labels can make
-- it lose more than that; and whatever is more noise than signal beside its float network is held.
CREATE FUNCTION held_by_gate(promote text, summary jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    WITH figure AS (
        SELECT key, 100 * value::text::double precision AS percent, value::text::double precision AS plain
          FROM jsonb_each(CASE WHEN jsonb_typeof(summary) = 'object' THEN summary ELSE '{}' END)
         WHERE key IN ('accuracy', 'float_accuracy', 'agreement', 'closeness_db') AND jsonb_typeof(value) = 'number'
    ), found AS (
        SELECT (SELECT percent FROM figure WHERE key = 'accuracy') AS engine,
               (SELECT percent FROM figure WHERE key = 'float_accuracy') AS float_network,
               (SELECT percent FROM figure WHERE key = 'agreement') AS agreeing,
               (SELECT plain FROM figure WHERE key = 'closeness_db') AS decibels,
               coalesce(substring(promote FROM '^within:(.*)$')::double precision, 5) AS points
    )
    SELECT CASE
        WHEN promote = 'always' THEN NULL
        WHEN promote = 'never' THEN 'promote is never'
        WHEN float_network - engine > points + 1e-9 THEN
            format('%s %% is %s points below its float network''s %s %%', to_char(engine, 'FM990.0'),
                   to_char(float_network - engine, 'FM990.0'), to_char(float_network, 'FM990.0'))
        WHEN (float_network - engine) IS NOT NULL THEN NULL
        WHEN 100 - agreeing > points + 1e-9 THEN
            format('no accuracy is known, and it agrees with its float network on %s %% of the images',
                   to_char(agreeing, 'FM990.0'))
        WHEN decibels < 0 THEN
            format('its outputs are more noise than signal beside its float network''s: %s dB', to_char(decibels, 'FM99990.0'))
        END
      FROM found
$$;

-- An artifact that was pushed has no job. One that was removed keeps its figures but holds no bytes.
ALTER TABLE artifact
    ALTER COLUMN job_id DROP NOT NULL,
    ALTER COLUMN fence DROP NOT NULL,
    ADD CONSTRAINT claimed_by_its_job CHECK ((job_id IS NULL) = (fence IS NULL)),
    ADD COLUMN removed_at timestamptz,
    DROP CONSTRAINT artifact_sha256_fkey,
    ADD COLUMN held_sha256 bytea GENERATED ALWAYS AS (CASE WHEN removed_at IS NULL THEN sha256 END) STORED
        REFERENCES blob;
DROP INDEX artifact_blob;
CREATE INDEX artifact_blob ON artifact (held_sha256) WHERE held_sha256 IS NOT NULL;

CREATE FUNCTION artifact_removed_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dyadic_served', model_version.name) FROM model_version WHERE artifact_id = NEW.id;
    RETURN NULL;
END $$;

CREATE TRIGGER artifact_removed AFTER UPDATE ON artifact
    FOR EACH ROW WHEN (OLD.removed_at IS DISTINCT FROM NEW.removed_at)
    EXECUTE FUNCTION artifact_removed_notify();

-- A job as users see it. What is new stands last, so that whoever may read the view still may.
CREATE OR REPLACE VIEW job_seen AS
SELECT job.id, job.owner, job.experiment, job.model_id, job.model_name, job.dataset_id, job.dataset_name,
       job.train_split, job.eval_split, job.served_name, job.spec, job.settings, job.requires, job.idempotency_key,
       job.request_hash, job.retry_of, job.state, job.priority, job.run_at, job.cancel_requested, job.fence,
       job.lease_expires_at, job.attempts, job.stalls, job.max_stalls, job.changed_by, job.reason, job.worker, job.host,
       job.code_version, job.phase, job.progress_done, job.progress_total, job.checkpoint_sha256, job.checkpoint_step,
       job.error_code, job.error_message, job.error_retryable, job.created_at, job.started_at, job.finished_at,
       coalesce((SELECT jsonb_object_agg(tag.key, tag.value) FROM tag WHERE tag.job_id = job.id), '{}') AS tags,
       artifact.id AS artifact_id,
       artifact.sha256 AS artifact_sha256,
       artifact.size_bytes AS artifact_size_bytes,
       artifact.summary AS artifact_summary,
       artifact.set_aside AS artifact_set_aside,
       artifact.created_at AS artifact_created_at,
       model_version.version AS artifact_version,
       job.promote,
       model_version.held AS artifact_held,
       artifact.removed_at AS artifact_removed_at,
       served_model.pinned AS artifact_pinned
  FROM job
  JOIN served_model ON served_model.name = job.served_name
  LEFT JOIN artifact ON artifact.job_id = job.id
  LEFT JOIN model_version ON model_version.artifact_id = artifact.id;

-- A served name with its versions, newest first; names without any are not seen.
CREATE OR REPLACE VIEW served_seen AS
SELECT served_model.name, served_model.owner, served_model.pinned,
       jsonb_agg(jsonb_build_object(
           'version', model_version.version, 'job', artifact.job_id, 'artifact', artifact.id,
           'sha256', encode(artifact.sha256, 'hex'), 'size_bytes', artifact.size_bytes, 'summary', artifact.summary,
           'set_aside', artifact.set_aside, 'held', model_version.held, 'created_at', model_version.created_at)
           ORDER BY model_version.version DESC) AS versions
  FROM served_model
  JOIN model_version ON model_version.name = served_model.name
  JOIN artifact ON artifact.id = model_version.artifact_id AND artifact.removed_at IS NULL
 GROUP BY served_model.name;
