//! Who is calling: callers, identities, console sessions, and the limits on those who are refused.

pub mod caller;
pub(in crate::broker) mod github_calls;
pub mod identities;
pub mod own_teams;
pub mod refusals;
pub(super) mod scopes;
pub mod sessions;
pub mod sign_in_limit;
