-- Events :from to :to of :events, ten for each runner: the eight of its life, and two of what else goes on.
INSERT INTO audit_log ("timestamp", event_type, severity, success, user_identity, issuer, subject, team, runner_id,
    runner_name, target, request_id, request_ip, user_agent, policy_rule, event_data, error_code, error_message)
SELECT :start + e * (interval '90 days' / :events), k.event_type, k.severity,
    k.event_type NOT IN ('provision_refused', 'token_refused', 'provision_failed'),
    CASE WHEN k.by_system THEN 'system:sync' ELSE r.display_name END,
    CASE WHEN NOT k.by_system THEN 'https://token.actions.githubusercontent.com' END,
    CASE WHEN NOT k.by_system THEN r.subject END,
    CASE WHEN k.event_type <> 'token_refused' THEN r.team END,
    CASE WHEN k.of_runner THEN r.id END,
    CASE WHEN k.of_runner THEN r.name WHEN k.event_type = 'provision_refused' THEN 'wished-' || r.name END,
    CASE WHEN k.event_type <> 'token_refused' THEN r.target END,
    CASE WHEN NOT k.by_system THEN md5(e::text)::uuid::text END,
    CASE WHEN NOT k.by_system THEN '10.' || e % 250 || '.' || (e / 250) % 250 || '.7' END,
    CASE WHEN NOT k.by_system THEN 'actions/http-client 2.2.3 (node 20; linux x64)' END,
    CASE WHEN NOT k.by_system THEN 'team ' || r.team || ', member ' || (e % 3 + 1) END,
    CASE k.event_type
        WHEN 'provision_requested' THEN jsonb_build_object('labels', r.labels, 'method', r.method, 'group_id', 1)
        WHEN 'provisioned' THEN jsonb_build_object('labels', r.labels, 'github_runner_id', r.i,
            'credential_sha256', md5(r.noise) || r.noise, 'expires_at', r.at + interval '1 hour')
        WHEN 'runner_state_changed' THEN '{"from": "pending", "to": "active"}'
        WHEN 'provision_refused' THEN jsonb_build_object('labels', ARRAY['mainframe'], 'method', r.method)
        ELSE '{}'
    END,
    CASE k.event_type
        WHEN 'provision_refused' THEN CASE e % 7 WHEN 0 THEN 'QUOTA_EXCEEDED' ELSE 'LABEL_POLICY_VIOLATION' END
        WHEN 'token_refused' THEN 'INVALID_TOKEN' WHEN 'provision_failed' THEN 'GITHUB_UNAVAILABLE' END,
    CASE k.event_type WHEN 'provision_refused' THEN 'Labels [''mainframe''] not permitted by policy' END
FROM generate_series(:from, :to) AS e
JOIN bench_runners AS r ON r.i = least(1 + e * :runners / :events, :runners)
CROSS JOIN LATERAL (SELECT
    CASE e % 10
        WHEN 0 THEN 'provision_requested' WHEN 1 THEN 'provisioned'
        WHEN 6 THEN 'deprovision_requested' WHEN 7 THEN 'deprovisioned'
        WHEN 8 THEN CASE WHEN e % 100 < 40 THEN 'provision_refused' ELSE 'token_refused' END
        WHEN 9 THEN CASE WHEN e = 9 THEN 'audit_log_moved' WHEN e % 1000 = 9 THEN 'provision_failed'
            WHEN e % 20000 = 19 THEN 'label_drift_detected' WHEN e % 20000 = 29 THEN 'unmanaged_runner_detected'
            WHEN e % 50000 = 39 THEN 'policy_applied' ELSE 'runner_state_changed' END
        ELSE 'runner_state_changed'
    END AS name) AS n
CROSS JOIN LATERAL (SELECT n.name AS event_type,
    CASE WHEN n.name IN ('label_drift_detected', 'unmanaged_runner_detected') THEN 'high'
        WHEN n.name IN ('provision_refused', 'token_refused', 'provision_failed', 'audit_log_moved') THEN 'warning'
        ELSE 'info' END AS severity,
    n.name NOT IN ('provision_requested', 'provisioned', 'provision_refused', 'deprovision_requested') AS by_system,
    n.name NOT IN ('provision_refused', 'token_refused', 'audit_log_moved', 'policy_applied') AS of_runner) AS k
ORDER BY e;
