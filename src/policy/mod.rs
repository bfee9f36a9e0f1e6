//! Who may have what: a pure decision. Knows neither GitHub nor Postgres nor the time.

pub mod decide;

pub use decide::{Ask, Grant, Usage};
