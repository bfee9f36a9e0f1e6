//! Every error as `application/problem+json` (RFC 9457). The one place that chooses statuses and codes, and
//! the one that logs 5xx answers, with their whole chain.

use std::collections::BTreeMap;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::auth::login;
use crate::{auth, broker, github, store};

tokio::task_local! {
    /// The request that this task works on; problems quote it.
    pub static REQUEST_ID: String;
}

/// How long a caller should wait when nobody knows better, in seconds.
const A_WHILE: u64 = 5;

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

    /// A body or query that is well-formed but not acceptable.
    pub fn invalid(errors: Vec<FieldError>) -> Problem {
        let named: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        let detail = format!("not acceptable: {}", named.join(", "));
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
        let detail = "send X-Hub-Signature-256, made with the webhook's secret";
        Problem::new(StatusCode::UNAUTHORIZED, "WEBHOOK_SIGNATURE_INVALID", "Signature refused", detail)
    }

    /// A form that came without its page's token.
    pub fn foreign_form() -> Problem {
        let detail = "this form does not come from a page of your session: load the page again, then send it";
        Problem::new(StatusCode::FORBIDDEN, "FORBIDDEN", "Form refused", detail)
    }

    /// Of open pages that show what happens.
    pub fn too_many_streams() -> Problem {
        let detail =
            "too many pages are open that update by themselves; this one can be loaded again instead";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", "Too many open pages", detail)
            .retry_after(30)
    }

    /// A browser that comes back from a provider without having been sent there, or too late.
    pub fn not_begun() -> Problem {
        let detail = "this sign-in was not begun in this browser, or too long ago: begin it anew";
        Problem::new(StatusCode::BAD_REQUEST, "SIGN_IN_NOT_BEGUN", "Sign-in not begun here", detail)
    }

    /// What a provider says instead of who somebody is (RFC 6749, 4.1.2.1); `why` is its code.
    pub fn from_provider(provider: &str, why: &str) -> Problem {
        let (refused, detail) = (StatusCode::FORBIDDEN, format!("{provider} says: {why}"));
        match why {
            "temporarily_unavailable" | "server_error" => {
                let (status, title) = (StatusCode::SERVICE_UNAVAILABLE, "Identity provider unavailable");
                Problem::new(status, "ISSUER_UNAVAILABLE", title, detail).retry_after(A_WHILE)
            }
            "access_denied" => Problem::new(refused, "SIGN_IN_REFUSED", "Not signed in", detail),
            _ => {
                tracing::warn!(provider, why, "a login provider refuses");
                Problem::new(refused, "SIGN_IN_REFUSED", "Not signed in", detail)
            }
        }
    }

    pub fn not_found(path: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", "Not found", format!("there is nothing at {path}"))
    }

    pub fn method_not_allowed(method: &str, allowed: String) -> Problem {
        let detail = format!("{method} is not possible here; {allowed} is");
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

    /// Of the fields of a body or a form.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// Code and detail, for an answer of which this is only a part.
    pub fn into_parts(self) -> (&'static str, String) {
        (self.error_code, self.detail)
    }

    /// How many seconds to wait, if that helps.
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

impl From<auth::Error> for Problem {
    fn from(err: auth::Error) -> Problem {
        match &err {
            auth::Error::Invalid { .. } => {
                let detail = err.to_string();
                let quoted = detail.replace(['"', '\\'], "'");
                let header = format!(
                    r#"Bearer realm="runner-broker", error="invalid_token", error_description="{quoted}""#
                );
                Problem::new(StatusCode::UNAUTHORIZED, "INVALID_TOKEN", "Token refused", detail)
                    .with_header(header::WWW_AUTHENTICATE, header)
            }
            auth::Error::IssuerUnavailable { until, .. } => {
                // Anybody can send tokens with unknown keys during an outage: a warning, once for the
                // issuer's failure with its causes, and once here.
                tracing::warn!(error = %err, "a token could not be verified");
                let (status, title) = (StatusCode::SERVICE_UNAVAILABLE, "Identity provider unavailable");
                Problem::new(status, "ISSUER_UNAVAILABLE", title, err.to_string()).retry_at(*until)
            }
            auth::Error::Client(_) => internal(&err, "INTERNAL"),
        }
    }
}

impl From<login::Error> for Problem {
    fn from(err: login::Error) -> Problem {
        let because = |status| Problem::new(status, "SIGN_IN_REFUSED", "Not signed in", err.to_string());
        match &err {
            // Anybody can have a provider asked that is down: a warning, as for tokens.
            login::Error::Unavailable { source, .. } => {
                tracing::warn!(error = %err, cause = %source, "nobody could be signed in");
                let (status, title) = (StatusCode::SERVICE_UNAVAILABLE, "Identity provider unavailable");
                Problem::new(status, "ISSUER_UNAVAILABLE", title, err.to_string()).retry_after(A_WHILE)
            }
            login::Error::Refused { .. } => because(StatusCode::FORBIDDEN),
            login::Error::Unproven { .. } => {
                tracing::warn!(error = %err, "nobody was signed in");
                because(StatusCode::FORBIDDEN)
            }
            login::Error::Unfit { .. } => {
                let title = "Sign-in is not set up";
                logged(&err, StatusCode::BAD_GATEWAY, "SIGN_IN_UNFIT", title, err.to_string())
            }
        }
    }
}

impl From<broker::Error> for Problem {
    fn from(err: broker::Error) -> Problem {
        Problem::from(&err)
    }
}

impl From<&broker::Error> for Problem {
    fn from(err: &broker::Error) -> Problem {
        use StatusCode as S;
        use broker::Error::*;
        let code = err.code();
        let because = |status, title| Problem::new(status, code, title, err.to_string());
        match err {
            Shared(err) => Problem::from(&**err),
            Denied(_) if code == "TEAM_REQUIRED" => because(S::UNPROCESSABLE_ENTITY, "Team required"),
            Denied(_) if code == "INVALID_REQUEST" => Problem::invalid(vec![FieldError::new("labels", err)]),
            Denied(_) if code == "RATE_LIMITED" => {
                because(S::TOO_MANY_REQUESTS, "Too many requests").retry_after(A_WHILE)
            }
            Denied(_) => because(S::FORBIDDEN, "Refused by policy"),
            TooManyRequests { until } | TooManySignIns { until } => {
                because(S::TOO_MANY_REQUESTS, "Too many requests").retry_at(*until)
            }
            NameTaken(_) => because(S::CONFLICT, "Name in use"),
            RunnerNotFound(_) => because(S::NOT_FOUND, "Runner not found"),
            RunnerBusy(_) => because(S::CONFLICT, "Runner busy"),
            RunnerInFlight(_) => because(S::CONFLICT, "Runner busy").retry_after(A_WHILE),
            RunnerGone { .. } | NoRemoveTokenForJit => because(S::UNPROCESSABLE_ENTITY, "Invalid request"),
            KeyInProgress { until } => because(S::CONFLICT, "Request in progress").retry_at(*until),
            KeySpent => because(S::CONFLICT, "Idempotency key spent"),
            KeyReused => because(S::UNPROCESSABLE_ENTITY, "Idempotency key reused"),
            EventNotFound(_) => because(S::NOT_FOUND, "Event not found"),
            EventNotSealed(_) | NothingSealed => because(S::NOT_FOUND, "Not sealed yet").retry_after(A_WHILE),
            NoSuchTree(_) => because(S::UNPROCESSABLE_ENTITY, "Invalid request"),
            Forbidden => because(S::FORBIDDEN, "Forbidden"),
            IdentityDeactivated => because(S::FORBIDDEN, "Identity deactivated"),
            IdentityNotFound(_) => because(S::NOT_FOUND, "Not found"),
            OwnIdentity => because(S::CONFLICT, "Own identity"),
            TeamNotFound(_) | MemberNotFound => because(S::NOT_FOUND, "Not found"),
            TeamExists(_) | TeamExistsDeactivated(_) => because(S::CONFLICT, "Team exists"),
            TeamDeactivated(_) => because(S::CONFLICT, "Team deactivated"),
            PreconditionRequired => because(S::PRECONDITION_REQUIRED, "Precondition required"),
            PreconditionFailed => because(S::PRECONDITION_FAILED, "Changed meanwhile"),
            PolicyManagedByFile => because(S::CONFLICT, "Managed by a file"),
            OwnRole => because(S::CONFLICT, "Own role"),
            Faulty(faults) => Problem::invalid(
                faults.iter().map(|fault| FieldError::new(fault.place.clone(), &fault.what)).collect(),
            ),
            TooLate => away(err, code, "Too late").retry_after(A_WHILE),
            AnswerLost(_) => away(err, code, "GitHub unavailable").retry_after(A_WHILE),
            GitHub(source) => from_github(err, source, code),
            Store(store::Error::Unavailable(_) | store::Error::Contended(_)) => {
                let detail = "the database is not available; nothing was handed out";
                logged(err, S::SERVICE_UNAVAILABLE, code, "Database unavailable", detail.into())
                    .retry_after(A_WHILE)
            }
            Store(_) | LeaseLost | Elsewhere(_) | AuditTree(_) | Panicked(_) | Policy(_) => {
                internal(err, code)
            }
        }
    }
}

fn from_github(err: &broker::Error, source: &github::Error, code: &'static str) -> Problem {
    match source {
        github::Error::RateLimited { until } => away(err, code, "GitHub's rate limit").retry_at(*until),
        github::Error::Unavailable { .. } => away(err, code, "GitHub unavailable").retry_after(A_WHILE),
        _ => logged(err, StatusCode::BAD_GATEWAY, code, "GitHub refused", err.to_string()),
    }
}

/// Something that we need is away, and comes back by itself.
fn away(err: &dyn std::error::Error, code: &'static str, title: &'static str) -> Problem {
    logged(err, StatusCode::SERVICE_UNAVAILABLE, code, title, err.to_string())
}

fn internal(err: &dyn std::error::Error, code: &'static str) -> Problem {
    let detail = "something went wrong on our side; the log has it under this request id";
    logged(err, StatusCode::INTERNAL_SERVER_ERROR, code, "Internal error", detail.into())
}

fn logged(
    err: &dyn std::error::Error,
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
) -> Problem {
    let mut chain = err.to_string();
    let mut source = err.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !chain.ends_with(&cause_text) {
            chain = format!("{chain}: {cause_text}");
        }
        source = cause.source();
    }
    tracing::error!(code, status = status.as_u16(), error = %chain, "answering with an error");
    Problem::new(status, code, title, detail)
}
