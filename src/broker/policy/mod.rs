//! The policy as it is stored and changed: by a file, by the admin API, by the console. The decision itself is
//! `crate::policy`.

pub mod apply;
pub(super) mod edit;
pub mod if_match;
pub(super) mod preview;
pub mod roles;
pub mod teams;
