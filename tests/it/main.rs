//! Our own tests, in one binary: sentences about behaviour, against real Postgres, a real OpenID provider
//! and the `dev` GitHub.

mod database;
mod database_away;
mod dev_github;
mod github;
mod idempotency;
mod lost;
mod policy;
mod policy_applied;
mod postgres;
mod provision;
mod provision_refused;
mod races;
mod support;
mod verifier;
