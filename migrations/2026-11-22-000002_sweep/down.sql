DROP TABLE unmanaged_runners;
DROP TABLE sync_targets;
DROP INDEX runners_token_target;
ALTER TABLE runners DROP COLUMN drifted_labels;
