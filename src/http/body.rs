//! JSON bodies and query strings: parsed with the name of the field that is wrong.

use std::future::{Future, Ready, ready};
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::{StatusCode, header};
use actix_web::{FromRequest, HttpRequest};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::problem::{FieldError, Problem};

/// The largest body that a caller may send, in bytes.
pub const LARGEST: usize = 64 * 1024;

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Body<T>, Problem>>>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = content_type_is_json(req);
        let mut payload = payload.take();
        Box::pin(async move {
            if !is_json {
                let detail = "send 'Content-Type: application/json'";
                return Err(Problem::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "INVALID_REQUEST",
                    "Unsupported media type",
                    detail,
                ));
            }
            let mut bytes = Vec::new();
            while let Some(chunk) = payload.next().await {
                let chunk = chunk.map_err(|err| malformed(format!("the body broke off: {err}")))?;
                if bytes.len() + chunk.len() > LARGEST {
                    let detail = format!("a body has at most {LARGEST} bytes");
                    return Err(Problem::new(
                        StatusCode::PAYLOAD_TOO_LARGE,
                        "INVALID_REQUEST",
                        "Body too large",
                        detail,
                    ));
                }
                bytes.extend_from_slice(&chunk);
            }
            parse(&bytes).map(Body)
        })
    }
}

fn content_type_is_json(req: &HttpRequest) -> bool {
    let value = req.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence =
        value.and_then(|value| value.split(';').next()).unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// 400 for what is no JSON, 422 with the field's name for JSON that is not what was asked for.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
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

/// The place as serde knows it; for an unknown or missing field its name from the message.
fn field(path: &str, message: &str) -> String {
    let quoted = message.split('`').nth(1).filter(|_| message.contains(" field `"));
    match (path, quoted) {
        (".", Some(name)) => name.to_owned(),
        (".", None) => "body".to_owned(),
        (path, _) => path.to_owned(),
    }
}

fn without_place(message: &str) -> &str {
    message.split(" at line ").next().unwrap_or(message)
}

fn malformed(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST", "Malformed body", detail)
}

/// A query string.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Problem;
    type Future = Ready<Result<Query<T>, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let parsed = actix_web::web::Query::<T>::from_query(req.query_string());
        ready(parsed.map(|query| Query(query.into_inner())).map_err(|err| {
            let message = err.to_string();
            let message = message.strip_prefix("Query deserialize error: ").unwrap_or(&message).to_owned();
            Problem::invalid(vec![FieldError::new(field(".", &message).replace("body", "query"), message)])
        }))
    }
}
