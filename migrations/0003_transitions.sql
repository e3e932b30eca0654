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
    IF NEW.fence <> OLD.fence + CASE WHEN OLD.state = 'queued' AND NEW.state = 'running' THEN 1 ELSE 0 END THEN
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
