//! What can go wrong with a call to GitHub, and how its refusals are read.

use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde::Deserialize;

use super::transport::Answer;

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

/// The longest wait that is believed: GitHub's windows last an hour.
const LONGEST_WAIT: TimeDelta = TimeDelta::hours(1);
/// What GitHub asks of those who hit a secondary limit that names no time.
const UNNAMED_WAIT: TimeDelta = TimeDelta::minutes(1);

/// A limit that GitHub reported.
pub(super) struct Limit {
    pub until: DateTime<Utc>,
    /// It holds for the whole installation, not for one hourly budget.
    pub secondary: bool,
}

/// Reads a 403 or 429 as a limit. `None`: it is something else.
///
/// Source: <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api>, «Exceeding the rate limit».
pub(super) fn limit(answer: &Answer, now: DateTime<Utc>) -> Option<Limit> {
    if !matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) {
        return None;
    }
    if let Some(text) = answer.header("retry-after") {
        let wait = text.parse().ok().and_then(TimeDelta::try_seconds).unwrap_or(UNNAMED_WAIT);
        let until = now + wait.clamp(TimeDelta::seconds(1), LONGEST_WAIT);
        return Some(Limit { until, secondary: true });
    }
    if answer.number("x-ratelimit-remaining") == Some(0) {
        let reset = answer.number("x-ratelimit-reset").and_then(|at| DateTime::from_timestamp(at, 0));
        return Some(Limit { until: reset.unwrap_or(now + UNNAMED_WAIT), secondary: false });
    }
    let message = answer.message().to_ascii_lowercase();
    let says_so = message.contains("rate limit") || message.contains("abuse detection");
    (says_so || answer.status == StatusCode::TOO_MANY_REQUESTS)
        .then(|| Limit { until: now + UNNAMED_WAIT, secondary: true })
}

/// What a refusal means that no caller gave a meaning of its own. `needed` is the permission that the call
/// rests on, `what` is what a 404 says is not there.
pub(super) fn refusal(answer: &Answer, needed: &str, what: &str) -> Error {
    let message = answer.message();
    match answer.status {
        StatusCode::UNAUTHORIZED => Error::Unauthorized { why: message, blame: Blame::Token },
        StatusCode::FORBIDDEN if message.contains("suspended") => Error::Refused { status: 403, message },
        StatusCode::FORBIDDEN => {
            let needed = answer.header("x-accepted-github-permissions").unwrap_or(needed).to_owned();
            Error::PermissionMissing { needed, message }
        }
        StatusCode::NOT_FOUND => Error::NotFound { what: what.to_owned() },
        StatusCode::CONFLICT => Error::Conflict { message },
        status => Error::Refused { status: status.as_u16(), message },
    }
}

/// GitHub's basic error; the shape of `errors` differs from call to call.
#[derive(Deserialize)]
pub(super) struct Basic {
    message: Option<String>,
    #[serde(default)]
    errors: serde_json::Value,
}

impl Basic {
    /// One line, cut short, free of credentials.
    pub fn sentence(self) -> String {
        let mut text = self.message.unwrap_or_default();
        for error in self.errors.as_array().into_iter().flatten() {
            if let Some(more) = error.as_str().or_else(|| error.get("message")?.as_str()) {
                text.push_str("; ");
                text.push_str(more);
            }
        }
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
        redacted(&line)
    }
}

/// The text without anything that looks like one of GitHub's tokens or, in base64, like JSON.
fn redacted(text: &str) -> String {
    let is_token =
        |word: &str| ["ghs_", "ghp_", "gho_", "ghu_", "ghr_", "eyJ", "eyI"].iter().any(|p| word.contains(p));
    match is_token(text) {
        false => text.to_owned(),
        true => {
            let words = text.split(' ').map(|word| if is_token(word) { "[redacted]" } else { word });
            words.collect::<Vec<_>>().join(" ")
        }
    }
}
