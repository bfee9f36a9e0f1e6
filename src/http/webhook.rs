//! GitHub's webhooks. They are outside the scope with bearer tokens, since GitHub sends a signature instead.

use actix_web::http::{StatusCode, header};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse, post};
use serde::Serialize;
use utoipa::ToSchema;

use super::State;
use super::body::{BODY_TIMEOUT, read_body, too_large, too_slow};
use super::caller::origin;
use super::problem::Problem;
use crate::broker::webhook::{Incoming, Reception};

/// The largest body that GitHub sends, in bytes.
const MAX_BODY: usize = 25 * 1024 * 1024;

/// The longest delivery id or event name, in bytes.
const MAX_NAME: usize = 200;

/// What became of a delivery.
#[derive(Serialize, ToSchema)]
pub struct WebhookAnswer {
    #[schema(example = "accepted")]
    status: &'static str,
}

/// Receive a webhook of GitHub's
///
/// Signed in `X-Hub-Signature-256`; answered before anything is done about it.
#[utoipa::path(tag = "webhooks", operation_id = "receive_webhook", security(()), request_body(content = Object, description = "As GitHub sends it, at most 25 MB"), responses(
    (status = OK, description = "A ping, or an event that is not used, or one that came before", body = WebhookAnswer),
    (status = ACCEPTED, description = "It is kept and will be worked off", body = WebhookAnswer),
    Problem))]
#[post("/api/v1/webhooks/github")]
pub async fn github(req: HttpRequest, state: Data<State>, payload: Payload) -> Result<HttpResponse, Problem> {
    receive(req, state, payload).await
}

/// Receive a webhook of GitHub's (the same as `/api/v1/webhooks/github`)
#[utoipa::path(tag = "webhooks", operation_id = "receive_webhook_at_the_root", security(()), request_body(content = Object, description = "As GitHub sends it, at most 25 MB"), responses(
    (status = OK, description = "A ping, or an event that is not used, or one that came before", body = WebhookAnswer),
    (status = ACCEPTED, description = "It is kept and will be worked off", body = WebhookAnswer),
    Problem))]
#[post("/api/webhook")]
pub async fn at_the_root(
    req: HttpRequest,
    state: Data<State>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    receive(req, state, payload).await
}

async fn receive(req: HttpRequest, state: Data<State>, payload: Payload) -> Result<HttpResponse, Problem> {
    if !state.broker.expects_webhooks() {
        return Err(Problem::not_found(req.path()));
    }
    let Some(signature) = text(&req, "x-hub-signature-256") else {
        return Err(unsigned(&req, &state, "no X-Hub-Signature-256"));
    };
    // Nothing is read for a signature that no body has.
    if !is_signature(signature) {
        return Err(unsigned(&req, &state, "X-Hub-Signature-256 is not 'sha256=' and 64 hexadecimal digits"));
    }
    let body = tokio::time::timeout(BODY_TIMEOUT, read(&req, payload)).await.map_err(|_| too_slow())??;
    let (event, id) = (short_text(&req, "x-github-event"), short_text(&req, "x-github-delivery"));
    let incoming =
        Incoming { event: event.unwrap_or_default(), id: id.unwrap_or_default(), signature, body: &body };
    // Check the signature first, so that an unsigned caller learns nothing about the other headers.
    if !state.broker.is_signed(&incoming) {
        return Err(unsigned(&req, &state, "the signature does not match the body"));
    }
    if event.is_none() || id.is_none() {
        return Err(malformed(
            "X-GitHub-Event and X-GitHub-Delivery are required, with 1 to 200 characters each",
        ));
    }
    let reception = state.broker.receive_webhook(incoming).await?;
    let status = reception.as_str();
    match reception {
        Reception::Accepted => Ok(HttpResponse::Accepted().json(WebhookAnswer { status })),
        Reception::Pong | Reception::Dropped | Reception::Known => {
            Ok(HttpResponse::Ok().json(WebhookAnswer { status }))
        }
        Reception::Malformed(why) => Err(malformed(&format!(
            "the body is not JSON ({why}); set the content type of the webhook to application/json"
        ))),
    }
}

fn text<'r>(req: &'r HttpRequest, name: &str) -> Option<&'r str> {
    req.headers().get(name).and_then(|value| value.to_str().ok())
}

fn short_text<'r>(req: &'r HttpRequest, name: &str) -> Option<&'r str> {
    text(req, name).filter(|word| (1..=MAX_NAME).contains(&word.len()))
}

/// The raw bytes. They count against what strangers may hold, as all that arrives on a connection.
async fn read(req: &HttpRequest, payload: Payload) -> Result<Vec<u8>, Problem> {
    let announced = text(req, header::CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok());
    let announced: usize = announced.unwrap_or(0);
    if announced > MAX_BODY {
        return Err(too_large(MAX_BODY));
    }
    read_body(payload, announced, MAX_BODY).await
}

fn is_signature(text: &str) -> bool {
    let digits = text.strip_prefix("sha256=");
    digits.is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn unsigned(req: &HttpRequest, state: &State, why: &'static str) -> Problem {
    state.broker.note_unsigned_webhook(why, &origin(req, &state.trusted_proxies));
    Problem::unsigned_webhook()
}

fn malformed(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST", "Malformed webhook", detail)
}
