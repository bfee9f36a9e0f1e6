-- The policy: what `policy apply` compiled, one row a team and one a matching rule.
CREATE TABLE teams (
    name                text PRIMARY KEY,
    description         text        NOT NULL DEFAULT '',
    required_labels     text[]      NOT NULL DEFAULT '{}',
    allowed_labels      text[]      NOT NULL DEFAULT '{}',
    methods             text[]      NOT NULL,
    targets             text[],
    runner_groups       jsonb,
    max_runners         bigint CHECK (max_runners >= 0),
    requests_per_minute bigint CHECK (requests_per_minute >= 0),
    active              boolean     NOT NULL DEFAULT true,
    position            integer     NOT NULL,
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL
);
CREATE UNIQUE INDEX teams_name_without_case ON teams (lower(name));

CREATE TABLE team_members (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    team     text    NOT NULL REFERENCES teams (name),
    position integer NOT NULL,
    issuer   text    NOT NULL,
    claims   jsonb   NOT NULL
);
CREATE INDEX team_members_team ON team_members (team);

CREATE TABLE role_members (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    role     text    NOT NULL CHECK (role IN ('admin', 'auditor')),
    position integer NOT NULL,
    issuer   text    NOT NULL,
    claims   jsonb   NOT NULL
);

-- Every document that was ever applied: the newest id is the policy's revision, and an old replica's
-- file is recognised by its hash.
CREATE TABLE policy_versions (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sha256     text        NOT NULL,
    source     text        NOT NULL,
    applied_at timestamptz NOT NULL
);
CREATE INDEX policy_versions_sha256 ON policy_versions (sha256);

-- Provisions of the last minute, kept only for teams with requests_per_minute.
CREATE TABLE team_requests (
    team text        NOT NULL REFERENCES teams (name),
    at   timestamptz NOT NULL
);
CREATE INDEX team_requests_team_at ON team_requests (team, at);

CREATE TABLE runners (
    id               uuid PRIMARY KEY,
    name             text        NOT NULL,
    target           text        NOT NULL,
    team             text        NOT NULL REFERENCES teams (name),
    status           text        NOT NULL CHECK (status IN
        ('requested', 'pending', 'active', 'offline', 'deleting', 'deleted', 'failed')),
    method           text        NOT NULL CHECK (method IN ('jit', 'registration_token')),
    labels           text[]      NOT NULL,
    ephemeral        boolean     NOT NULL,
    busy             boolean     NOT NULL DEFAULT false,
    runner_group_id  bigint      NOT NULL,
    github_runner_id bigint,
    -- Grows by one with each repeat of an idempotency key; a late answer for an older one is dropped.
    generation       integer     NOT NULL DEFAULT 1,
    issuer           text        NOT NULL,
    subject          text        NOT NULL,
    provisioned_by   text        NOT NULL,
    credential_sha256 text,
    -- What `deleting` goes back to when GitHub says busy and nobody wanted to wait.
    deleting_from    text CHECK (deleting_from IN ('pending', 'active', 'offline')),
    delete_attempts  integer     NOT NULL DEFAULT 0,
    delete_after     timestamptz,
    -- Whether a busy runner is waited for; if not, it goes back to `deleting_from`.
    wait_until_idle  boolean     NOT NULL DEFAULT false,
    failure          text,
    -- Of a failed row: a lost request may still make its runner. False once GitHub has refused.
    may_appear       boolean     NOT NULL DEFAULT true,
    missed_sweeps    integer     NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    -- When the current generation was asked for: what the repair of an interrupted provision goes by.
    requested_at     timestamptz NOT NULL,
    -- JIT: the start deadline. Registration: the end of the token.
    expires_at       timestamptz,
    -- When the facts from GitHub in this row were true; older ones lose.
    facts_at         timestamptz,
    registered_at    timestamptz,
    last_seen_at     timestamptz,
    deleted_at       timestamptz
);
-- A live runner owns its name on its target; GitHub compares names without case.
CREATE UNIQUE INDEX runners_live_name ON runners (target, lower(name))
    WHERE status IN ('requested', 'pending', 'active', 'offline', 'deleting');
CREATE INDEX runners_live_team ON runners (team, id)
    WHERE status IN ('requested', 'pending', 'active', 'offline', 'deleting');
-- Tokens that GitHub cannot take back count in the quota until they end.
CREATE INDEX runners_token_team ON runners (team, expires_at) WHERE method = 'registration_token';
CREATE INDEX runners_team ON runners (team, id);
CREATE INDEX runners_name ON runners (lower(name), id);
CREATE INDEX runners_github_id ON runners (target, github_runner_id) WHERE github_runner_id IS NOT NULL;
CREATE INDEX runners_status ON runners (status, id);
-- Lists of the few among many.
CREATE INDEX runners_failures ON runners (team, id) WHERE status = 'failed';
CREATE INDEX runners_lasting ON runners (ephemeral, id) WHERE NOT ephemeral;
-- The names of JIT runners that failed without GitHub's refusal stay watched for an hour.
CREATE INDEX runners_failed ON runners (updated_at) WHERE status = 'failed' AND may_appear;

-- What the last sweep saw of each target, a row a page, with its ETag.
CREATE TABLE github_runners_cache (
    target     text        NOT NULL,
    page       integer     NOT NULL,
    etag       text,
    has_next   boolean     NOT NULL,
    runners    jsonb       NOT NULL,
    fetched_at timestamptz NOT NULL,
    PRIMARY KEY (target, page)
);

CREATE TABLE idempotency_keys (
    issuer      text        NOT NULL,
    subject     text        NOT NULL,
    key         text        NOT NULL,
    fingerprint text        NOT NULL,
    runner_id   uuid        NOT NULL REFERENCES runners (id),
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (issuer, subject, key)
);
CREATE INDEX idempotency_keys_runner ON idempotency_keys (runner_id);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);

CREATE TABLE leases (
    name       text PRIMARY KEY,
    holder     uuid        NOT NULL,
    epoch      bigint      NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE audit_log (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid           xid8        NOT NULL DEFAULT pg_current_xact_id(),
    "timestamp"   timestamptz NOT NULL,
    event_type    text        NOT NULL,
    severity      text        NOT NULL CHECK (severity IN ('info', 'warning', 'high')),
    success       boolean     NOT NULL,
    user_identity text        NOT NULL,
    issuer        text,
    subject       text,
    team          text,
    runner_id     uuid,
    runner_name   text,
    target        text,
    request_id    text,
    request_ip    text,
    user_agent    text,
    policy_rule   text,
    event_data    jsonb       NOT NULL DEFAULT '{}',
    error_code    text,
    error_message text
);
CREATE INDEX audit_log_runner ON audit_log (runner_id, id);
CREATE INDEX audit_log_team ON audit_log (team, id);
CREATE INDEX audit_log_subject ON audit_log (subject, id);
CREATE INDEX audit_log_event_type ON audit_log (event_type, id);
CREATE INDEX audit_log_timestamp ON audit_log ("timestamp", id);
CREATE INDEX audit_log_user ON audit_log (user_identity, id);
CREATE INDEX audit_log_name ON audit_log (lower(runner_name), id) WHERE runner_name IS NOT NULL;
CREATE INDEX audit_log_failures ON audit_log (success, id) WHERE NOT success;

CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_log is append-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_log_keeps_rows BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION audit_log_is_append_only();
CREATE TRIGGER audit_log_keeps_all BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();
