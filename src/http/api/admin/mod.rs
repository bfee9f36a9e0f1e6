//! The endpoints for admins and auditors.

pub mod batch;
pub mod denials;
pub mod identities;
pub mod members;
pub mod roles;
pub mod security;
pub mod stats;
pub mod sweep;
pub mod team_log;
mod team_views;
pub mod teams;
