-- What is stored: blobs, the models and datasets made of them, tokens.

CREATE TABLE blob (
    sha256      bytea PRIMARY KEY CHECK (octet_length(sha256) = 32),
    size_bytes  bigint NOT NULL CHECK (size_bytes >= 0),
    state       text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'deleting')),
    touched_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE model (
    id          uuid PRIMARY KEY,
    owner       text NOT NULL,
    name        text NOT NULL CHECK (name <> ''),
    -- Over the names and hashes of the files: what makes two pushes the same revision.
    digest      bytea NOT NULL CHECK (octet_length(digest) = 32),
    main_file   text NOT NULL,
    info        jsonb NOT NULL,
    tags        jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (owner, name, digest)
);
CREATE INDEX model_name ON model (name, id DESC);

CREATE TABLE model_file (
    model_id    uuid NOT NULL REFERENCES model ON DELETE CASCADE,
    position    integer NOT NULL CHECK (position >= 0),
    name        text NOT NULL CHECK (name <> ''),
    sha256      bytea NOT NULL REFERENCES blob,
    size_bytes  bigint NOT NULL CHECK (size_bytes >= 0),
    PRIMARY KEY (model_id, position),
    UNIQUE (model_id, name)
);
CREATE INDEX model_file_blob ON model_file (sha256);

CREATE TABLE dataset (
    id          uuid PRIMARY KEY,
    owner       text NOT NULL,
    name        text NOT NULL CHECK (name <> ''),
    -- Over the file's hash and what was said of it: what makes two pushes the same revision.
    digest      bytea NOT NULL CHECK (octet_length(digest) = 32),
    format      text NOT NULL,
    splits      jsonb NOT NULL,
    labels      text[] NOT NULL,
    file_name   text NOT NULL,
    sha256      bytea NOT NULL REFERENCES blob,
    size_bytes  bigint NOT NULL CHECK (size_bytes >= 0),
    tags        jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (owner, name, digest)
);
CREATE INDEX dataset_name ON dataset (name, id DESC);
CREATE INDEX dataset_blob ON dataset (sha256);

CREATE TABLE token (
    id          uuid PRIMARY KEY,
    name        text NOT NULL CHECK (name <> ''),
    role        text NOT NULL CHECK (role IN ('admin', 'submit', 'infer')),
    sha256      bytea NOT NULL UNIQUE CHECK (octet_length(sha256) = 32),
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz
);
