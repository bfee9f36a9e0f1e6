//! The JSON API under `/api/v1`.

pub(super) mod admin;
pub(super) mod audit;
pub(super) mod audit_proofs;
pub(super) mod jobs;
pub(super) mod me;
pub(super) mod query;
pub(super) mod request;
#[cfg(test)]
mod request_fingerprints;
pub(super) mod runners;
pub(super) mod views;
