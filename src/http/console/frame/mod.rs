//! What every page shares: its layout, forms, filters, sessions, assets and live updates.

pub(super) mod access;
pub(super) mod assets;
pub(super) mod filter;
pub(super) mod form;
pub(super) mod layout;
pub(super) mod live;
pub(super) mod page;
pub(super) mod return_to;
pub(super) mod session;
pub(super) mod ui;
