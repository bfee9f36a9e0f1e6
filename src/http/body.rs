//! Bodies and query strings: read with limits, parsed with the name of the faulty field.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::{StatusCode, header};
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest};
use futures_util::{Stream, StreamExt};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::problem::{FieldError, Problem};

/// The largest JSON body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// How long a caller may take to send a body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Body<T>, Problem>>>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let readable = check_headers(req);
        let payload = payload.take();
        Box::pin(async move {
            readable?;
            let read = read_body(payload, 0, MAX_BODY);
            let bytes = tokio::time::timeout(BODY_TIMEOUT, read).await.map_err(|_| too_slow())??;
            parse(&bytes).map(Body)
        })
    }
}

/// The checks that need no body.
fn check_headers(req: &HttpRequest) -> Result<(), Problem> {
    let header = |name| req.headers().get(name).and_then(|value| value.to_str().ok());
    let unsupported =
        |detail: &str| refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type", detail);
    if !header(header::CONTENT_TYPE).is_some_and(is_json) {
        return Err(unsupported("send 'Content-Type: application/json'"));
    }
    if header(header::CONTENT_ENCODING).is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return Err(unsupported("send the body without 'Content-Encoding'"));
    }
    let length = header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    match length.is_some_and(|length| length > MAX_BODY as u64) {
        true => Err(too_large(MAX_BODY)),
        false => Ok(()),
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Reads a whole body of at most `largest` bytes; `announced`: how many its head says there are. Memory that nobody has
/// written to costs nothing, and a buffer that has to grow is there twice for a moment.
pub async fn read_body(
    mut payload: impl Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    announced: usize,
    largest: usize,
) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::with_capacity(announced.min(largest));
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|err| malformed(format!("the body was interrupted: {err}")))?;
        if bytes.len() + chunk.len() > largest {
            return Err(too_large(largest));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// 413: the body has more than `largest` bytes.
pub fn too_large(largest: usize) -> Problem {
    let detail = format!("the body may have at most {largest} bytes");
    refused(StatusCode::PAYLOAD_TOO_LARGE, "Body too large", detail)
}

/// 408: the body did not arrive in time.
pub fn too_slow() -> Problem {
    refused(StatusCode::REQUEST_TIMEOUT, "Body too slow", "the body did not arrive in time")
}

fn refused(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(status, "INVALID_REQUEST", title, detail)
}

/// 400 for a body that is not JSON, 422 with the name of the field for JSON of another shape.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde would accept an array instead of an object, with the values in the order of the fields.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        let is_json = serde_json::from_slice::<IgnoredAny>(bytes);
        return Err(match is_json {
            Ok(_) => Problem::invalid(vec![FieldError::new("body", "expected a JSON object")]),
            Err(err) => malformed(format!("the body is not JSON: {err}")),
        });
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|err| {
        let message = err.inner().to_string();
        match err.inner().classify() {
            serde_json::error::Category::Data => Problem::invalid(vec![FieldError::new(
                field(&err.path().to_string(), &message),
                without_place(&message),
            )]),
            _ => malformed(format!("the body is not JSON: {message}")),
        }
    })?;
    json.end().map_err(|err| malformed(format!("the body is not JSON: {err}")))?;
    Ok(value)
}

/// The path that serde reports; for an unknown, missing or repeated field its name from the message.
fn field(path: &str, message: &str) -> String {
    let quoted = message.split('`').nth(1).filter(|_| message.contains(" field `"));
    match (path, quoted) {
        (".", Some(name)) => name.to_owned(),
        (".", None) => "query".to_owned(),
        (path, _) => path.to_owned(),
    }
}

fn without_place(message: &str) -> &str {
    message.split(" at line ").next().unwrap_or(message)
}

fn malformed(detail: String) -> Problem {
    refused(StatusCode::BAD_REQUEST, "Malformed body", detail)
}

/// A query string.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Problem;
    type Future = Ready<Result<Query<T>, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let pairs = url::form_urlencoded::parse(req.query_string().as_bytes());
        let parsed = serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs));
        ready(parsed.map(Query).map_err(|err| {
            let message = err.inner().to_string();
            Problem::invalid(vec![FieldError::new(field(&err.path().to_string(), &message), message)])
        }))
    }
}
