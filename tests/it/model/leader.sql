-- What only the leader writes, written by somebody else, is a breach.
CREATE FUNCTION model_only_the_leader() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM leases WHERE name = 'leader' AND expires_at > clock_timestamp()
                   AND holder::text = current_setting('model.replica', true)) THEN
        INSERT INTO model_breaches VALUES (TG_TABLE_NAME || ' was written by a replica that does not lead');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER model_only_the_leader AFTER INSERT ON audit_log
    FOR EACH ROW WHEN (NEW.user_identity = 'system:sync') EXECUTE FUNCTION model_only_the_leader();
CREATE TRIGGER model_only_the_leader AFTER INSERT OR UPDATE OR DELETE ON github_runners_cache
    FOR EACH STATEMENT EXECUTE FUNCTION model_only_the_leader();
