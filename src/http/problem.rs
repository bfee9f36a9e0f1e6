//! Every error as `application/problem+json` (RFC 9457). Only this module chooses statuses, and only this module logs 5xx
//! answers, with their causes.

mod status;

use std::collections::BTreeMap;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

tokio::task_local! {
    /// The id of the request that this task handles; problems quote it.
    pub static REQUEST_ID: String;
}

/// The `Retry-After` of refusals that do not say how long they last, in seconds.
const RETRY_AFTER: u64 = 5;

/// What went wrong, for people and for programs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `about:blank`: the status and `error_code` say it all.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    #[schema(example = "Refused by policy")]
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u16, example = 403)]
    status: StatusCode,
    /// What is wrong with what the caller sent.
    #[schema(example = "Labels ['forbidden-label'] not permitted by policy")]
    detail: String,
    /// Stable: scripts may go by it.
    #[schema(example = "LABEL_POLICY_VIOLATION")]
    error_code: &'static str,
    request_id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(skip)]
    retry_after: Option<u64>,
    #[serde(skip)]
    headers: Vec<(header::HeaderName, String)>,
}

/// One field of a body or query that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    #[schema(example = "labels[2]")]
    pub field: String,
    #[schema(example = "a label has 1 to 256 characters")]
    pub message: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, message: impl fmt::Display) -> FieldError {
        FieldError { field: field.into(), message: message.to_string() }
    }
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    pub fn new(
        status: StatusCode,
        error_code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Problem {
        Problem {
            kind: "about:blank",
            title,
            status,
            detail: detail.into(),
            error_code,
            request_id: REQUEST_ID.try_with(Clone::clone).unwrap_or_default(),
            errors: Vec::new(),
            retry_after: None,
            headers: Vec::new(),
        }
    }

    /// 422: a body or query that is well-formed but invalid.
    pub fn invalid(errors: Vec<FieldError>) -> Problem {
        let named: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        let detail = format!("invalid: {}", named.join(", "));
        let problem =
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_REQUEST", "Invalid request", detail);
        Problem { errors, ..problem }
    }

    pub fn missing_token() -> Problem {
        let detail = "send 'Authorization: Bearer <OpenID Connect token>'";
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "MISSING_TOKEN", "No token", detail);
        problem.with_header(header::WWW_AUTHENTICATE, r#"Bearer realm="runner-broker""#.into())
    }

    pub fn unsigned_webhook() -> Problem {
        let detail = "X-Hub-Signature-256 is missing, or does not match the body and the webhook secret";
        Problem::new(StatusCode::UNAUTHORIZED, "WEBHOOK_SIGNATURE_INVALID", "Signature refused", detail)
    }

    /// A form without the CSRF token of the session.
    pub fn foreign_form() -> Problem {
        let detail = "this form was not sent from a page of your session: reload the page and send it again";
        Problem::new(StatusCode::FORBIDDEN, "FORBIDDEN", "Form refused", detail)
    }

    /// 429: too many open event streams.
    pub fn too_many_streams() -> Problem {
        let detail = "too many pages with live updates are open; reload this page to update it";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", "Too many open pages", detail)
            .retry_after(30)
    }

    /// 429: this caller holds too many connections.
    pub fn too_many_connections() -> Problem {
        let detail = "you have too many open connections: close some, or wait until others have ended";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", "Too many connections", detail)
            .retry_after(1)
    }

    /// A browser that comes back from a provider without a sign-in attempt of ours, or too late.
    pub fn sign_in_not_started() -> Problem {
        let detail = "this sign-in was not started in this browser, or has expired: start it again";
        Problem::new(StatusCode::BAD_REQUEST, "SIGN_IN_NOT_BEGUN", "Sign-in not started", detail)
    }

    /// The error of a provider (RFC 6749, 4.1.2.1); `why` is its code.
    pub fn from_provider(provider: &str, why: &str) -> Problem {
        let (refused, detail) = (StatusCode::FORBIDDEN, format!("{provider} answered with an error: {why}"));
        match why {
            "temporarily_unavailable" | "server_error" => {
                let (status, title) = (StatusCode::SERVICE_UNAVAILABLE, "Identity provider unavailable");
                Problem::new(status, "ISSUER_UNAVAILABLE", title, detail).retry_after(RETRY_AFTER)
            }
            "access_denied" => Problem::new(refused, "SIGN_IN_REFUSED", "Not signed in", detail),
            _ => {
                tracing::warn!(provider, why, "the login provider refused");
                Problem::new(refused, "SIGN_IN_REFUSED", "Not signed in", detail)
            }
        }
    }

    pub fn not_found(path: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", "Not found", format!("nothing at {path}"))
    }

    pub fn method_not_allowed(method: &str, allowed: String) -> Problem {
        let detail = format!("{method} is not allowed here; use {allowed}");
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "Method not allowed", detail)
            .with_header(header::ALLOW, allowed)
    }

    pub fn title(&self) -> &'static str {
        self.title
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub fn error_code(&self) -> &'static str {
        self.error_code
    }

    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The faults of single fields of a body, query or form.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// Code and detail, for an item of a larger answer.
    pub fn into_parts(self) -> (&'static str, String) {
        (self.error_code, self.detail)
    }

    /// The `Retry-After`, in seconds.
    pub fn wait(&self) -> Option<u64> {
        self.retry_after
    }

    pub fn with_header(mut self, name: header::HeaderName, value: String) -> Problem {
        self.headers.push((name, value));
        self
    }

    fn retry_after(mut self, seconds: u64) -> Problem {
        self.retry_after = Some(seconds);
        self
    }

    fn retry_at(self, until: DateTime<Utc>) -> Problem {
        let seconds = (until - Utc::now()).num_milliseconds().max(0).unsigned_abs().div_ceil(1000);
        self.retry_after(seconds.max(1))
    }
}

/// What every call of the API may answer; an operation names it once.
impl IntoResponses for Problem {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let problem = |description: &str| {
            let content = Content::new(Some(Ref::from_schema_name("Problem")));
            let response = ResponseBuilder::new().description(description);
            RefOr::T(response.content("application/problem+json", content).build())
        };
        BTreeMap::from([
            ("4XX".into(), problem("Refused: the problem says why")),
            ("5XX".into(), problem("Something that the broker needs is away, or went wrong")),
        ])
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.error_code, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status);
        answer.content_type("application/problem+json");
        if let Some(seconds) = self.retry_after {
            answer.insert_header((header::RETRY_AFTER, seconds));
        }
        for (name, value) in &self.headers {
            // A description may quote the token's claims: anything that is no header text is dropped.
            if let Ok(value) = HeaderValue::from_str(value) {
                answer.insert_header((name.clone(), value));
            }
        }
        answer.body(serde_json::to_string(self).unwrap_or_default())
    }
}
