DROP INDEX audit_log_outcomes;
DROP INDEX runners_live_team;
CREATE INDEX runners_live_team ON runners (team)
    WHERE status IN ('requested', 'pending', 'active', 'offline', 'deleting');
