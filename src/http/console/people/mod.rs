//! Pages about people: signing in, identities, administrators and auditors.

pub(super) mod identities;
pub(super) mod roles;
pub(super) mod sign_in;
