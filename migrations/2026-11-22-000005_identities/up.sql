-- Everybody with a team or a role who was ever let in, and whether he still is.
CREATE TABLE identities (
    id             uuid PRIMARY KEY,
    -- Of issuer, NUL, subject. The texts themselves may be longer than a row of an index.
    sha256         text        NOT NULL UNIQUE,
    issuer         text        NOT NULL,
    subject        text        NOT NULL,
    display_name   text        NOT NULL,
    active         boolean     NOT NULL DEFAULT true,
    first_seen_at  timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL,
    deactivated_at timestamptz,
    -- Why he was deactivated, or activated again.
    comment        text
);
-- What every replica reads every two seconds.
CREATE INDEX identities_inactive ON identities (active, id) WHERE NOT active;

-- Security events that nobody was told of yet. What is posted is read from the log itself.
CREATE TABLE alerts (
    event_id     bigint PRIMARY KEY,
    -- Of the same kind and by the same one (a SHA-256) are alike: one post tells of all of them.
    kind         text    NOT NULL,
    who          text    NOT NULL,
    urgency      integer NOT NULL,
    action_taken text
);

-- Posts that tell of them. Once a post is out its row stays for a minute, in which the next one that is alike
-- waits.
CREATE TABLE alert_posts (
    id             uuid PRIMARY KEY,
    kind           text        NOT NULL,
    who            text        NOT NULL,
    urgency        integer     NOT NULL,
    -- How many events there are, and the ids of the first and the last.
    events         bigint      NOT NULL CHECK (events > 0),
    first_event_id bigint      NOT NULL,
    last_event_id  bigint      NOT NULL,
    action_taken   text,
    attempts       integer     NOT NULL DEFAULT 0,
    -- Nobody posts it before; while one replica is at it, that is when another may try. NULL: it is out.
    due_at         timestamptz,
    created_at     timestamptz NOT NULL
);
CREATE INDEX alert_posts_due ON alert_posts (urgency DESC, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX alert_posts_alike ON alert_posts (kind, who, created_at);

-- What kind of security event an event of the log is; NULL: none. The same as `broker::security::classify`,
-- which a test holds it to. A new kind needs a new function and new indexes.
CREATE FUNCTION audit_security_type(event_type text, error_code text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN event_type = 'provision_refused' THEN CASE error_code
            WHEN 'LABEL_POLICY_VIOLATION' THEN 'label_policy_violation'
            WHEN 'QUOTA_EXCEEDED' THEN 'quota_exceeded'
            WHEN 'METHOD_NOT_ALLOWED_BY_POLICY' THEN 'policy_violation'
            WHEN 'TARGET_NOT_ALLOWED' THEN 'policy_violation'
            WHEN 'RUNNER_GROUP_NOT_ALLOWED' THEN 'policy_violation'
            WHEN 'IDENTITY_DEACTIVATED' THEN 'identity_refused'
        END
        WHEN event_type IN ('label_drift_detected', 'unmanaged_runner_detected',
            'label_policy_violation_workflow', 'invalid_token_burst', 'provision_burst',
            'webhook_signature_invalid', 'audit_log_tampered', 'audit_log_moved', 'access_refused', 'identity_refused',
            'identity_deactivated', 'identity_activated') THEN event_type
    END
$$;
CREATE INDEX audit_log_security ON audit_log (audit_security_type(event_type, error_code), "timestamp", id)
    WHERE audit_security_type(event_type, error_code) IS NOT NULL;
CREATE INDEX audit_log_security_team
    ON audit_log (audit_security_type(event_type, error_code), team, "timestamp", id)
    WHERE audit_security_type(event_type, error_code) IS NOT NULL;

-- What a team has asked for lately, and what is usual for it.
CREATE INDEX audit_log_requested ON audit_log (team, "timestamp") WHERE event_type = 'provision_requested';
