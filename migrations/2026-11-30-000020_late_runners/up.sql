-- A lost request may make a runner after its row got another one, and even after that one has ended: `may_appear` of
-- rows that were `deleted` says so. The names of these stay watched, as those of failed rows do.
CREATE INDEX runners_late ON runners (updated_at) WHERE status = 'deleted' AND may_appear;
