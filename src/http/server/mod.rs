//! The server around the routes: listening, TLS, the request log, health, metrics, and the OpenAPI document.

pub(super) mod health;
pub(super) mod listen;
pub(super) mod observe;
pub(super) mod openapi;
mod slices;
pub(super) mod tls;
