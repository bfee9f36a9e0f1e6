//! The policy as it is stored and changed: by a file, by the admin API, by the console. The decision itself is
//! `crate::policy`.

pub mod apply;
pub mod denials;
mod difference;
pub(super) mod edit;
pub mod if_match;
pub(super) mod preview;
pub mod refresh;
pub mod roles;
mod tables;
pub mod teams;
mod warnings;
