DROP INDEX audit_log_outcomes;
