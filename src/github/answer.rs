//! An answer of GitHub's: its headers and body, what its refusals mean, and which limits it reports.

use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use http::header::{ETAG, HeaderMap, LINK};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{Blame, Error};

/// A whole answer, of whatever status.
pub(super) struct Answer {
    /// Of any kind, refusals included.
    pub status: StatusCode,
    /// As GitHub sent them.
    pub headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    /// The whole of what came back.
    pub fn new(status: StatusCode, headers: HeaderMap, body: Vec<u8>) -> Answer {
        Answer { status, headers, body }
    }

    /// A header's text; `None` also for one that is no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A header that is a whole number. `None` also for one that is not.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.header(name)?.trim().parse().ok()
    }

    /// The time by the clock of the server that made this answer. A cache on the way adds how long it has kept it.
    pub fn clock(&self) -> Option<DateTime<Utc>> {
        let made = DateTime::parse_from_rfc2822(self.header("date")?).ok()?;
        Some(made.to_utc() + TimeDelta::try_seconds(self.number("age").unwrap_or(0))?)
    }

    /// What [`Call::etag`](super::call::Call) can say next time.
    pub fn etag(&self) -> Option<&str> {
        self.header(ETAG.as_str())
    }

    /// Whether `Link` names a next page; `None`: there is no such header.
    pub fn has_next(&self) -> Option<bool> {
        let links = self.header(LINK.as_str())?;
        Some(links.split(',').any(|link| link.split(';').skip(1).any(|part| part.trim() == "rel=\"next\"")))
    }

    /// The `cursor` of the next page, where a list goes by cursors.
    pub fn next_cursor(&self) -> Option<String> {
        let mut links = self.header(LINK.as_str())?.split(',');
        let is_next = |link: &&str| link.split(';').skip(1).any(|part| part.trim() == "rel=\"next\"");
        let url = links.find(is_next)?.split(';').next()?.trim();
        let (_, query) = url.trim_start_matches('<').trim_end_matches('>').split_once('?')?;
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == "cursor").map(|(_, cursor)| cursor.into_owned())
    }

    /// GitHub's own words about a refusal.
    pub fn message(&self) -> String {
        match serde_json::from_slice::<Basic>(&self.body) {
            Ok(basic) => basic.sentence(),
            Err(_) => "an answer without GitHub's words, perhaps of a proxy".to_owned(),
        }
    }

    /// Decodes a success. The decoder's words are left out, since they can quote the answer, which can be a
    /// secret. `maybe_done`: whether a deed may stand behind an answer that cannot be read.
    pub fn decode<T: DeserializeOwned>(&self, maybe_done: bool) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|err| Error::Unavailable {
            maybe_done,
            why: format!(
                "its answer ({}) cannot be decoded at line {}, column {}",
                self.status.as_u16(),
                err.line(),
                err.column()
            ),
        })
    }
}

/// The longest wait that is believed: GitHub's windows last an hour.
const MAX_WAIT: TimeDelta = TimeDelta::hours(1);
/// What GitHub asks of those who hit a secondary limit that names no time.
const DEFAULT_WAIT: TimeDelta = TimeDelta::minutes(1);

/// A limit that GitHub reported.
pub(super) struct Limit {
    /// GitHub wants no such call before.
    pub until: DateTime<Utc>,
    /// It holds for the whole installation, not for one hourly budget.
    pub secondary: bool,
}

/// Reads a 403 or 429 as a limit. `None`: it is something else.
///
/// Source: <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api>, "Exceeding the rate limit".
pub(super) fn limit(answer: &Answer, now: DateTime<Utc>) -> Option<Limit> {
    if !matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) {
        return None;
    }
    if let Some(text) = answer.header("retry-after") {
        let wait = text.parse().ok().and_then(TimeDelta::try_seconds).unwrap_or(DEFAULT_WAIT);
        let until = now + wait.clamp(TimeDelta::seconds(1), MAX_WAIT);
        return Some(Limit { until, secondary: true });
    }
    if answer.number("x-ratelimit-remaining") == Some(0) {
        let reset = answer.number("x-ratelimit-reset").and_then(|at| DateTime::from_timestamp(at, 0));
        return Some(Limit { until: reset.unwrap_or(now + DEFAULT_WAIT), secondary: false });
    }
    let message = answer.message().to_ascii_lowercase();
    let says_so = message.contains("rate limit") || message.contains("abuse detection");
    (says_so || answer.status == StatusCode::TOO_MANY_REQUESTS)
        .then(|| Limit { until: now + DEFAULT_WAIT, secondary: true })
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
struct Basic {
    message: Option<String>,
    #[serde(default)]
    errors: serde_json::Value,
}

impl Basic {
    /// One line, cut short, free of credentials.
    fn sentence(self) -> String {
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
