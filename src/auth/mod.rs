//! Who is calling: OpenID Connect tokens become identities. Decides nothing about what a caller may do.

#![warn(missing_docs)]

mod fetch;
pub mod keys;
pub mod login;
mod provider;
pub mod token;
mod verifier;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use crate::model::Identity;

pub use fetch::Error as FetchError;
pub use verifier::Verifier;

/// What a token proved.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Whose it is.
    pub identity: Identity,
    /// All claims as the issuer signed them. Texts are the issuer's: they may hold any character.
    pub claims: Map<String, Value>,
}

/// Why a token was not accepted. No variant holds any part of the token but its issuer, once recognised.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The token is at fault.
    #[error("{why}")]
    Invalid {
        /// ASCII without quotes, fit for `error_description` (RFC 6750); one of few, fit for a metric.
        why: &'static str,
        /// The issuer that the token claims to be from, if it is one of ours; proven by nothing.
        known_issuer: Option<String>,
    },
    /// Nobody can say whether the token is good: its issuer's keys are not known.
    #[error("the keys of the issuer {issuer} are not known")]
    IssuerUnavailable {
        /// As configured.
        issuer: String,
        /// The issuer is not asked again before this time.
        until: DateTime<Utc>,
        /// Why the latest attempt failed.
        #[source]
        source: Arc<FetchError>,
    },
    /// The HTTP client could not be set up; only [`Verifier::new`] answers this.
    #[error("the HTTP client for the issuers cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// How an issuer is doing, for health checks and `doctor`.
#[derive(Clone, Debug)]
pub struct IssuerStatus {
    /// As configured.
    pub issuer: String,
    /// Tokens of this issuer can be verified now.
    pub usable: bool,
    /// How many keys of its last answer can be used.
    pub keys: usize,
    /// When its keys were last fetched.
    pub fetched_at: Option<DateTime<Utc>>,
    /// Why the latest attempt failed, with causes; `None`: it did not.
    pub failure: Option<String>,
    /// The same, to tell what to do about it.
    pub cause: Option<Arc<FetchError>>,
    /// By how much our clock was ahead of the issuer's at the last fetch, to the second. `None`: it did not say.
    pub ahead: Option<TimeDelta>,
}
