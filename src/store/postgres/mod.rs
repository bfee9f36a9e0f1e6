//! Connections to Postgres: the URL, TLS, the pools, and the poolers that do not work.

pub(super) mod after_commit;
pub(super) mod connect;
pub(super) mod pool;
pub(super) mod pooler_check;
pub(super) mod tls;
pub(super) mod url;
