-- The Merkle tree over audit_log: a leaf for each event, in the order in which they were sealed. There is no
-- foreign key, so that a row that was taken away by force leaves its leaf behind.
CREATE TABLE audit_tree (
    leaf_index bigint PRIMARY KEY CHECK (leaf_index >= 0),
    event_id   bigint NOT NULL UNIQUE,
    leaf_hash  bytea  NOT NULL CHECK (octet_length(leaf_hash) = 32)
);

-- Complete subtrees of 2^8, 2^16, … leaves: a proof reads a few runs of at most 256 hashes.
CREATE TABLE audit_nodes (
    level      integer NOT NULL CHECK (level > 0 AND level % 8 = 0),
    node_index bigint  NOT NULL CHECK (node_index >= 0),
    hash       bytea   NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (level, node_index)
);

-- What was published: the note as C2SP's tlog-checkpoint has it.
CREATE TABLE audit_checkpoints (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tree_size bigint      NOT NULL CHECK (tree_size > 0),
    note      text        NOT NULL,
    signed_at timestamptz NOT NULL
);
CREATE INDEX audit_checkpoints_tree_size ON audit_checkpoints (tree_size, id);
CREATE INDEX audit_checkpoints_signed ON audit_checkpoints (id) WHERE strpos(note, E'\n\n') > 0;

CREATE FUNCTION audit_table_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_tree_keeps_rows BEFORE UPDATE OR DELETE ON audit_tree
    FOR EACH ROW EXECUTE FUNCTION audit_table_is_append_only();
CREATE TRIGGER audit_tree_keeps_all BEFORE TRUNCATE ON audit_tree
    FOR EACH STATEMENT EXECUTE FUNCTION audit_table_is_append_only();
CREATE TRIGGER audit_nodes_keeps_rows BEFORE UPDATE OR DELETE ON audit_nodes
    FOR EACH ROW EXECUTE FUNCTION audit_table_is_append_only();
CREATE TRIGGER audit_nodes_keeps_all BEFORE TRUNCATE ON audit_nodes
    FOR EACH STATEMENT EXECUTE FUNCTION audit_table_is_append_only();
CREATE TRIGGER audit_checkpoints_keeps_rows BEFORE UPDATE OR DELETE ON audit_checkpoints
    FOR EACH ROW EXECUTE FUNCTION audit_table_is_append_only();
CREATE TRIGGER audit_checkpoints_keeps_all BEFORE TRUNCATE ON audit_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION audit_table_is_append_only();

-- How far the sealer is, one row. Every event with an id up to horizon_id has its leaf, and no transaction can
-- add another; a transaction that does not know its id yet (from horizon_xid on) began after horizon_time.
-- `place` is the cluster and the database that this was true in: a restored dump is elsewhere.
CREATE TABLE audit_seal (
    single       boolean PRIMARY KEY DEFAULT true CHECK (single),
    place        text   NOT NULL,
    horizon_id   bigint NOT NULL,
    horizon_xid  bigint NOT NULL,
    horizon_time timestamptz
);

-- The horizon only rises, but in another place.
CREATE FUNCTION audit_seal_only_rises() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.place <> OLD.place
            OR (NEW.horizon_id >= OLD.horizon_id AND NEW.horizon_xid >= OLD.horizon_xid) THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'audit_seal only rises: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_seal_rises BEFORE UPDATE OR DELETE ON audit_seal
    FOR EACH ROW EXECUTE FUNCTION audit_seal_only_rises();
CREATE TRIGGER audit_seal_keeps_all BEFORE TRUNCATE ON audit_seal
    FOR EACH STATEMENT EXECUTE FUNCTION audit_seal_only_rises();
