-- How provisions ended, by time: counted from the index alone.
CREATE INDEX audit_log_outcomes ON audit_log ("timestamp", event_type, team)
    WHERE event_type IN ('provisioned', 'provision_refused', 'provision_failed');
