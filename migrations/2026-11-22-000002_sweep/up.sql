-- The labels that GitHub showed instead of those asked for, once they have been reported.
ALTER TABLE runners ADD COLUMN drifted_labels text[];
-- Whose registration token an unknown runner may have used.
CREATE INDEX runners_token_target ON runners (target, expires_at) WHERE method = 'registration_token';

-- How many runners GitHub said there are in all, with each page.
ALTER TABLE github_runners_cache ADD COLUMN total bigint;

-- Every target that is swept, and what became of its last sweep.
CREATE TABLE sync_targets (
    target       text PRIMARY KEY,
    created_at   timestamptz NOT NULL,
    -- From when on somebody wants it swept out of turn; taken when a sweep begins.
    wanted_at    timestamptz,
    started_at   timestamptz,
    finished_at  timestamptz,
    -- When the last sweep that read the whole list ended.
    completed_at timestamptz,
    result       text CHECK (result IN ('complete', 'incomplete', 'postponed')),
    error        text,
    runners_seen bigint
);
CREATE INDEX sync_targets_wanted ON sync_targets (wanted_at) WHERE wanted_at IS NOT NULL;

-- Runners on GitHub that nobody asked for, each reported once; forgotten when they are gone.
CREATE TABLE unmanaged_runners (
    target           text        NOT NULL,
    github_runner_id bigint      NOT NULL,
    name             text        NOT NULL,
    first_seen_at    timestamptz NOT NULL,
    missed_sweeps    integer     NOT NULL DEFAULT 0,
    -- Set with the event that says so, before GitHub is asked.
    removing_at      timestamptz,
    PRIMARY KEY (target, github_runner_id)
);
