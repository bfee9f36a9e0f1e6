//! The commands and the configuration, as the built binary.

pub mod commands;
pub mod configuration;
pub mod policy;
pub mod request;
pub mod start;
