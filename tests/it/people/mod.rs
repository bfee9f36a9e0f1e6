//! Callers: known, deactivated, signed in.

pub mod deactivated;
mod denied;
pub mod identities;
pub mod sign_in;
