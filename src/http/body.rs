//! JSON bodies and query strings: parsed with the name of the field that is wrong.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::{StatusCode, header};
use actix_web::{FromRequest, HttpRequest};
use futures_util::StreamExt;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::problem::{FieldError, Problem};

/// The largest body that a caller may send, in bytes.
pub const LARGEST: usize = 64 * 1024;

/// How long a caller may take to send it.
const SLOWEST: Duration = Duration::from_secs(10);

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
            let slow =
                || refused(StatusCode::REQUEST_TIMEOUT, "Body too slow", "the body did not come in time");
            let bytes = tokio::time::timeout(SLOWEST, read(payload)).await.map_err(|_| slow())??;
            parse(&bytes).map(Body)
        })
    }
}

/// What can be said before anything is read.
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
    match length.is_some_and(|length| length > LARGEST as u64) {
        true => Err(too_large()),
        false => Ok(()),
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn read(mut payload: Payload) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|err| malformed(format!("the body broke off: {err}")))?;
        if bytes.len() + chunk.len() > LARGEST {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn too_large() -> Problem {
    refused(StatusCode::PAYLOAD_TOO_LARGE, "Body too large", format!("a body has at most {LARGEST} bytes"))
}

fn refused(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(status, "INVALID_REQUEST", title, detail)
}

/// 400 for what is no JSON, 422 with the field's name for JSON that is not what was asked for.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde would take an array for an object, its values in the order of the fields.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        let is_json = serde_json::from_slice::<IgnoredAny>(bytes);
        return Err(match is_json {
            Ok(_) => Problem::invalid(vec![FieldError::new("body", "a JSON object is wanted")]),
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

/// The place as serde knows it; for an unknown, missing or repeated field its name from the message.
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
