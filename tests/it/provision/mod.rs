//! A provision: granted, refused, raced, repeated, and with its answer lost.

pub mod granted;
pub mod idempotency;
pub mod lost_answer;
pub mod races;
pub mod refused;
