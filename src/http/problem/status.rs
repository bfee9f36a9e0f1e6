//! The status and title of every error of the layers below. The matches name every variant: a new one does not compile
//! until it has a status.

use actix_web::http::{StatusCode, header};

use super::{FieldError, Problem, RETRY_AFTER};
use crate::auth::login;
use crate::model::with_causes;
use crate::policy::Denial;
use crate::{auth, broker, github, store};

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
                // A warning only: anybody can send tokens with unknown keys during an outage. The failure itself is
                // logged with its causes where the keys are fetched.
                tracing::warn!(error = %err, "could not verify a token: its issuer is unavailable");
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
            // A warning only, as for tokens: anybody can start a sign-in at a provider that is down.
            login::Error::Unavailable { source, .. } => {
                tracing::warn!(error = %err, cause = %source, "sign-in failed: the provider is unavailable");
                let (status, title) = (StatusCode::SERVICE_UNAVAILABLE, "Identity provider unavailable");
                Problem::new(status, "ISSUER_UNAVAILABLE", title, err.to_string()).retry_after(RETRY_AFTER)
            }
            login::Error::Refused { .. } => because(StatusCode::FORBIDDEN),
            login::Error::Unproven { .. } => {
                tracing::warn!(error = %err, "sign-in refused");
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
            Denied(denial) => from_denial(denial),
            TooManyRequests { until } | TooManySignIns { until } | TooManyGitHubCalls { until } => {
                because(S::TOO_MANY_REQUESTS, "Too many requests").retry_at(*until)
            }
            GitHubHourIsOthers { until } => {
                because(S::SERVICE_UNAVAILABLE, "GitHub's rate limit reached").retry_at(*until)
            }
            NameTaken(_) => because(S::CONFLICT, "Name in use"),
            RunnerNotFound(_) => because(S::NOT_FOUND, "Runner not found"),
            RunnerBusy(_) => because(S::CONFLICT, "Runner busy"),
            RunnerInFlight(_) => because(S::CONFLICT, "Runner busy").retry_after(RETRY_AFTER),
            RunnerGone { .. } | NoRemoveTokenForJit => because(S::UNPROCESSABLE_ENTITY, "Invalid request"),
            KeyInProgress { until } => because(S::CONFLICT, "Request in progress").retry_at(*until),
            KeySpent => because(S::CONFLICT, "Idempotency key spent"),
            KeyReused => because(S::UNPROCESSABLE_ENTITY, "Idempotency key reused"),
            EventNotFound(_) => because(S::NOT_FOUND, "Event not found"),
            EventNotSealed(_) | NothingSealed => {
                because(S::NOT_FOUND, "Not sealed yet").retry_after(RETRY_AFTER)
            }
            NoSuchTree(_) => because(S::UNPROCESSABLE_ENTITY, "Invalid request"),
            Forbidden => because(S::FORBIDDEN, "Forbidden"),
            IdentityDeactivated => because(S::FORBIDDEN, "Identity deactivated"),
            AccessDenied => because(S::FORBIDDEN, "Access denied"),
            IdentityNotFound(_) => because(S::NOT_FOUND, "Not found"),
            OwnIdentity | OwnDenial => because(S::CONFLICT, "Own identity"),
            TeamNotFound(_) | MemberNotFound | DenialNotFound => because(S::NOT_FOUND, "Not found"),
            TeamExists(_) | TeamExistsDeactivated(_) => because(S::CONFLICT, "Team exists"),
            TeamDeactivated(_) => because(S::CONFLICT, "Team deactivated"),
            PreconditionRequired => because(S::PRECONDITION_REQUIRED, "Precondition required"),
            PreconditionFailed => because(S::PRECONDITION_FAILED, "Changed meanwhile"),
            PolicyManagedByFile => because(S::CONFLICT, "Managed by a file"),
            OwnRole => because(S::CONFLICT, "Own role"),
            Faulty(faults) => Problem::invalid(
                faults.iter().map(|fault| FieldError::new(fault.place.clone(), &fault.what)).collect(),
            ),
            TooLate => unavailable(err, code, "Too late").retry_after(RETRY_AFTER),
            AnswerLost(_) => unavailable(err, code, "GitHub unavailable").retry_after(RETRY_AFTER),
            GitHub(source) => from_github(err, source, code),
            Store(store::Error::Unavailable(_) | store::Error::Contended(_)) => {
                let detail = "the database is unavailable; no credential was issued";
                logged(err, S::SERVICE_UNAVAILABLE, code, "Database unavailable", detail.into())
                    .retry_after(RETRY_AFTER)
            }
            Store(_) | LeaseLost | Elsewhere(_) | AuditTree(_) | Panicked(_) | Policy(_) => {
                internal(err, code)
            }
        }
    }
}

/// A refusal by policy.
fn from_denial(denial: &Denial) -> Problem {
    use StatusCode as S;
    let because = |status, title| Problem::new(status, denial.code(), title, denial.to_string());
    match denial {
        Denial::TeamRequired { .. } => because(S::UNPROCESSABLE_ENTITY, "Team required"),
        Denial::TooManyLabels => Problem::invalid(vec![FieldError::new("labels", denial)]),
        Denial::RateLimited { .. } => {
            because(S::TOO_MANY_REQUESTS, "Too many requests").retry_after(RETRY_AFTER)
        }
        Denial::NoTeam { .. }
        | Denial::Method(_)
        | Denial::Labels(_)
        | Denial::Target(_)
        | Denial::RunnerGroup(_)
        | Denial::QuotaExceeded { .. } => because(S::FORBIDDEN, "Refused by policy"),
    }
}

fn from_github(err: &broker::Error, source: &github::Error, code: &'static str) -> Problem {
    match source {
        github::Error::RateLimited { until } => {
            unavailable(err, code, "GitHub's rate limit").retry_at(*until)
        }
        github::Error::Unavailable { .. } => {
            unavailable(err, code, "GitHub unavailable").retry_after(RETRY_AFTER)
        }
        github::Error::BadKey { .. }
        | github::Error::PermissionMissing { .. }
        | github::Error::Unauthorized { .. }
        | github::Error::NotFound { .. }
        | github::Error::Conflict { .. }
        | github::Error::Refused { .. } => {
            logged(err, StatusCode::BAD_GATEWAY, code, "GitHub refused", err.to_string())
        }
    }
}

/// 503: a service that the broker needs is unavailable for now.
fn unavailable(err: &dyn std::error::Error, code: &'static str, title: &'static str) -> Problem {
    logged(err, StatusCode::SERVICE_UNAVAILABLE, code, title, err.to_string())
}

fn internal(err: &dyn std::error::Error, code: &'static str) -> Problem {
    let detail = "internal error; the log of the broker has details under this request id";
    logged(err, StatusCode::INTERNAL_SERVER_ERROR, code, "Internal error", detail.into())
}

fn logged(
    err: &dyn std::error::Error,
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
) -> Problem {
    tracing::error!(code, status = status.as_u16(), error = with_causes(err), "request failed");
    Problem::new(status, code, title, detail)
}
