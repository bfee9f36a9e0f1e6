//! What the pages share: layout, forms, filters, sessions, assets, error pages, and the page for callers without a team.

pub(super) mod access;
pub(super) mod assets;
pub(super) mod filter;
pub(super) mod form;
pub(super) mod layout;
pub(super) mod no_team;
pub(super) mod page;
pub(super) mod return_to;
pub(super) mod session;
pub(super) mod ui;
