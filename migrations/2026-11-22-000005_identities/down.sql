DROP INDEX audit_log_requested;
DROP INDEX audit_log_security_team;
DROP INDEX audit_log_security;
DROP FUNCTION audit_security_type(text, text);
DROP TABLE alert_posts;
DROP TABLE alerts;
DROP TABLE identities;
