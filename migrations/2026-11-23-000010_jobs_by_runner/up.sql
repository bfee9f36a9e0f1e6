-- Which jobs a runner took: its own page shows them.
CREATE INDEX jobs_runner ON jobs (runner_id, id) WHERE runner_id IS NOT NULL;
