//! One issuer: the keys that it was last seen to publish, and when it may be asked again.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Mutex;

use super::fetch::{self, Client};
use super::keys::{Judgement, Keys};
use super::token::Unverified;
use super::{Error, IssuerStatus};
use crate::clock::Clock;
use crate::config;

/// Between two attempts, whoever wants them: forged tokens must not make us a nuisance to the issuer.
const COOLDOWN: TimeDelta = TimeDelta::seconds(10);
/// A withdrawn key is trusted for this much longer, and the background loop's round.
const FRESH: TimeDelta = TimeDelta::minutes(5);
/// How long the last known keys serve when the issuer is down.
const TRUSTED: TimeDelta = TimeDelta::hours(24);

pub struct Provider {
    pub config: config::Issuer,
    client: Client,
    clock: Clock,
    known: ArcSwapOption<Known>,
    latest: ArcSwapOption<Attempt>,
    /// Held by the one attempt in flight; the others wait here.
    turn: Arc<Mutex<()>>,
}

struct Known {
    keys: Keys,
    fetched_at: DateTime<Utc>,
    /// By how much our clock was ahead of the issuer's then.
    ahead: Option<TimeDelta>,
}

struct Attempt {
    began_at: DateTime<Utc>,
    /// `None`: not over.
    outcome: Option<Result<(), Arc<fetch::Error>>>,
}

impl Provider {
    pub fn new(config: config::Issuer, client: Client, clock: Clock) -> Provider {
        Provider {
            config,
            client,
            clock,
            known: ArcSwapOption::empty(),
            latest: ArcSwapOption::empty(),
            turn: Arc::default(),
        }
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

    pub fn usable(&self) -> bool {
        self.known.load().as_ref().is_some_and(|known| self.trusts(known) && known.keys.len() > 0)
    }

    pub fn status(&self) -> IssuerStatus {
        let known = self.known.load();
        IssuerStatus {
            issuer: self.config.issuer.clone(),
            usable: self.usable(),
            keys: known.as_ref().map_or(0, |known| known.keys.len()),
            fetched_at: known.as_ref().map(|known| known.fetched_at),
            failure: self.failure().map(|failure| chain(&failure)),
            cause: self.failure(),
            ahead: known.as_ref().and_then(|known| known.ahead),
        }
    }

    pub fn invalid(&self, why: &'static str) -> Error {
        Error::Invalid { why, known_issuer: Some(self.config.issuer.clone()) }
    }

    fn unavailable(&self, source: Arc<fetch::Error>) -> Error {
        let began_at = self.latest.load().as_ref().map_or_else(|| self.clock.now(), |latest| latest.began_at);
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
        match self.latest.load().as_ref()?.outcome.as_ref()? {
            Ok(()) => None,
            Err(failure) => Some(failure.clone()),
        }
    }

    /// One attempt to fetch the keys, shared by all who wait; none soon after another.
    async fn attempt(self: &Arc<Provider>) {
        let turn = self.turn.clone().lock_owned().await;
        let began_at = self.clock.now();
        if self.latest.load().as_ref().is_some_and(|latest| began_at - latest.began_at < COOLDOWN) {
            return;
        }
        self.latest.store(Some(Arc::new(Attempt { began_at, outcome: None })));
        let provider = self.clone();
        // In a task of its own: a caller who hangs up must not take the answer from all the others.
        let task = tokio::spawn(async move {
            let outcome = provider.fetch(began_at).await;
            provider.latest.store(Some(Arc::new(Attempt { began_at, outcome: Some(outcome) })));
            drop(turn);
        });
        // It ends early only with the runtime.
        let _ = task.await;
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
                tracing::warn!(issuer, error = chain(&failure), "cannot fetch the issuer's keys");
                Err(Arc::new(failure))
            }
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}
