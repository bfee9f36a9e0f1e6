-- A job for each fifth runner, and :identities callers.
INSERT INTO jobs (id, run_id, repository, owner, workflow, name, labels, state, state_at, conclusion, runner_id,
    runner_name, team, queued_at, started_at, completed_at, queued_seen_at, changed_at, created_at)
SELECT 20000000000 + i, 10000000000 + i / 3, 'octo-org/repo-' || i % 500, 'octo-org', 'CI', 'build ' || i % 7,
    labels, s.state, at, CASE s.state WHEN 'completed' THEN 'success' END, CASE s.state WHEN 'queued' THEN NULL ELSE i END,
    CASE s.state WHEN 'queued' THEN NULL ELSE name END, CASE s.state WHEN 'queued' THEN NULL ELSE team END, at,
    CASE s.state WHEN 'queued' THEN NULL ELSE at END, CASE s.state WHEN 'completed' THEN at + interval '9 minutes' END,
    -- None is reported as unmatched, nor forgotten.
    now() + interval '1 day', now(), at
FROM bench_runners
CROSS JOIN LATERAL (SELECT CASE WHEN i <= :runners - :live THEN 'completed' WHEN i % 10 = 0 THEN 'queued'
    ELSE 'in_progress' END AS state) AS s
WHERE i % 5 = 0;

INSERT INTO identities (id, sha256, issuer, subject, display_name, active, first_seen_at, last_seen_at)
SELECT (lpad(to_hex((extract(epoch FROM :start) * 1000)::bigint + i), 12, '0') || '7' || substr(md5(i::text), 1, 3)
        || '8' || substr(md5(i::text), 4, 15))::uuid,
    md5(i::text) || md5(i::text), 'https://token.actions.githubusercontent.com',
    'repo:octo-org/repo-' || i || ':ref:refs/heads/main', 'person-' || i || '@example.com', i % 50 <> 0, :start, now()
FROM generate_series(1, :identities) AS i;

DROP TABLE bench_runners;
