//! What every call has in common: who may, what is refused before anything else, what is answered.

pub mod admin_answers;
pub mod authorisation;
pub mod authorisation_pages;
pub mod bodies;
pub mod every_request;
pub mod health;
pub mod metrics;
pub mod openapi;
pub mod tls;
pub mod tokens;
