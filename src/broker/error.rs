//! Why a use case did not end as its caller wished. What this means in HTTP is `http::problem`'s to say.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::policy::{Denial, Fault};
use crate::single_flight::Abandoned;
use crate::{github, store};

/// Refusals (the caller's to mend) and failures (ours, GitHub's or Postgres').
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The policy does not permit the request.
    #[error("{0}")]
    Denied(#[source] Denial),
    /// The team's requests per minute are used up, until then.
    #[error("the team has reached its limit of requests per minute")]
    TooManyRequests {
        /// When to try again.
        until: DateTime<Utc>,
    },
    /// The caller's teams have made the broker ask GitHub too often, until then.
    #[error("you have asked GitHub about runners too often; try again later")]
    TooManyGitHubCalls {
        /// When to try again.
        until: DateTime<Utc>,
    },
    /// The team has used its part of GitHub's hour, and the rest is for other teams, until then.
    #[error(
        "little is left of what GitHub allows in this hour, and it is for teams that have used less of it"
    )]
    GitHubHourIsOthers {
        /// When to try again.
        until: DateTime<Utc>,
    },
    /// Too many sign-ins from one network failed, until then.
    #[error("too many attempts to sign in from your address; try again later")]
    TooManySignIns {
        /// When to try again.
        until: DateTime<Utc>,
    },
    /// A live runner has this name.
    #[error("runner '{0}' is already live")]
    NameTaken(String),
    /// There is no such runner, or the caller may not see it.
    #[error("there is no runner '{0}', or it is not one of yours")]
    RunnerNotFound(String),
    /// GitHub does not remove a runner that runs a job.
    #[error("runner '{0}' is busy with a job")]
    RunnerBusy(String),
    /// Another request is changing this runner at the same time.
    #[error("runner '{0}' is changing its state; try again in a few seconds")]
    RunnerInFlight(String),
    /// The runner has ended.
    #[error("runner '{name}' is {status}: there is nothing to {verb}")]
    RunnerGone {
        /// The runner's name.
        name: String,
        /// Its state.
        status: &'static str,
        /// What cannot be done.
        verb: &'static str,
    },
    /// Only runners with a registration token have a configuration to remove.
    #[error("a JIT runner has no configuration to remove; delete it instead")]
    NoRemoveTokenForJit,
    /// Another request with the same idempotency key has not ended.
    #[error("another request with this idempotency key is in progress")]
    KeyInProgress {
        /// When to try again.
        until: DateTime<Utc>,
    },
    /// The runner of this idempotency key has started or ended.
    #[error("the runner that this idempotency key was used for has started or is gone; use a new key")]
    KeySpent,
    /// The same idempotency key came with another request.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// There is no such event, or the caller may not see it.
    #[error("there is no event {0}, or it is not one of yours")]
    EventNotFound(i64),
    /// The event has no leaf in the tree yet.
    #[error("event {0} is not sealed yet; try again in a few seconds")]
    EventNotSealed(i64),
    /// There is no checkpoint yet.
    #[error("no event of the audit log is sealed yet")]
    NothingSealed,
    /// The sizes are not those of trees that were published.
    #[error("{0}")]
    NoSuchTree(String),
    /// The caller's role does not allow this.
    #[error("your role does not allow this")]
    Forbidden,
    /// An administrator has deactivated the caller.
    #[error("this identity was deactivated by an administrator")]
    IdentityDeactivated,
    /// A deny rule of the policy matches the caller.
    #[error("an administrator has denied you access")]
    AccessDenied,
    /// There is no such identity.
    #[error("there is no identity {0}")]
    IdentityNotFound(uuid::Uuid),
    /// Administrators cannot deactivate themselves.
    #[error("you cannot deactivate yourself; ask another administrator")]
    OwnIdentity,
    /// Administrators cannot deny themselves access.
    #[error("this rule would deny you access; ask another administrator")]
    OwnDenial,
    /// There is no such deny rule.
    #[error("there is no such rule")]
    DenialNotFound,
    /// There is no such team.
    #[error("there is no team '{0}'")]
    TeamNotFound(String),
    /// The name of the team is in use.
    #[error("team '{0}' already exists")]
    TeamExists(String),
    /// The name is that of a deactivated team.
    #[error("team '{0}' already exists and is deactivated: reactivate it")]
    TeamExistsDeactivated(String),
    /// A deactivated team cannot be changed.
    #[error("team '{0}' is deactivated: reactivate it first")]
    TeamDeactivated(String),
    /// The team or role has no such member.
    #[error("there is no such member")]
    MemberNotFound,
    /// The request has no `If-Match`.
    #[error("send If-Match with the ETag that you last read, so that no other change is overwritten")]
    PreconditionRequired,
    /// The version of `If-Match` is not the current one.
    #[error("changed since you last read it: read it again")]
    PreconditionFailed,
    /// `POLICY_FILE` manages the policy, administrators do not.
    #[error("the policy is managed by POLICY_FILE: change that file")]
    PolicyManagedByFile,
    /// Administrators cannot remove their own role.
    #[error("you cannot remove your own administrator role; ask another administrator")]
    OwnRole,
    /// What the caller wants of the policy has faults.
    #[error("invalid: {}", .0.iter().map(|fault| fault.what.as_str()).collect::<Vec<_>>().join("; "))]
    Faulty(Vec<Fault>),
    /// Postgres did not store the result before another replica gave the row up.
    #[error("the database did not store the result in time; the runner was removed from GitHub")]
    TooLate,
    /// GitHub may have created the runner, its answer did not arrive.
    #[error("GitHub did not answer whether it created the runner; if it did, the runner will be removed")]
    AnswerLost(#[source] github::Error),
    /// GitHub refused or could not be reached.
    #[error("{0}")]
    GitHub(#[source] github::Error),
    /// Postgres refused or could not be reached.
    #[error("{0}")]
    Store(#[source] store::Error),
    /// Another replica leads: nothing was written.
    #[error("another replica leads now")]
    LeaseLost,
    /// The work will be done by another replica or a later attempt.
    #[error("{0}")]
    Elsewhere(&'static str),
    /// The audit log's tree is damaged or not ours.
    #[error("the audit log's tree: {0}")]
    AuditTree(String),
    /// A background task panicked.
    #[error("a task panicked: {0}")]
    Panicked(String),
    /// A policy document, or the stored policy, has faults: one line each.
    #[error("the policy has faults:\n{0}")]
    Policy(String),
    /// What several callers waited for together failed for all of them.
    #[error("{0}")]
    Shared(#[source] Arc<Error>),
}

impl From<Abandoned> for Arc<Error> {
    fn from(err: Abandoned) -> Arc<Error> {
        Arc::new(Error::Panicked(err.to_string()))
    }
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
            Error::TooManyRequests { .. }
            | Error::TooManySignIns { .. }
            | Error::TooManyGitHubCalls { .. } => "RATE_LIMITED",
            Error::GitHubHourIsOthers { .. } => "GITHUB_RATE_LIMITED",
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
            Error::AccessDenied => "ACCESS_DENIED",
            Error::OwnIdentity | Error::OwnDenial => "OWN_IDENTITY",
            Error::TeamNotFound(_) | Error::MemberNotFound | Error::DenialNotFound => "NOT_FOUND",
            Error::TeamExists(_) | Error::TeamExistsDeactivated(_) => "TEAM_EXISTS",
            Error::TeamDeactivated(_) => "TEAM_DEACTIVATED",
            Error::PreconditionRequired => "PRECONDITION_REQUIRED",
            Error::PreconditionFailed => "PRECONDITION_FAILED",
            Error::PolicyManagedByFile => "POLICY_IS_MANAGED_BY_FILE",
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
            Error::Shared(err) => err.code(),
            Error::Store(_)
            | Error::LeaseLost
            | Error::Elsewhere(_)
            | Error::Panicked(_)
            | Error::Policy(_) => "INTERNAL",
        }
    }
}
