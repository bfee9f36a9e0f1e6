//! Security events and how somebody is told.

pub mod alerts;
mod bounds;
pub mod bursts;
pub mod events;
