//! The development servers: a Postgres, a GitHub and an OpenID provider.

pub mod command;
pub mod github;
pub mod postgres;
pub mod postgres_binaries;
