//! Pages about people: signing in, identities, administrators and auditors, deny rules.

pub(super) mod denials;
pub(super) mod identities;
pub(super) mod roles;
pub(super) mod sign_in;
