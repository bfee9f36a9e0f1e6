DROP TABLE audit_seal;
DROP TABLE audit_checkpoints;
DROP TABLE audit_nodes;
DROP TABLE audit_tree;
DROP FUNCTION audit_seal_only_rises();
DROP FUNCTION audit_table_is_append_only();
