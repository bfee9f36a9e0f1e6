//! Our own tests, in one binary: sentences about behaviour, against real Postgres, a real OpenID provider
//! and the `dev` GitHub.

mod audit;
mod database;
mod dev_github;
mod export;
mod github;
mod lease;
mod policy;
mod postgres;
mod provision;
mod read;
mod remove;
mod schema;
mod support;
mod sweep;
mod sweep_deadlines;
mod sweep_repair;
mod verifier;
