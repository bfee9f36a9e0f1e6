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
    FOR EACH ROW WHEN (NEW.user_identity IN ('system:sync', 'system:seal')) EXECUTE FUNCTION model_only_the_leader();
CREATE TRIGGER model_only_the_leader AFTER INSERT OR UPDATE OR DELETE ON github_runners_cache
    FOR EACH STATEMENT EXECUTE FUNCTION model_only_the_leader();
CREATE TRIGGER model_only_the_leader AFTER INSERT OR UPDATE OR DELETE ON unmanaged_runners
    FOR EACH STATEMENT EXECUTE FUNCTION model_only_the_leader();
CREATE TRIGGER model_only_the_leader AFTER INSERT ON audit_tree
    FOR EACH STATEMENT EXECUTE FUNCTION model_only_the_leader();
CREATE TRIGGER model_only_the_leader AFTER INSERT ON audit_nodes
    FOR EACH STATEMENT EXECUTE FUNCTION model_only_the_leader();
CREATE TRIGGER model_only_the_leader AFTER INSERT ON audit_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION model_only_the_leader();
CREATE TRIGGER model_only_the_leader AFTER INSERT OR UPDATE OR DELETE ON audit_seal
    FOR EACH STATEMENT EXECUTE FUNCTION model_only_the_leader();
-- Wishes are anybody's.
CREATE TRIGGER model_only_the_leader AFTER UPDATE OF started_at, finished_at, completed_at, result, runners_seen ON sync_targets
    FOR EACH STATEMENT EXECUTE FUNCTION model_only_the_leader();
CREATE TRIGGER model_only_the_leader_begins AFTER INSERT ON sync_targets
    FOR EACH ROW WHEN (NEW.started_at IS NOT NULL) EXECUTE FUNCTION model_only_the_leader();
