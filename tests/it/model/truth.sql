-- What the model knows better than the broker: every change of a row's state, every use of a key.
CREATE TABLE model_breaches (what text NOT NULL);
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
    IF TG_OP = 'UPDATE' AND NEW.facts_at < OLD.facts_at
        AND OLD.status IN ('pending', 'active', 'offline') AND NEW.status IN ('pending', 'active', 'offline') THEN
        INSERT INTO model_breaches VALUES (NEW.name || ' took over facts that were older than what it knew');
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

-- A job's life has one direction, whatever is delivered when.
CREATE FUNCTION model_job_goes_on() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    life text[] := ARRAY['waiting', 'queued', 'in_progress', 'completed'];
BEGIN
    IF array_position(life, NEW.state) < array_position(life, OLD.state) THEN
        INSERT INTO model_breaches VALUES ('job ' || NEW.id || ' went from ' || OLD.state || ' to ' || NEW.state);
    END IF;
    IF NEW.runner_id IS NULL AND OLD.runner_id IS NOT NULL OR NEW.started_at IS NULL AND OLD.started_at IS NOT NULL THEN
        INSERT INTO model_breaches VALUES ('job ' || NEW.id || ' forgot its runner or its beginning');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER model_job_goes_on AFTER UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION model_job_goes_on();
