-- The queue and what jobs leave behind.

CREATE TABLE experiment (
    owner       text NOT NULL,
    name        text NOT NULL CHECK (name <> ''),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner, name)
);

CREATE TABLE served_model (
    name        text PRIMARY KEY CHECK (name <> ''),
    owner       text NOT NULL,
    -- 0 until the first success.
    newest      bigint NOT NULL DEFAULT 0 CHECK (newest >= 0),
    -- What "latest" means; null follows the newest.
    pinned      bigint,
    CHECK (pinned BETWEEN 1 AND newest)
);

CREATE TABLE job (
    id                  uuid PRIMARY KEY,
    owner               text NOT NULL,
    experiment          text NOT NULL,
    -- Null once the model or dataset of a finished job is deleted; the names stay.
    model_id            uuid REFERENCES model ON DELETE SET NULL,
    model_name          text NOT NULL,
    dataset_id          uuid REFERENCES dataset ON DELETE SET NULL,
    dataset_name        text NOT NULL,
    train_split         text NOT NULL,
    eval_split          text NOT NULL,
    served_name         text NOT NULL REFERENCES served_model,
    -- As submitted, and with every default filled in.
    spec                jsonb NOT NULL,
    settings            jsonb NOT NULL,
    requires            text[] NOT NULL DEFAULT '{}',
    idempotency_key     text,
    request_hash        bytea NOT NULL CHECK (octet_length(request_hash) = 32),
    retry_of            uuid REFERENCES job,

    state               text NOT NULL DEFAULT 'queued'
                        CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    priority            integer NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100),
    run_at              timestamptz NOT NULL DEFAULT now(),
    cancel_requested    boolean NOT NULL DEFAULT false,
    -- Claims so far; the last one's number is what its worker proves itself with.
    fence               bigint NOT NULL DEFAULT 0 CHECK (fence >= 0),
    lease_expires_at    timestamptz,
    attempts            integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- Runs that ended early since the last checkpoint.
    stalls              integer NOT NULL DEFAULT 0 CHECK (stalls >= 0),
    max_stalls          integer NOT NULL DEFAULT 3 CHECK (max_stalls >= 1),
    -- Who made the last transition, and why.
    changed_by          text NOT NULL,
    reason              text NOT NULL DEFAULT '',

    worker              text,
    host                text,
    code_version        text,
    phase               text NOT NULL DEFAULT '',
    progress_done       bigint NOT NULL DEFAULT 0 CHECK (progress_done >= 0),
    progress_total      bigint NOT NULL DEFAULT 0 CHECK (progress_total >= 0),
    checkpoint_sha256   bytea REFERENCES blob,
    checkpoint_step     bigint CHECK (checkpoint_step >= 0),
    error_code          text,
    error_message       text,
    error_retryable     boolean,

    created_at          timestamptz NOT NULL DEFAULT now(),
    started_at          timestamptz,
    finished_at         timestamptz,

    UNIQUE (owner, idempotency_key),
    FOREIGN KEY (owner, experiment) REFERENCES experiment,
    CONSTRAINT running_has_a_lease CHECK ((state = 'running') = (lease_expires_at IS NOT NULL)),
    CONSTRAINT running_was_claimed CHECK (state <> 'running' OR (fence > 0 AND worker IS NOT NULL)),
    CONSTRAINT finished_has_a_time CHECK ((state IN ('queued', 'running')) = (finished_at IS NULL)),
    CONSTRAINT failed_has_an_error CHECK (state <> 'failed' OR (error_code IS NOT NULL AND error_message IS NOT NULL)),
    CONSTRAINT success_was_not_cancelled CHECK (state <> 'succeeded' OR NOT cancel_requested),
    CONSTRAINT cancel_is_not_queued CHECK (state <> 'queued' OR NOT cancel_requested),
    CONSTRAINT unfinished_has_its_inputs
        CHECK (state NOT IN ('queued', 'running') OR (model_id IS NOT NULL AND dataset_id IS NOT NULL)),
    CONSTRAINT checkpoint_is_whole CHECK ((checkpoint_sha256 IS NULL) = (checkpoint_step IS NULL))
) WITH (fillfactor = 70);

-- lease_expires_at is in no index: heartbeats stay HOT updates.
CREATE INDEX job_queued ON job (priority DESC, run_at, id) WHERE state = 'queued';
CREATE INDEX job_running ON job (id) WHERE state = 'running';
CREATE INDEX job_experiment ON job (experiment, id DESC);
CREATE INDEX job_model ON job (model_id);
CREATE INDEX job_dataset ON job (dataset_id);
CREATE INDEX job_checkpoint ON job (checkpoint_sha256) WHERE checkpoint_sha256 IS NOT NULL;

-- Every insert happens under the lock of its job's row, so that within a job ids rise in the order of commits.
CREATE TABLE job_event (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id      uuid NOT NULL REFERENCES job ON DELETE CASCADE,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind        text NOT NULL CHECK (kind IN ('state', 'progress', 'metrics', 'log')),
    fence       bigint NOT NULL,
    from_state  text,
    to_state    text,
    who         text NOT NULL,
    detail      jsonb NOT NULL DEFAULT '{}',
    CHECK ((kind = 'state') = (to_state IS NOT NULL))
);
CREATE INDEX job_event_job ON job_event (job_id, id);

CREATE TABLE metric (
    job_id      uuid NOT NULL REFERENCES job ON DELETE CASCADE,
    name        text NOT NULL CHECK (name <> ''),
    step        bigint NOT NULL CHECK (step >= 0),
    value       double precision NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, name, step)
);

CREATE TABLE tag (
    job_id      uuid NOT NULL REFERENCES job ON DELETE CASCADE,
    key         text NOT NULL CHECK (key <> ''),
    value       text NOT NULL,
    PRIMARY KEY (job_id, key)
);

CREATE TABLE artifact (
    id          uuid PRIMARY KEY,
    job_id      uuid NOT NULL UNIQUE REFERENCES job,
    -- Of the claim that made it.
    fence       bigint NOT NULL,
    sha256      bytea NOT NULL REFERENCES blob,
    size_bytes  bigint NOT NULL CHECK (size_bytes >= 0),
    summary     jsonb NOT NULL,
    -- Why it must not be loaded any more.
    set_aside   text,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX artifact_blob ON artifact (sha256);

CREATE TABLE model_version (
    name        text NOT NULL REFERENCES served_model,
    version     bigint NOT NULL CHECK (version >= 1),
    artifact_id uuid NOT NULL UNIQUE REFERENCES artifact,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, version)
);
