-- :runners rows, one each few seconds over 90 days, of which some :live are live: four in five of these are among the
-- newest, the rest is as old as may be. Numbers are drawn by hashing, so that every run makes the same rows.
CREATE UNLOGGED TABLE bench_runners AS
WITH drawn AS (
    SELECT i, at, :start + interval '90 days' AS until,
        -- Some teams are far bigger than others.
        (50 * pow((hashint8extended(i, 1) & 65535) / 65536.0, 2))::int AS team_number,
        (hashint8extended(i, 2) & 65535) / 65536.0 AS luck,
        (hashint8extended(i, 3) & 65535) / 65536.0 AS kind,
        (hashint8extended(i, 4) & 1023)::int AS caller,
        md5(i::text) AS noise
    FROM generate_series(1, :runners) AS i
    CROSS JOIN LATERAL (SELECT :start + i * (interval '90 days' / :runners) AS at) AS t
)
SELECT i,
    (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(noise, 1, 3) || '8'
        || substr(noise, 4, 15))::uuid AS id,
    CASE
        -- A fixed name, taken anew for each job.
        WHEN luck < 0.02 AND i <= :runners - :live THEN 'builder-' || (caller % 20)
        -- A scheme that is not used any more, as a search for it finds only what is old.
        WHEN i < :runners / 3 THEN 'legacy-' || substr(noise, 1, 10)
        WHEN i = :runners / 2 THEN 'needle-in-the-haystack'
        ELSE 'ci-' || substr(noise, 1, 8) || '-' || substr(noise, 9, 6)
    END AS name,
    CASE WHEN kind < 0.4 THEN 'octo-org' ELSE 'octo-org/repo-' || (1 + caller % 19) END AS target,
    'team-' || lpad(least(team_number, 49)::text, 2, '0') AS team,
    CASE
        WHEN i > :runners - 0.8 * :live OR (luck >= 0.02 AND luck < 0.02 + 0.2 * :live / :runners) THEN
            CASE WHEN kind < 0.6 THEN 'active' WHEN kind < 0.7 THEN 'offline' WHEN kind < 0.97 THEN 'pending'
                ELSE 'deleting' END
        WHEN luck > 0.985 THEN 'failed'
        ELSE 'deleted'
    END AS status,
    CASE WHEN kind > 0.9 THEN 'registration_token' ELSE 'jit' END AS method,
    array_remove(ARRAY['self-hosted', 'linux', 'x64',
        CASE WHEN caller % 20 = 0 THEN 'gpu' WHEN caller % 3 = 0 THEN 'docker' ELSE 'large' END,
        CASE WHEN i < :runners / 3 THEN 'debian-11' ELSE 'debian-12' END,
        CASE WHEN i % (:runners / 10) = 7 THEN 'rare' END], NULL) AS labels,
    luck < 0.99 AS ephemeral,
    at, noise, kind,
    'repo:octo-org/repo-' || caller || ':ref:refs/heads/main' AS subject,
    CASE WHEN kind < 0.3 THEN 'person-' || caller || '@example.com'
        ELSE 'repo:octo-org/repo-' || caller || ':ref:refs/heads/main' END AS display_name
FROM drawn;

INSERT INTO runners (id, name, target, team, status, method, labels, ephemeral, busy, runner_group_id,
    github_runner_id, issuer, subject, provisioned_by, credential_sha256, delete_after, may_appear, created_at,
    updated_at, requested_at, expires_at, facts_at, registered_at, last_seen_at, deleted_at)
SELECT id, name, target, team, status, method, labels, ephemeral, status = 'active' AND kind < 0.3, 1,
    CASE WHEN status <> 'failed' THEN i END, 'https://token.actions.githubusercontent.com', subject, display_name,
    md5(noise) || noise, CASE WHEN status = 'deleting' THEN now() + interval '1 day' END, false, at,
    at + interval '20 minutes', at, CASE status WHEN 'pending' THEN now() + interval '1 day' ELSE at END,
    at, at, at + interval '10 minutes',
    CASE WHEN status IN ('deleted', 'failed') THEN at + interval '20 minutes' END
FROM bench_runners;

CREATE UNIQUE INDEX ON bench_runners (i);
ANALYZE bench_runners;
