//! The calls for admins and auditors: what concerns everybody.

pub mod identities;
pub mod security;
pub mod sync;
