//! The GitHub of `dev` is held against GitHub's own description, and each of its ways to fail is tried.

mod access;
mod client;
mod faults;
mod limits;
mod runners;
mod schema;
