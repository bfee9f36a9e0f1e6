//! What can go wrong with a call to GitHub.

use chrono::{DateTime, Utc};

use crate::single_flight::Abandoned;

/// Why GitHub did not do what was asked. No variant holds a secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The App's private key is no key that it could sign with.
    #[error("the GitHub App's private key cannot be used: {why}")]
    BadKey {
        /// What is wrong with it.
        why: String,
    },
    /// No answer, or none that means anything.
    #[error("GitHub is unavailable: {why}")]
    Unavailable {
        /// GitHub may have done what was asked all the same.
        maybe_done: bool,
        /// For logs and people; holds no credential.
        why: String,
    },
    /// GitHub wants no such call for a while; not done.
    #[error("GitHub's rate limit is used up until {until}")]
    RateLimited {
        /// It may be asked again from then on.
        until: DateTime<Utc>,
    },
    /// Not done, and waiting will not help.
    #[error("the GitHub App lacks the permission {needed} ({message})")]
    PermissionMissing {
        /// As GitHub writes it: `organization_self_hosted_runners=write`.
        needed: String,
        /// GitHub's words.
        message: String,
    },
    /// GitHub does not accept the App's signature, or an installation token although it is new.
    #[error("GitHub does not accept the App's credential: {why}")]
    Unauthorized {
        /// GitHub's words, and what they mean.
        why: String,
        /// What has to be mended.
        blame: Blame,
    },
    /// Not there, or the App may not see it: GitHub says the same of both.
    #[error("GitHub knows no {what}")]
    NotFound {
        /// A noun, as in "GitHub knows no such runner".
        what: String,
    },
    /// The name is taken.
    #[error("GitHub reports a conflict: {message}")]
    Conflict {
        /// GitHub's words.
        message: String,
    },
    /// Any other refusal, in GitHub's words.
    #[error("GitHub refused with {status}: {message}")]
    Refused {
        /// Of HTTP.
        status: u16,
        /// GitHub's words.
        message: String,
    },
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
