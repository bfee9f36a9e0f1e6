//! A token broker for GitHub self-hosted runners. The modules in reading order; each may use only those
//! below it (`tests/it/layers.rs` holds the arrows).

pub mod clock;
pub mod config;
#[cfg(feature = "dev")]
pub mod dev;
pub mod github;
pub mod model;
pub mod policy;
