//! The JSON API under `/api/v1`.

pub(super) mod admin;
pub(super) mod audit;
pub(super) mod audit_proofs;
pub(super) mod jobs;
pub(super) mod me;
pub(super) mod query;
pub(super) mod request;
pub(super) mod runners;
pub(super) mod views;
