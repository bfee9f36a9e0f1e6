//! Our own tests, in one binary: sentences about behaviour, against real Postgres, a real OpenID provider
//! and the `dev` GitHub.

mod audit;
mod auth;
mod browser;
mod checks;
mod cli;
mod console;
mod database;
mod dev;
mod github;
mod http;
mod jobs;
mod markdown;
mod model;
mod numbers;
mod people;
mod policy;
mod project;
mod provision;
mod runners;
mod security;
mod store;
mod support;
mod sweep;
mod webhook;
