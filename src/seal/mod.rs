//! The sealed audit log without any database: what an event's bytes are, the Merkle tree over them (RFC 6962),
//! the checkpoints (C2SP tlog-checkpoint and signed-note), and how they are checked. `docs/AUDIT.md` specifies
//! all of it for people who write their own verifier. The only user of tlog_tiles and signed_note.

#![warn(missing_docs)]

pub mod check;
pub mod export;
pub mod key;
pub mod note;
pub mod offline;
pub mod record;
pub mod report;
pub mod tree;

pub use tlog_tiles::Hash;

/// The log's name, the first line of its checkpoints and the name of its key. The same for all replicas and
/// addresses; two logs differ by their keys.
pub const ORIGIN: &str = "runner-broker/audit-log";

/// How far an event's time may lie before the time at which it can have been written at the earliest. Replicas'
/// clocks differ by seconds: with more, no caller's token would be accepted.
pub const SLACK: chrono::TimeDelta = chrono::TimeDelta::minutes(10);

/// The event that the sealer writes when it meets rows that nobody can have added in an honest way.
pub const TAMPERED: &str = "audit_log_tampered";
