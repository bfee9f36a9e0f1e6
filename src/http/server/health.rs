//! Health probes and metrics, which need no token.

use ::metrics::gauge;
use actix_web::web::Data;
use actix_web::{HttpResponse, get};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::State;
use crate::telemetry;

/// Whether the process serves.
#[derive(Serialize, ToSchema)]
pub struct Health {
    #[schema(example = "ok")]
    status: &'static str,
    version: &'static str,
    timestamp: DateTime<Utc>,
}

/// Whether the process can do its work.
#[derive(Serialize, ToSchema)]
pub struct Readiness {
    #[schema(example = "ok")]
    status: &'static str,
    version: &'static str,
    timestamp: DateTime<Utc>,
    /// `ok` or `unavailable`.
    #[schema(example = "ok")]
    database: &'static str,
    /// `ok`, or `unavailable` while no issuer's keys are known.
    #[schema(example = "ok")]
    issuers: &'static str,
}

fn word(is_fine: bool) -> &'static str {
    if is_fine { "ok" } else { "unavailable" }
}

fn health() -> HttpResponse {
    let version = env!("CARGO_PKG_VERSION");
    HttpResponse::Ok().json(Health { status: "ok", version, timestamp: Utc::now() })
}

/// Whether the process serves
#[utoipa::path(tag = "health", operation_id = "get_health", security(()), responses((status = OK, description = "It does", body = Health)))]
#[get("/health")]
pub async fn overall() -> HttpResponse {
    health()
}

/// Whether the process serves (for liveness probes)
#[utoipa::path(tag = "health", operation_id = "get_liveness", security(()), responses((status = OK, description = "It does", body = Health)))]
#[get("/health/live")]
pub async fn live() -> HttpResponse {
    health()
}

/// Whether the process can do its work (for readiness probes)
#[utoipa::path(tag = "health", operation_id = "get_readiness", security(()), responses(
    (status = OK, description = "It can", body = Readiness),
    (status = SERVICE_UNAVAILABLE, description = "Postgres is away, or no issuer's keys are known", body = Readiness)))]
#[get("/health/ready")]
pub async fn ready(state: Data<State>) -> HttpResponse {
    let database = match state.broker.ping().await {
        Ok(()) => true,
        Err(err) => {
            tracing::warn!(error = %err, "not ready: the database does not answer");
            false
        }
    };
    let issuers = state.verifier.ready();
    let mut answer = match database && issuers {
        true => HttpResponse::Ok(),
        false => HttpResponse::ServiceUnavailable(),
    };
    answer.json(Readiness {
        status: word(database && issuers),
        version: env!("CARGO_PKG_VERSION"),
        timestamp: Utc::now(),
        database: word(database),
        issuers: word(issuers),
    })
}

/// Metrics in Prometheus' text format
#[utoipa::path(tag = "health", operation_id = "get_metrics", security(()), responses((status = OK, description = "The metrics", body = String, content_type = "text/plain")))]
#[get("/metrics")]
pub async fn metrics(state: Data<State>) -> HttpResponse {
    let pool = state.broker.pool_status();
    gauge!("broker_pool_connections").set(pool.size as f64);
    gauge!("broker_pool_connections_idle").set(pool.available as f64);
    gauge!("broker_pool_waiting").set(pool.waiting as f64);
    let text = telemetry::metrics().map(|handle| handle.render()).unwrap_or_default();
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
}
