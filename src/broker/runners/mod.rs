//! Runners that exist: listing, refreshing and removing them, and the one place where a row changes its state.

pub mod batch;
mod deactivate_many;
pub(super) mod facts;
pub mod list;
pub(super) mod refresh;
pub mod remove;
pub(super) mod remove_token;
pub(super) mod transition;
