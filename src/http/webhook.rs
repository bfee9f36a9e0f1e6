//! GitHub's webhooks: outside the bearer scope, since GitHub brings a signature instead of a token.

use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse, post};
use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use utoipa::ToSchema;

use super::State;
use super::caller::origin;
use super::problem::Problem;
use crate::broker::webhook::{Incoming, Reception};

/// GitHub sends no larger body.
const LARGEST: usize = 25 * 1024 * 1024;

/// Larger bodies are read a few at a time, so that memory has a bound.
const LARGE: usize = 1024 * 1024;
const LARGE_AT_ONCE: usize = 4;

/// GitHub itself waits no longer.
const SLOWEST: Duration = Duration::from_secs(10);

/// The longest delivery id or event name that is kept.
const LONGEST_WORD: usize = 200;

static LARGE_BODIES: Semaphore = Semaphore::const_new(LARGE_AT_ONCE);

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
    let (body, _permit) = tokio::time::timeout(SLOWEST, read(&req, payload)).await.map_err(|_| slow())??;
    let (event, id) = (word(&req, "x-github-event"), word(&req, "x-github-delivery"));
    let incoming =
        Incoming { event: event.unwrap_or_default(), id: id.unwrap_or_default(), signature, body: &body };
    // Who did not sign learns nothing of what else is missing.
    if !state.broker.is_signed(&incoming) {
        return Err(unsigned(&req, &state, "the signature is not this body's"));
    }
    if event.is_none() || id.is_none() {
        return Err(malformed(
            "X-GitHub-Event and X-GitHub-Delivery are wanted, each of 1 to 200 characters",
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
            "the body is not JSON ({why}); the webhook's content type has to be application/json"
        ))),
    }
}

fn text<'r>(req: &'r HttpRequest, name: &str) -> Option<&'r str> {
    req.headers().get(name).and_then(|value| value.to_str().ok())
}

fn word<'r>(req: &'r HttpRequest, name: &str) -> Option<&'r str> {
    text(req, name).filter(|word| (1..=LONGEST_WORD).contains(&word.len()))
}

/// The raw bytes, with the permit that a large body needs for as long as it is there.
async fn read(
    req: &HttpRequest,
    mut payload: Payload,
) -> Result<(Vec<u8>, Option<SemaphorePermit<'static>>), Problem> {
    let announced: Option<usize> =
        text(req, header::CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok());
    let announced = announced.unwrap_or(0);
    if announced > LARGEST {
        return Err(too_large());
    }
    let mut permit = None;
    if announced > LARGE {
        permit = LARGE_BODIES.acquire().await.ok();
    }
    let mut bytes = Vec::with_capacity(announced);
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|err| malformed(&format!("the body broke off: {err}")))?;
        let length = bytes.len() + chunk.len();
        if length > LARGEST {
            return Err(too_large());
        }
        if length > LARGE && permit.is_none() {
            permit = LARGE_BODIES.acquire().await.ok();
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes, permit))
}

fn unsigned(req: &HttpRequest, state: &State, why: &'static str) -> Problem {
    state.broker.note_unsigned_webhook(why, &origin(req, &state.trusted_proxies));
    Problem::unsigned_webhook()
}

fn malformed(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST", "Malformed webhook", detail)
}

fn too_large() -> Problem {
    let detail = format!("a webhook has at most {LARGEST} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_REQUEST", "Body too large", detail)
}

fn slow() -> Problem {
    let detail = "the body did not come in time";
    Problem::new(StatusCode::REQUEST_TIMEOUT, "INVALID_REQUEST", "Body too slow", detail)
}
