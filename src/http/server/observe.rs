//! The middleware around every request: its id, span, metrics and log line.

use std::sync::Arc;
use std::time::Instant;

use actix_web::ResponseError;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{RequestHead, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Data;
use metrics::{counter, histogram};
use tracing::Instrument;
use uuid::Uuid;

use super::slices::in_pieces;
use crate::http::State;
use crate::http::connections::{Connection, Connections};
use crate::http::problem::{Problem, REQUEST_ID};
use crate::telemetry::traces;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The content security policy of the console: no resources from elsewhere, no inline scripts or styles, no frames.
const CONSOLE_CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Pages of others may neither hold a window of ours, nor load what is ours, and ours need none of a browser's senses.
const ISOLATION: [(&str, &str); 3] = [
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
];

/// For a year browsers ask this host over TLS alone.
const HSTS: &str = "max-age=31536000";

/// The content security policy of the API documentation, a page of another crate that has inline styles.
const DOCS_CSP: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// Gives each request an id that its answer, its errors, its log lines and its audit events carry. It is always ours: two
/// requests never have the same.
pub async fn observe(
    mut req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let id = Uuid::now_v7().to_string();
    let method = req.method().clone();
    // HEAD is GET without the body (RFC 9110, 9.3.2); the connection still knows not to send one.
    if method == Method::HEAD {
        req.head_mut().method = Method::GET;
    }
    // At level `error`, so that every log level shows which request an error belongs to.
    let span = tracing::error_span!(
        "request", request_id = %id, %method, path = req.path(), otel.kind = tracing::field::Empty
    );
    let header = |name: &str| req.headers().get(name).and_then(|value| value.to_str().ok());
    traces::continue_from(&span, header("traceparent"), header("tracestate"));
    let started = Instant::now();
    let connection = Held::of(&req);
    if let Some(held) = &connection {
        held.connections.begin(&held.connection, has_body(req.head()));
    }
    let answered = match is_disguised(req.uri().path()) {
        true => {
            let problem = REQUEST_ID.sync_scope(id.clone(), || Problem::not_found(req.uri().path()));
            Ok(req.into_response(problem.error_response()))
        }
        false => {
            let answered = REQUEST_ID.scope(id.clone(), next.call(req)).instrument(span.clone()).await;
            answered.map(|answer| answer.map_into_boxed_body())
        }
    };
    let mut answer = match answered {
        Ok(answer) => answer,
        Err(err) => return Err(err),
    };
    // The API documentation is of another crate, which answers 404 without a body.
    if answer.status() == StatusCode::NOT_FOUND && answer.request().path().starts_with("/docs/") {
        let problem = REQUEST_ID.sync_scope(id.clone(), || Problem::not_found(answer.request().path()));
        answer = answer.into_response(problem.error_response());
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert(HEADER, value);
    }
    let is_https = answer.request().app_data::<Data<State>>().is_some_and(|state| state.secure_cookies);
    let is_api_page = answer.request().path().starts_with("/docs");
    let policy = if is_api_page { DOCS_CSP } else { CONSOLE_CSP };
    let headers = answer.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    for (name, value) in ISOLATION {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if is_https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    }
    let (status, took) = (answer.status().as_u16(), started.elapsed());
    // The pattern, not the path: the number of series must not grow with what callers send.
    let route = answer.request().match_pattern().unwrap_or_else(|| "unknown".into());
    traces::conclude(&span, method_label(&method), &route, status);
    let (req, whole) = answer.into_parts();
    let (in_pieces, kept_bytes) = in_pieces(whole);
    let answer = ServiceResponse::new(req, in_pieces);
    if let Some(held) = &connection {
        // If its bytes are needed elsewhere, the connection ends by itself.
        let _ = held.connections.answered(&held.connection, kept_bytes);
    }
    let _entered = span.enter();
    tracing::info!(status, milliseconds = took.as_millis() as u64, "request");
    histogram!("http_request_duration_seconds", "method" => method_label(&method), "route" => route.clone())
        .record(took.as_secs_f64());
    counter!("http_requests_total", "method" => method_label(&method), "route" => route, "status" => status.to_string())
        .increment(1);
    Ok(answer)
}

/// The connection of a request. Requests that tests make without a server have none.
pub struct Held {
    connection: Arc<Connection>,
    connections: Data<Connections>,
}

impl Held {
    fn of(req: &ServiceRequest) -> Option<Held> {
        let connection = req.conn_data::<Arc<Connection>>()?.clone();
        Some(Held { connection, connections: req.app_data::<Data<Connections>>()?.clone() })
    }
}

/// Whether bytes follow the head (RFC 9112, 6.3).
fn has_body(head: &RequestHead) -> bool {
    let length = head.headers.get(header::CONTENT_LENGTH);
    length.is_some_and(|length| length != "0") || head.headers.contains_key(header::TRANSFER_ENCODING)
}

/// Whether a path spells a letter, digit or another plain character by its number: what stands before us may have
/// looked for `/metrics` and let `/%6detrics` through (RFC 3986, 2.3).
fn is_disguised(path: &str) -> bool {
    path.split('%').skip(1).any(|after| {
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    })
}

/// Callers may invent methods; metrics may not.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
