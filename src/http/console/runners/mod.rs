//! Pages about runners: the list, one runner, a new one, removal.

pub(super) mod list;
pub(super) mod new_runner;
pub(super) mod new_runner_form;
pub(super) mod page;
pub(super) mod recipes;
pub(super) mod removal;
pub(super) mod timeline;
