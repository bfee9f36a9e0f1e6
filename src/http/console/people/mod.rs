//! Pages about people: signing in, identities, administrators and auditors, and callers without a team.

pub(super) mod identities;
pub(super) mod no_team;
pub(super) mod roles;
pub(super) mod sign_in;
