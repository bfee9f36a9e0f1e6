//! Asks a broker for a runner, for scripts: finds a token, asks until there is an answer, and removes a runner
//! that nobody used. Knows the broker by its HTTP alone, and no more of its configuration than any caller does.
//!
//! Reads no `.env`: it often runs in somebody else's checkout, whose file could name another broker for the token.
//! One run is one request: every attempt has the same idempotency key. Tried again is what waiting may change: lost
//! connections, 408, 429, 503, 504, a 502 that is not the broker's, 409 while key or runner is in flight; never before
//! `Retry-After`. A token goes only over https, or http to loopback past any proxy; no redirect is followed.

#![warn(missing_docs)]

mod broker;
mod child;
mod http;
mod key;
mod refusal;
mod retry;
mod runner;
mod session;
mod signals;
mod token;
mod token_source;

use std::time::Duration;

pub use http::Roots;
pub use key::Key;
pub use runner::{Method, RunnerRequest};
pub use session::{Output, Session};
pub use token::{Source, Token};
pub use token_source::{Environment, find_token};

use refusal::Refusal;

/// Why there is no runner, or no end of it as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Called wrongly: nobody was asked.
    #[error("{0}")]
    Usage(String),
    /// What the broker says, in its words.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// It will not come right by waiting.
    #[error("{0}")]
    Failed(String),
    /// It might have, but not in time.
    #[error("gave up after {}: {why}", duration(*.after))]
    GaveUp {
        /// How long was tried.
        after: Duration,
        /// Why the last attempt failed.
        why: String,
    },
    /// A signal came first.
    #[error("stopped by a signal")]
    Stopped,
}

/// Prints a line for people on standard error: why something takes its time, or how it ended. Never anything secret.
pub fn print_line(text: &str) {
    eprintln!("runner-broker: {text}");
}

/// A variable of the process's environment; an empty one counts as unset.
pub fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?.to_string_lossy().trim().to_owned();
    (!value.is_empty()).then_some(value)
}

/// As people say it: `1.5 s`, `40 s`, `5 min`.
fn duration(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..120 => format!("{} s", duration.as_secs()),
        seconds => format!("{} min", seconds / 60),
    }
}

/// What somebody else wrote, on one line and without anything that a terminal or a CI system would obey.
fn plain(text: &str) -> String {
    text.chars().take(2_000).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
