//! The tests that need no other program than Postgres.

mod database;
mod postgres;
mod postgres_binaries;
