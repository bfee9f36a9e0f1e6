//! Runners that exist: listing, refreshing and removing them, and the one place where a row changes its state.

pub mod batch;
pub(super) mod facts;
pub mod list;
pub(super) mod refresh;
pub mod remove;
pub(super) mod remove_own;
pub(super) mod remove_token;
pub(super) mod transition;
