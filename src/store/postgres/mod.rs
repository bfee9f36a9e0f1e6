//! Connections to Postgres: the URL, TLS, the pools, and what a pooler in between may not do.

pub(super) mod after;
pub(super) mod connect;
pub(super) mod pool;
pub(super) mod pooling;
pub(super) mod tls;
pub(super) mod url;
