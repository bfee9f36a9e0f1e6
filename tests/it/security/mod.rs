//! Security events and how somebody is told.

pub mod alerts;
pub mod bursts;
pub mod events;
