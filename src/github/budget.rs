//! What one installation may still ask of GitHub: the hourly budgets as its answers tell them, the pauses that
//! it demanded, and how many calls are under way.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use metrics::gauge;
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::call::Operation;
use super::deadline::Deadline;
use super::error::Error;
use super::wire::Answer;

/// GitHub allows 100 at a time for an App and a user together; the rest is for who else uses the App.
pub(super) const AT_ONCE: usize = 80;
/// Kept back for deletes: one in a hundred, at least so many.
const LEAST_FLOOR: u64 = 50;
/// GitHub's servers disagree about a window's end by some seconds.
const SAME_WINDOW: TimeDelta = TimeDelta::seconds(5);
/// Where a call is counted until an answer has told.
const USUAL: &str = "core";

/// An hourly budget as GitHub last told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BudgetStatus {
    /// The installation's id, or `app` for calls that the App makes as itself.
    pub installation: String,
    /// GitHub's name: `core`, `actions_runner_registration`, ….
    pub resource: String,
    pub limit: u64,
    pub remaining: u64,
    pub resets_at: DateTime<Utc>,
    /// Until when GitHub wants no calls at all.
    pub paused_until: Option<DateTime<Utc>>,
}

/// The budgets and the queue of one installation.
pub(super) struct Quota {
    installation: String,
    permits: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    windows: BTreeMap<Arc<str>, Window>,
    /// Which budget an operation was counted in when it was last answered.
    resource_of: HashMap<Operation, Arc<str>>,
    paused_until: Option<DateTime<Utc>>,
}

struct Window {
    limit: u64,
    remaining: u64,
    reset: DateTime<Utc>,
    /// Sent and not answered: GitHub may have counted them or not.
    under_way: u64,
}

impl Window {
    fn floor(&self) -> u64 {
        (self.limit / 100).max(LEAST_FLOOR).min(self.limit / 10)
    }

    /// Answers arrive out of order: within a window the lowest is the newest, an older window tells nothing.
    fn learn(&mut self, limit: u64, remaining: u64, reset: DateTime<Utc>, now: DateTime<Utc>) {
        if reset > self.reset + SAME_WINDOW || now >= self.reset {
            (self.limit, self.remaining, self.reset) = (limit, remaining, reset);
        } else if reset >= self.reset - SAME_WINDOW {
            (self.limit, self.remaining) = (limit, self.remaining.min(remaining));
        }
    }
}

/// One call's place among those under way; it ends when this is dropped.
pub(super) struct Admission<'a> {
    quota: &'a Quota,
    counted: Option<Arc<str>>,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        let Some(resource) = &self.counted else { return };
        if let Some(window) = self.quota.state().windows.get_mut(resource) {
            window.under_way = window.under_way.saturating_sub(1);
        }
    }
}

impl Quota {
    pub fn new(installation: String) -> Quota {
        Quota { installation, permits: Semaphore::new(AT_ONCE), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place until the deadline; refuses at once what the budget does not bear. Nothing was sent
    /// when this fails.
    pub async fn admit(
        &self,
        operation: Operation,
        now: impl Fn() -> DateTime<Utc>,
        deadline: Deadline,
    ) -> Result<Admission<'_>, Error> {
        let _permit = match tokio::time::timeout_at(deadline.at(), self.permits.acquire()).await {
            Ok(Ok(permit)) if !deadline.remaining().is_zero() => permit,
            _ => {
                let why =
                    format!("no time was left to ask it (at most {AT_ONCE} calls are under way at once)");
                return Err(Error::Unavailable { maybe_done: false, why });
            }
        };
        let counted = self.state().count(operation, now())?;
        Ok(Admission { quota: self, counted, _permit })
    }

    /// Reads the budget off an answer.
    pub fn note(&self, operation: Operation, answer: &Answer, now: DateTime<Utc>) {
        let number = |name| answer.number(name).and_then(|n| u64::try_from(n).ok());
        let reset = answer.number("x-ratelimit-reset").and_then(|at| DateTime::from_timestamp(at, 0));
        let (Some(limit), Some(remaining), Some(reset)) =
            (number("x-ratelimit-limit"), number("x-ratelimit-remaining"), reset)
        else {
            return;
        };
        let name = answer.header("x-ratelimit-resource").unwrap_or(USUAL);
        let mut state = self.state();
        let resource = match state.windows.get_key_value(name) {
            Some((resource, _)) => resource.clone(),
            None => Arc::from(name),
        };
        if state.resource_of.get(&operation) != Some(&resource) {
            state.resource_of.insert(operation, resource.clone());
        }
        let window =
            state.windows.entry(resource).or_insert(Window { limit, remaining, reset, under_way: 0 });
        window.learn(limit, remaining, reset, now);
        let labels = [("installation", self.installation.clone()), ("resource", name.to_owned())];
        gauge!("github_rate_limit_limit", &labels).set(window.limit as f64);
        gauge!("github_rate_limit_remaining", &labels).set(window.remaining as f64);
        gauge!("github_rate_limit_reset_timestamp_seconds", &labels).set(window.reset.timestamp() as f64);
    }

    /// Nothing but deletes is sent until then.
    pub fn pause(&self, until: DateTime<Utc>) {
        let mut state = self.state();
        state.paused_until = state.paused_until.max(Some(until));
    }

    pub fn statuses(&self) -> Vec<BudgetStatus> {
        let state = self.state();
        let status = |(resource, window): (&Arc<str>, &Window)| BudgetStatus {
            installation: self.installation.clone(),
            resource: resource.to_string(),
            limit: window.limit,
            remaining: window.remaining,
            resets_at: window.reset,
            paused_until: state.paused_until,
        };
        state.windows.iter().map(status).collect()
    }
}

impl State {
    /// Counts a call in its budget's window, if one is known.
    fn count(&mut self, operation: Operation, now: DateTime<Utc>) -> Result<Option<Arc<str>>, Error> {
        if let Some(until) = self.paused_until.filter(|&until| now < until)
            && !operation.is_delete()
        {
            return Err(Error::RateLimited { until });
        }
        let resource = self.resource_of.get(&operation).cloned().unwrap_or_else(|| Arc::from(USUAL));
        let Some(window) = self.windows.get_mut(&resource).filter(|window| now < window.reset) else {
            return Ok(None);
        };
        let spent = match operation.is_delete() {
            true => window.remaining == 0,
            false => window.remaining.saturating_sub(window.under_way) <= window.floor(),
        };
        if spent {
            return Err(Error::RateLimited { until: window.reset });
        }
        window.under_way += 1;
        Ok(Some(resource))
    }
}
