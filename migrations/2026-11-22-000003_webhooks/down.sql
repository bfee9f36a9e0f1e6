DROP TABLE installations;
DROP TABLE job_violations;
DROP TABLE jobs;
DROP TABLE webhook_listings;
DROP TABLE webhook_redeliveries;
DROP TABLE webhook_deliveries;
