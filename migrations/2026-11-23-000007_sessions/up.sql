-- Who is signed in to the console, and what his provider said of him then.
CREATE TABLE sessions (
    -- Of what the cookie holds: whoever reads this table cannot become anybody.
    token_sha256    text PRIMARY KEY,
    -- As in identities.
    identity_sha256 text        NOT NULL,
    provider        text        NOT NULL,
    issuer          text        NOT NULL,
    subject         text        NOT NULL,
    display_name    text        NOT NULL,
    claims          jsonb       NOT NULL,
    created_at      timestamptz NOT NULL,
    last_seen_at    timestamptz NOT NULL
);
CREATE INDEX sessions_identity ON sessions (identity_sha256);
CREATE INDEX sessions_created ON sessions (created_at);
