//! A token broker for GitHub self-hosted runners. The modules in reading order; each may use only those
//! below it (`tests/it/project/layers.rs` holds the arrows).

pub mod cli;

pub mod background;
pub mod http;

pub mod broker;

pub mod alerts;
pub mod auth;
pub mod github;
pub mod store;

pub mod policy;
pub mod seal;

pub mod certificate;
pub mod client;
pub mod telemetry;

pub mod config;

pub mod clock;
pub mod model;
pub mod single_flight;
pub mod visible;

#[cfg(feature = "dev")]
pub mod dev;
