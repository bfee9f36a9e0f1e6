//! Our own tests, in one binary: sentences about behaviour, against real Postgres, a real OpenID provider
//! and the `dev` GitHub.

mod bodies;
mod cli;
mod configuration;
mod database;
mod dev_command;
mod dev_github;
mod github;
mod health;
mod http;
mod layers;
mod metrics;
mod openapi;
mod policy;
mod postgres;
mod provision;
mod start;
mod support;
mod tls;
mod tokens;
mod verifier;
