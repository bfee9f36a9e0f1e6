//! What the audit log says: the kinds of events, who causes them, and how they are written. Every room writes events;
//! this one uses none of them.

mod event;
mod kind;
mod record;
mod security_type;

pub(super) use event::{About, event_at};
pub use event::{Actor, Batch, Origin};
pub use kind::{Kind, classify};
pub(super) use record::{record, record_all};
pub use security_type::{Severity, Type};
