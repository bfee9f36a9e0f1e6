//! Our own tests, in one binary: sentences about behaviour, against real Postgres, a real OpenID provider
//! and the `dev` GitHub.

mod bodies;
mod cli;
mod configuration;
mod database;
mod database_away;
mod dev_command;
mod dev_github;
mod github;
mod health;
mod http;
mod idempotency;
mod layers;
mod lost;
mod metrics;
mod openapi;
mod policy;
mod policy_applied;
mod postgres;
mod provision;
mod provision_refused;
mod races;
mod readme;
mod schema;
mod support;
mod sweep;
mod sweep_deadlines;
mod sweep_repair;
mod tls;
mod tokens;
mod verifier;
