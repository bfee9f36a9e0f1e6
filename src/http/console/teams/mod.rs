//! Pages about teams: the list, one team, the form that changes it.

pub(super) mod edit;
pub(super) mod form;
pub(super) mod list;
