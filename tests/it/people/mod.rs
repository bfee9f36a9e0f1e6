//! Callers: known, deactivated, signed in.

pub mod deactivated;
pub mod identities;
pub mod sign_in;
