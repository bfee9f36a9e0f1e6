-- Run once, as the owner, when the database is made. What the role may do, `migrate` says each time it runs.
\getenv password BROKER_PASSWORD
CREATE ROLE broker LOGIN PASSWORD :'password';
