//! Security events: reading them, posting them to a webhook, and watching for bursts of provisions. Which events of the
//! log these are is decided in [`super::events`].

mod alerts;
mod bursts;
mod list;

pub use super::events::{Severity, Type, classify};
pub use list::{SecurityEvent, SecurityPage, Wanted};
