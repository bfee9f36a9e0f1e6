-- How many runners are in which state, in all and of each team, without a look at the rows.
DROP INDEX runners_live_team;
CREATE INDEX runners_live_team ON runners (team, status)
    WHERE status IN ('requested', 'pending', 'active', 'offline', 'deleting');

-- How provisions ended, by time: counted from the index alone.
CREATE INDEX audit_log_outcomes ON audit_log ("timestamp", event_type, team)
    WHERE event_type IN ('provisioned', 'provision_refused', 'provision_failed');
