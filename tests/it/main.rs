//! Our own tests, in one binary: sentences about behaviour, against real Postgres, a real OpenID provider
//! and the `dev` GitHub.

mod policy;
mod verifier;
mod dev_github;
mod database;
mod postgres;
mod postgres_binaries;
