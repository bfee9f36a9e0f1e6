-- What GitHub delivered and somebody has yet to work on; only what is used of it. The id is GitHub's, and it is
-- the same again when a delivery is sent again.
CREATE TABLE webhook_deliveries (
    id              text PRIMARY KEY,
    event           text        NOT NULL,
    -- Whose loop takes it: what asks GitHub must not keep the rest waiting.
    lane            text        NOT NULL CHECK (lane IN ('jobs', 'installations', 'policy')),
    content         jsonb       NOT NULL,
    received_at     timestamptz NOT NULL,
    attempts        integer     NOT NULL DEFAULT 0,
    -- Not to be touched before: after a failure, and while a replica is at it.
    next_attempt_at timestamptz NOT NULL,
    finished_at     timestamptz,
    -- Why it was set aside, or failed last.
    failure         text
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (lane, next_attempt_at) WHERE finished_at IS NULL;
CREATE INDEX webhook_deliveries_finished ON webhook_deliveries (finished_at) WHERE finished_at IS NOT NULL;

-- The failed deliveries that GitHub was asked to send again.
CREATE TABLE webhook_redeliveries (
    guid         text PRIMARY KEY,
    -- The failed attempt that was answered; a later one is a new failure. 0: the request was not made.
    delivery_id  bigint      NOT NULL,
    attempts     integer     NOT NULL,
    requested_at timestamptz NOT NULL,
    -- When it was reported that it is not asked for any more.
    given_up_at  timestamptz
);
CREATE INDEX webhook_redeliveries_requested ON webhook_redeliveries (requested_at);

-- Up to when failed deliveries have been listed and answered: one row at most.
CREATE TABLE webhook_listings (
    name         text PRIMARY KEY,
    listed_until timestamptz NOT NULL
);

-- Jobs that want a self-hosted runner; the id is GitHub's.
CREATE TABLE jobs (
    id           bigint PRIMARY KEY,
    run_id       bigint      NOT NULL,
    repository   text        NOT NULL,
    owner        text        NOT NULL,
    workflow     text,
    name         text        NOT NULL,
    labels       text[]      NOT NULL,
    state        text        NOT NULL CHECK (state IN ('waiting', 'queued', 'in_progress', 'completed')),
    -- When GitHub says that it came into its state.
    state_at     timestamptz NOT NULL,
    conclusion   text,
    -- GitHub's.
    runner_id    bigint,
    runner_name  text,
    -- Whose runner took it, if it is one of ours.
    team         text REFERENCES teams (name),
    queued_at    timestamptz,
    started_at   timestamptz,
    completed_at timestamptz,
    -- Since when it is known here as queued, by our clock: a delivery may be late.
    queued_seen_at timestamptz,
    -- When it was reported that no live runner's labels fit.
    no_match_at  timestamptz,
    -- When the last delivery about it was merged.
    changed_at   timestamptz NOT NULL,
    created_at   timestamptz NOT NULL
);
CREATE INDEX jobs_team ON jobs (team, id);
CREATE INDEX jobs_repository ON jobs (repository, id);
CREATE INDEX jobs_state ON jobs (state, id);
CREATE INDEX jobs_queued ON jobs (queued_seen_at) WHERE state = 'queued' AND no_match_at IS NULL;
CREATE INDEX jobs_no_match ON jobs (no_match_at) WHERE no_match_at IS NOT NULL;
CREATE INDEX jobs_changed ON jobs (changed_at);
CREATE INDEX jobs_unfinished ON jobs (changed_at) WHERE state <> 'completed';

-- Jobs that broke the label policy: claimed before anything is cancelled, reported once.
CREATE TABLE job_violations (
    job_id      bigint PRIMARY KEY,
    claimed_at  timestamptz NOT NULL,
    reported_at timestamptz
);

-- What is known of the App's installations by confirmed webhooks: why a target is blocked, and how often the
-- tokens for it were to be dropped. An owner stands for himself and all his repositories.
CREATE TABLE installations (
    target          text PRIMARY KEY,
    installation_id bigint,
    blocked         text,
    changed_at      timestamptz NOT NULL,
    token_epoch     bigint      NOT NULL DEFAULT 0,
    -- Of what is blocked: how often GitHub was asked again since, and when it is the next time.
    checks          integer     NOT NULL DEFAULT 0,
    next_check_at   timestamptz
);
