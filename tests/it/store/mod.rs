//! Postgres: connections, roles and the schema.

pub mod away;
pub mod hosts;
pub mod jobs;
pub mod pages;
pub mod schema;
pub mod schema_columns;
pub mod service_role;
pub mod tls;
