//! Why a use case did not end as its caller wished. What this means in HTTP is `http::problem`'s to say.

use chrono::{DateTime, Utc};

use crate::policy::{Denial, Fault};
use crate::{github, store};

/// Refusals (the caller's to mend) and failures (ours, GitHub's or Postgres').
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Denied(#[source] Denial),
    #[error("the team has reached its limit of requests per minute")]
    TooManyRequests { until: DateTime<Utc> },
    #[error("too many attempts to sign in from your address; try again later")]
    TooManySignIns { until: DateTime<Utc> },
    #[error("runner '{0}' is live already")]
    NameTaken(String),
    #[error("there is no runner '{0}', or it is not one of yours")]
    RunnerNotFound(String),
    #[error("runner '{0}' is busy with a job")]
    RunnerBusy(String),
    #[error("runner '{0}' is changing its state; try again in a few seconds")]
    RunnerInFlight(String),
    #[error("runner '{name}' is {status}: there is nothing to {verb}")]
    RunnerGone { name: String, status: &'static str, verb: &'static str },
    #[error("a JIT runner has no configuration to remove; delete it instead")]
    NoRemoveTokenForJit,
    #[error("another request with this idempotency key is in progress")]
    KeyInProgress { until: DateTime<Utc> },
    #[error("the runner that this idempotency key was used for has started or is gone; use a new key")]
    KeySpent,
    #[error("this idempotency key was used for another request")]
    KeyReused,
    #[error("there is no event {0}, or it is not one of yours")]
    EventNotFound(i64),
    #[error("event {0} is not sealed yet; try again in a few seconds")]
    EventNotSealed(i64),
    #[error("no events of the audit log are sealed yet")]
    NothingSealed,
    #[error("{0}")]
    NoSuchTree(String),
    #[error("your role does not allow this")]
    Forbidden,
    #[error("this identity was deactivated by an administrator")]
    IdentityDeactivated,
    #[error("there is no identity {0}")]
    IdentityNotFound(uuid::Uuid),
    #[error("you cannot deactivate yourself; ask another administrator")]
    OwnIdentity,
    #[error("there is no team '{0}'")]
    TeamNotFound(String),
    #[error("there is a team '{0}' already")]
    TeamExists(String),
    #[error("there is a team '{0}' already, which is deactivated: reactivate it")]
    TeamExistsDeactivated(String),
    #[error("team '{0}' is deactivated: reactivate it first")]
    TeamDeactivated(String),
    #[error("there is no such member")]
    MemberNotFound,
    #[error("send If-Match with the ETag that you last read, so that no other change is overwritten")]
    PreconditionRequired,
    #[error("changed since you last read it: read it again")]
    PreconditionFailed,
    #[error("the policy is managed by POLICY_FILE: change that file")]
    PolicyIsOfFile,
    #[error("you cannot remove your own administrator role; ask another administrator")]
    OwnRole,
    /// What the caller wants of the policy has faults.
    #[error("invalid: {}", .0.iter().map(|fault| fault.what.as_str()).collect::<Vec<_>>().join("; "))]
    Faulty(Vec<Fault>),
    #[error("the database did not store the result in time; the runner was removed from GitHub")]
    TooLate,
    #[error("GitHub did not confirm the runner; if it was created, it will be removed")]
    AnswerLost(#[source] github::Error),
    #[error("{0}")]
    GitHub(#[source] github::Error),
    #[error("{0}")]
    Store(#[source] store::Error),
    #[error("another replica leads now")]
    LeaseLost,
    #[error("{0}")]
    Elsewhere(&'static str),
    #[error("the audit log's tree: {0}")]
    AuditTree(String),
    #[error("a task panicked: {0}")]
    Panicked(String),
    #[error("the policy has faults:\n{0}")]
    Policy(String),
}

impl From<github::Error> for Error {
    fn from(err: github::Error) -> Error {
        Error::GitHub(err)
    }
}

impl From<store::Error> for Error {
    fn from(err: store::Error) -> Error {
        Error::Store(err)
    }
}

impl From<Denial> for Error {
    fn from(denial: Denial) -> Error {
        Error::Denied(denial)
    }
}

impl Error {
    /// The stable code of the contract, for answers, events and metrics alike.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Denied(denial) => denial.code(),
            Error::TooManyRequests { .. } | Error::TooManySignIns { .. } => "RATE_LIMITED",
            Error::NameTaken(_) => "RUNNER_NAME_TAKEN",
            Error::RunnerNotFound(_) => "RUNNER_NOT_FOUND",
            Error::RunnerBusy(_) | Error::RunnerInFlight(_) => "RUNNER_BUSY",
            Error::RunnerGone { .. } | Error::NoRemoveTokenForJit => "INVALID_REQUEST",
            Error::KeyInProgress { .. } => "IDEMPOTENCY_KEY_IN_PROGRESS",
            Error::KeySpent => "IDEMPOTENCY_KEY_SPENT",
            Error::KeyReused => "IDEMPOTENCY_KEY_REUSED",
            Error::EventNotFound(_) | Error::EventNotSealed(_) | Error::NothingSealed => "NOT_FOUND",
            Error::NoSuchTree(_) => "INVALID_REQUEST",
            Error::AuditTree(_) => "INTERNAL",
            Error::Forbidden => "FORBIDDEN",
            Error::IdentityDeactivated => "IDENTITY_DEACTIVATED",
            Error::IdentityNotFound(_) => "NOT_FOUND",
            Error::OwnIdentity => "OWN_IDENTITY",
            Error::TeamNotFound(_) | Error::MemberNotFound => "NOT_FOUND",
            Error::TeamExists(_) | Error::TeamExistsDeactivated(_) => "TEAM_EXISTS",
            Error::TeamDeactivated(_) => "TEAM_DEACTIVATED",
            Error::PreconditionRequired => "PRECONDITION_REQUIRED",
            Error::PreconditionFailed => "PRECONDITION_FAILED",
            Error::PolicyIsOfFile => "POLICY_IS_MANAGED_BY_FILE",
            Error::OwnRole => "OWN_ADMIN_ROLE",
            Error::Faulty(_) => "INVALID_REQUEST",
            Error::TooLate | Error::Store(store::Error::Unavailable(_) | store::Error::Contended(_)) => {
                "DATABASE_UNAVAILABLE"
            }
            Error::AnswerLost(_) => "GITHUB_UNAVAILABLE",
            Error::GitHub(err) => match err {
                github::Error::RateLimited { .. } => "GITHUB_RATE_LIMITED",
                github::Error::PermissionMissing { .. } => "GITHUB_PERMISSION_MISSING",
                github::Error::Unavailable { .. } => "GITHUB_UNAVAILABLE",
                _ => "GITHUB_REFUSED",
            },
            Error::Store(_)
            | Error::LeaseLost
            | Error::Elsewhere(_)
            | Error::Panicked(_)
            | Error::Policy(_) => "INTERNAL",
        }
    }
}
