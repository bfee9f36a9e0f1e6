DROP INDEX jobs_runner;
