-- The drawing of a job's states, enforced; every transition leaves one event.

CREATE FUNCTION job_check_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'queued' OR NEW.fence <> 0 THEN
            RAISE EXCEPTION 'a job begins queued and never claimed, not % with fence %', NEW.state, NEW.fence
                USING ERRCODE = 'check_violation', CONSTRAINT = 'job_transition';
        END IF;
        RETURN NEW;
    END IF;
    IF (OLD.state, NEW.state) NOT IN (
        ('queued', 'queued'), ('queued', 'running'), ('queued', 'cancelled'),
        ('running', 'running'), ('running', 'queued'), ('running', 'succeeded'),
        ('running', 'failed'), ('running', 'cancelled')
    ) THEN
        RAISE EXCEPTION 'a job does not go from % to %', OLD.state, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'job_transition';
    END IF;
    IF NEW.fence <> OLD.fence + (CASE WHEN OLD.state = 'queued' AND NEW.state = 'running' THEN 1 ELSE 0 END) THEN
        RAISE EXCEPTION 'exactly a claim raises the fence, and by one: % to %', OLD.fence, NEW.fence
            USING ERRCODE = 'check_violation', CONSTRAINT = 'job_fence';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER job_begins BEFORE INSERT ON job
    FOR EACH ROW EXECUTE FUNCTION job_check_transition();
CREATE TRIGGER job_changes BEFORE UPDATE ON job
    FOR EACH ROW WHEN (OLD.state <> NEW.state OR OLD.fence <> NEW.fence)
    EXECUTE FUNCTION job_check_transition();

CREATE FUNCTION job_record_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_event (job_id, kind, fence, from_state, to_state, who, detail)
    VALUES (
        NEW.id, 'state', NEW.fence, CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state, NEW.changed_by,
        jsonb_strip_nulls(jsonb_build_object(
            'reason', NEW.reason,
            'error_code', NEW.error_code,
            'error_message', NEW.error_message,
            'error_retryable', NEW.error_retryable))
    );
    IF NEW.state = 'queued' THEN
        PERFORM pg_notify('dyadic_queue', '');
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER job_began AFTER INSERT ON job
    FOR EACH ROW EXECUTE FUNCTION job_record_transition();
CREATE TRIGGER job_changed AFTER UPDATE ON job
    FOR EACH ROW WHEN (OLD.state <> NEW.state)
    EXECUTE FUNCTION job_record_transition();

CREATE FUNCTION job_event_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dyadic_job', NEW.job_id::text);
    RETURN NULL;
END $$;

CREATE TRIGGER job_event_added AFTER INSERT ON job_event
    FOR EACH ROW EXECUTE FUNCTION job_event_notify();

-- A change of what "latest" means, and every new version.
CREATE FUNCTION served_model_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dyadic_served', NEW.name);
    RETURN NULL;
END $$;

CREATE TRIGGER served_model_changed AFTER UPDATE ON served_model
    FOR EACH ROW WHEN (OLD.newest <> NEW.newest OR OLD.pinned IS DISTINCT FROM NEW.pinned)
    EXECUTE FUNCTION served_model_notify();

-- A job as users see it.
CREATE VIEW job_seen AS
SELECT job.*,
       coalesce((SELECT jsonb_object_agg(tag.key, tag.value) FROM tag WHERE tag.job_id = job.id), '{}') AS tags,
       artifact.id AS artifact_id,
       artifact.sha256 AS artifact_sha256,
       artifact.size_bytes AS artifact_size_bytes,
       artifact.summary AS artifact_summary,
       artifact.set_aside AS artifact_set_aside,
       artifact.created_at AS artifact_created_at,
       model_version.version AS artifact_version
  FROM job
  LEFT JOIN artifact ON artifact.job_id = job.id
  LEFT JOIN model_version ON model_version.artifact_id = artifact.id;

-- A model with its files.
CREATE VIEW model_seen AS
SELECT model.id, model.owner, model.name, model.main_file, model.info, model.tags, model.created_at,
       (SELECT jsonb_agg(jsonb_build_object(
                   'name', file.name, 'sha256', encode(file.sha256, 'hex'), 'size_bytes', file.size_bytes)
               ORDER BY file.position)
          FROM model_file AS file WHERE file.model_id = model.id) AS files
  FROM model;

-- A served name with its versions, newest first.
CREATE VIEW served_seen AS
SELECT served_model.name, served_model.owner, served_model.pinned,
       jsonb_agg(jsonb_build_object(
           'version', model_version.version, 'job', artifact.job_id, 'artifact', artifact.id,
           'sha256', encode(artifact.sha256, 'hex'), 'size_bytes', artifact.size_bytes, 'summary', artifact.summary,
           'set_aside', artifact.set_aside, 'created_at', model_version.created_at)
           ORDER BY model_version.version DESC) AS versions
  FROM served_model
  JOIN model_version ON model_version.name = served_model.name
  JOIN artifact ON artifact.id = model_version.artifact_id
 GROUP BY served_model.name;
