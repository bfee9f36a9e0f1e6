//! The audit log as pages: the list, one event with its proof, the export.

pub(super) mod event;
pub(super) mod export;
pub(super) mod list;
