//! How often callers may make the broker ask GitHub. GitHub's hour is everybody's: what asks GitHub beside a provision
//! has a rate for those with the same teams and roles, and when little of the hour is left, that is for the teams that
//! have used least of it.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use governor::clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::caller::Caller;
use crate::broker::{Broker, Error};
use crate::clock::Clock;
use crate::model::Target;

/// Calls beside provisions in a minute, and at once.
const A_MINUTE: NonZeroU32 = NonZeroU32::new(30).expect("not zero");

/// Of a budget, one part of so many is kept for teams which have used less than that.
const RESERVE: u64 = 10;

/// The broker's clock, as governor reads one.
#[derive(Clone)]
struct Ticks(Clock);

impl clock::Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.now().timestamp_nanos_opt().unwrap_or_default().max(0).unsigned_abs())
    }
}

/// What callers have made the broker ask, in this process.
pub(in crate::broker) struct GitHubCalls {
    ticks: Ticks,
    limiter: RateLimiter<String, HashMapStateStore<String>, Ticks, NoOpMiddleware<Nanos>>,
    /// By team: when the hour ends that is counted, and the provisions in it.
    provisions: Mutex<HashMap<String, (DateTime<Utc>, u64)>>,
}

impl GitHubCalls {
    pub(in crate::broker) fn new(clock: Clock) -> GitHubCalls {
        let ticks = Ticks(clock);
        let limiter = RateLimiter::hashmap_with_clock(Quota::per_minute(A_MINUTE), ticks.clone());
        GitHubCalls { ticks, limiter, provisions: Mutex::default() }
    }

    /// One provision more of this team; how many they are in the hour that ends then.
    fn provision(&self, team: &str, hour_ends: DateTime<Utc>) -> u64 {
        let mut provisions = self.provisions.lock().unwrap_or_else(PoisonError::into_inner);
        let of_team = provisions.entry(team.to_owned()).or_insert((hour_ends, 0));
        // GitHub's servers disagree by seconds about when an hour ends.
        if hour_ends - of_team.0 > TimeDelta::minutes(1) {
            *of_team = (hour_ends, 0);
        }
        of_team.1 += 1;
        of_team.1
    }
}

impl Broker {
    /// Counts one call at GitHub that is no provision.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyGitHubCalls`].
    pub(in crate::broker) fn spend_github_call(&self, caller: &Caller) -> Result<(), Error> {
        self.spend_github_calls(caller, NonZeroU32::MIN)
    }

    /// Counts so many.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyGitHubCalls`].
    pub(in crate::broker) fn spend_github_calls(
        &self,
        caller: &Caller,
        calls: NonZeroU32,
    ) -> Result<(), Error> {
        let GitHubCalls { limiter, ticks, .. } = &self.github_calls;
        let wait = match limiter.check_key_n(&caller.standing(), calls) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(denied)) => TimeDelta::from_std(denied.wait_time_from(clock::Clock::now(ticks))).ok(),
            Err(_) => None,
        };
        Err(Error::TooManyGitHubCalls { until: self.clock.now() + wait.unwrap_or(TimeDelta::minutes(1)) })
    }

    /// Counts a provision of this team, and refuses it if the rest of GitHub's hour is for other teams.
    ///
    /// # Errors
    ///
    /// [`Error::GitHubHourIsOthers`].
    pub(in crate::broker) fn spend_provision(&self, team: &str, target: &Target) -> Result<(), Error> {
        let Some(budget) = self.github.scarcest(target) else { return Ok(()) };
        let reserve = budget.limit / RESERVE;
        let left = budget.remaining.saturating_sub(budget.floor);
        let used = self.github_calls.provision(team, budget.resets_at);
        match left < reserve && used > reserve {
            true => Err(Error::GitHubHourIsOthers { until: budget.resets_at }),
            false => Ok(()),
        }
    }
}
