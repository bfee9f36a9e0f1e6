-- How often somebody at an address began to sign in, and came back from a provider, within some minutes.
CREATE TABLE sign_in_attempts (
    -- An IPv4 address, or the first half of an IPv6 one.
    network  text        NOT NULL,
    step     text        NOT NULL CHECK (step IN ('begin', 'finish')),
    count    integer     NOT NULL CHECK (count >= 0),
    began_at timestamptz NOT NULL,
    PRIMARY KEY (network, step)
);
CREATE INDEX sign_in_attempts_began ON sign_in_attempts (began_at);
