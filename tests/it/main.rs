//! Our own tests, in one binary: sentences about behaviour, against real Postgres, a real OpenID provider
//! and the `dev` GitHub.

mod database;
mod dev_github;
mod github;
mod policy;
mod postgres;
mod provision;
mod readme;
mod schema;
mod support;
mod tokens;
mod verifier;
