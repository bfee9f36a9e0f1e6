//! What surrounds the routes: TLS, the request log, health, metrics, and the OpenAPI document.

pub(super) mod health;
pub(super) mod observe;
pub(super) mod openapi;
pub(super) mod tls;
