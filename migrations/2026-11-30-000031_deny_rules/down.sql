DROP INDEX audit_log_security;
DROP INDEX audit_log_security_team;
CREATE OR REPLACE FUNCTION audit_security_type(event_type text, error_code text) RETURNS text
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
DROP TABLE deny_rules;
