DROP TABLE unmanaged_runners;
DROP TABLE sync_targets;
ALTER TABLE github_runners_cache DROP COLUMN total;
DROP INDEX runners_token_target;
ALTER TABLE runners DROP COLUMN drifted_labels;
