//! What can go wrong with a call to GitHub.

use chrono::{DateTime, Utc};

use crate::single_flight::Abandoned;

/// Why GitHub did not do what was asked. No variant holds a secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The App's private key is no key that it could sign with.
    #[error("the GitHub App's private key cannot be used: {why}")]
    BadKey { why: String },
    /// No answer, or none that means anything. `maybe_done`: GitHub may have done what was asked all the same.
    #[error("GitHub is unavailable: {why}")]
    Unavailable { maybe_done: bool, why: String },
    /// GitHub wants to be asked again from then on; not done.
    #[error("GitHub's rate limit is used up until {until}")]
    RateLimited { until: DateTime<Utc> },
    /// Not done, and waiting will not help. `needed` as GitHub writes it: `organization_self_hosted_runners=write`.
    #[error("the GitHub App lacks the permission {needed} ({message})")]
    PermissionMissing { needed: String, message: String },
    /// GitHub does not accept the App's signature, or an installation token although it is new.
    #[error("GitHub does not accept the App's credential: {why}")]
    Unauthorized { why: String, blame: Blame },
    #[error("GitHub knows no {what}")]
    NotFound { what: String },
    /// The name is taken.
    #[error("GitHub reports a conflict: {message}")]
    Conflict { message: String },
    /// Any other refusal, in GitHub's words.
    #[error("GitHub refused with {status}: {message}")]
    Refused { status: u16, message: String },
}

/// What is wrong with a credential that GitHub does not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The key is not the App's, or the App's id is another's: GitHub says the same of both.
    Key,
    /// GitHub has no App of this id.
    AppId,
    /// This machine's clock.
    Clock,
    /// An installation token.
    Token,
}

impl From<Abandoned> for Error {
    fn from(err: Abandoned) -> Error {
        Error::Unavailable { maybe_done: false, why: err.to_string() }
    }
}

impl Error {
    /// Whether what was asked may have happened although no answer says so.
    pub fn lost_answer(&self) -> bool {
        matches!(self, Error::Unavailable { maybe_done: true, .. })
    }

    /// Of a list that does not come to its end.
    pub(super) fn endless() -> Error {
        Error::Unavailable { maybe_done: false, why: "its list has no last page".into() }
    }

    /// As the error of a call that was still to come: whatever went wrong, that call was not made.
    pub(super) fn before_the_call(self) -> Error {
        match self {
            Error::Unavailable { why, .. } => Error::Unavailable { maybe_done: false, why },
            other => other,
        }
    }
}
