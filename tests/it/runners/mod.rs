//! Runners that exist: read, listed, removed.

pub mod batch;
pub mod lists;
pub mod read;
pub mod remove;
