//! What the broker needs from the world, to try everything on; our tests use the same. Stands outside the
//! layers: only `main` and tests use it.

pub mod command;
pub mod config;
pub mod github;
pub mod issuer;
pub mod postgres;
