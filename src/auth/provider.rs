//! One issuer: the keys that it was last seen to publish, and when it may be asked again.
//!
//! Keys are fetched at the start and when older than 5 minutes, in the background. An unknown `kid` fetches at once,
//! at most once in 10 s per issuer, and all callers wait for the same attempt. If the issuer is down its last keys
//! serve for 24 hours; a key that a successful fetch no longer lists is dead at once. Limits: 5 s, 256 KiB.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use chrono::{DateTime, TimeDelta, Utc};

use super::fetch::{self, Client};
use super::keys::{Judgement, Keys};
use super::token::Unverified;
use super::{Error, IssuerStatus};
use crate::clock::Clock;
use crate::config;
use crate::model::with_causes;
use crate::single_flight::SingleFlight;

/// Between two attempts: forged tokens must not make us a nuisance to the issuer.
const COOLDOWN: TimeDelta = TimeDelta::seconds(10);
/// A withdrawn key is trusted for this much longer, and the background loop's round.
const FRESH: TimeDelta = TimeDelta::minutes(5);
/// How long the last known keys serve when the issuer is down.
const TRUSTED: TimeDelta = TimeDelta::hours(24);

/// An issuer whose tokens are accepted. Its keys are fetched when they are needed.
pub struct Provider {
    /// Its issuer, audience, and where its keys are.
    pub config: config::Issuer,
    client: Client,
    clock: Clock,
    known: ArcSwapOption<Known>,
    /// The latest attempt, shared by all who wait for it.
    attempts: Arc<SingleFlight<Attempt>>,
}

struct Known {
    keys: Keys,
    fetched_at: DateTime<Utc>,
    /// By how much our clock was ahead of the issuer's then.
    ahead: Option<TimeDelta>,
}

#[derive(Clone)]
struct Attempt {
    began_at: DateTime<Utc>,
    outcome: Result<(), Arc<fetch::Error>>,
}

impl Provider {
    /// Asks nothing yet.
    pub fn new(config: config::Issuer, client: Client, clock: Clock) -> Provider {
        Provider { config, client, clock, known: ArcSwapOption::empty(), attempts: Arc::default() }
    }

    /// Whether this issuer signed the token. Waits for nothing when the key is known.
    pub async fn authenticate(self: &Arc<Provider>, token: &Unverified<'_>) -> Result<(), Error> {
        let first = self.judge(token);
        let last = match first {
            None | Some(Judgement::UnknownKey) => {
                self.attempt().await;
                self.judge(token)
            }
            settled => settled,
        };
        match last {
            Some(Judgement::Genuine) => Ok(()),
            Some(Judgement::Forged(why)) => Err(self.invalid(why)),
            Some(Judgement::UnknownKey) => match self.failure() {
                None => Err(self.invalid("the token is not signed by a key that its issuer publishes")),
                // The issuer may have a new key that we could not see.
                Some(failure) => Err(self.unavailable(failure)),
            },
            None => Err(self.unavailable(self.failure().unwrap_or_else(|| fetch::Error::Unanswered.into()))),
        }
    }

    /// Fetches the keys if they are not known or no longer fresh.
    pub async fn refresh(self: &Arc<Provider>) {
        let fresh = |known: &Arc<Known>| self.clock.now() - known.fetched_at < FRESH;
        if !self.known.load().as_ref().is_some_and(fresh) {
            self.attempt().await;
        }
    }

    /// Whether there are keys that may be trusted.
    pub fn usable(&self) -> bool {
        self.known.load().as_ref().is_some_and(|known| self.trusts(known) && !known.keys.is_empty())
    }

    /// For health checks and `doctor`.
    pub fn status(&self) -> IssuerStatus {
        let known = self.known.load();
        IssuerStatus {
            issuer: self.config.issuer.clone(),
            usable: self.usable(),
            keys: known.as_ref().map_or(0, |known| known.keys.len()),
            fetched_at: known.as_ref().map(|known| known.fetched_at),
            failure: self.failure().map(|failure| with_causes(&failure)),
            cause: self.failure(),
            ahead: known.as_ref().and_then(|known| known.ahead),
        }
    }

    /// A refusal of one of its tokens.
    pub fn invalid(&self, why: &'static str) -> Error {
        Error::Invalid { why, known_issuer: Some(self.config.issuer.clone()) }
    }

    fn unavailable(&self, source: Arc<fetch::Error>) -> Error {
        let latest = self.attempts.peek(|_| true);
        let began_at = latest.map_or_else(|| self.clock.now(), |latest| latest.began_at);
        Error::IssuerUnavailable { issuer: self.config.issuer.clone(), until: began_at + COOLDOWN, source }
    }

    /// `None`: no keys that may still be trusted.
    fn judge(&self, token: &Unverified<'_>) -> Option<Judgement> {
        let known = self.known.load();
        let known = known.as_ref().filter(|known| self.trusts(known))?;
        Some(known.keys.judge(token))
    }

    fn trusts(&self, known: &Known) -> bool {
        self.clock.now() - known.fetched_at < TRUSTED
    }

    fn failure(&self) -> Option<Arc<fetch::Error>> {
        self.attempts.peek(|_| true)?.outcome.err()
    }

    /// One attempt to fetch the keys, shared by all who wait; none soon after another.
    async fn attempt(self: &Arc<Provider>) {
        let now = self.clock.now();
        let provider = self.clone();
        let is_recent = |latest: &Attempt| now - latest.began_at < COOLDOWN;
        let fetch = || async move {
            let began_at = provider.clock.now();
            Ok(Attempt { began_at, outcome: provider.fetch(began_at).await })
        };
        // It is broken off only with the runtime.
        let _ = self.attempts.get(is_recent, fetch).await;
    }

    async fn fetch(&self, began_at: DateTime<Utc>) -> Result<(), Arc<fetch::Error>> {
        let issuer = self.config.issuer.as_str();
        match self.client.keys(&self.config).await {
            Ok((keys, clock)) => {
                tracing::debug!(issuer, keys = keys.len(), "fetched the issuer's keys");
                let ahead = clock.map(|theirs| self.clock.now() - theirs);
                self.known.store(Some(Arc::new(Known { keys, fetched_at: began_at, ahead })));
                Ok(())
            }
            Err(failure) => {
                tracing::warn!(issuer, error = with_causes(&failure), "cannot fetch the issuer's keys");
                Err(Arc::new(failure))
            }
        }
    }
}
