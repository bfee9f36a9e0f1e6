-- What the model knows better than the broker: every change of a row's state, every use of a key, and who led.
CREATE TABLE model_moves (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid        xid8    NOT NULL DEFAULT pg_current_xact_id(),
    runner_id  uuid    NOT NULL,
    was        text,
    became     text    NOT NULL,
    generation integer NOT NULL
);
CREATE FUNCTION model_note_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO model_moves (runner_id, became, generation) VALUES (NEW.id, NEW.status, NEW.generation);
    ELSIF OLD.status <> NEW.status THEN
        INSERT INTO model_moves (runner_id, was, became, generation)
        VALUES (NEW.id, OLD.status, NEW.status, NEW.generation);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER model_note_move AFTER INSERT OR UPDATE ON runners
    FOR EACH ROW EXECUTE FUNCTION model_note_move();

CREATE TABLE model_keys (key text NOT NULL, runner_id uuid NOT NULL);
CREATE FUNCTION model_note_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO model_keys VALUES (NEW.subject || '/' || NEW.key, NEW.runner_id);
    RETURN NULL;
END $$;
CREATE TRIGGER model_note_key AFTER INSERT OR UPDATE ON idempotency_keys
    FOR EACH ROW EXECUTE FUNCTION model_note_key();

-- What only the leader writes, written by somebody else.
CREATE TABLE model_breaches (what text NOT NULL);
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
