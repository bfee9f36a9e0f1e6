//! What one installation may still ask of GitHub: the hourly budgets as its answers tell them, the pauses that
//! it demanded, and how many calls are under way.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use metrics::gauge;
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::answer::Answer;
use super::deadline::Deadline;
use super::error::Error;
use super::operation::Operation;

/// GitHub allows 100 at a time for an App and a user together; the rest is for who else uses the App.
pub(super) const MAX_CONCURRENT: usize = 80;
/// Kept back for deletes: one in a hundred, at least so many.
const MIN_FLOOR: u64 = 50;
/// GitHub's servers disagree about a window's end by some seconds.
const SAME_WINDOW: TimeDelta = TimeDelta::seconds(5);
/// Where GitHub counts what it names no resource for.
const DEFAULT_RESOURCE: &str = "core";

/// An hourly budget as GitHub last told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BudgetStatus {
    /// The installation's id, or `app` for calls that the App makes as itself.
    pub installation: String,
    /// GitHub's name: `core`, `actions_runner_registration`, ….
    pub resource: String,
    /// Calls in an hour.
    pub limit: u64,
    /// Calls that are left of this hour.
    pub remaining: u64,
    /// When the hour ends.
    pub resets_at: DateTime<Utc>,
    /// Until when GitHub wants no calls at all.
    pub paused_until: Option<DateTime<Utc>>,
}

/// What an installation may still ask in this hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Calls in an hour.
    pub limit: u64,
    /// Calls that are left of this hour.
    pub remaining: u64,
    /// Kept back: at or below it nothing but deletes is sent.
    pub floor: u64,
    /// When the hour ends.
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
    budgets: BTreeMap<Arc<str>, Budget>,
    /// Which budget an operation was counted in when it was last answered.
    resource_of: HashMap<Operation, Arc<str>>,
    paused_until: Option<DateTime<Utc>>,
}

/// One budget. `window` is `None` until an answer reports it.
#[derive(Default)]
struct Budget {
    window: Option<Window>,
    /// Sent and not answered: GitHub may have counted them or not.
    under_way: u64,
}

struct Window {
    limit: u64,
    remaining: u64,
    reset: DateTime<Utc>,
}

impl Window {
    fn floor(&self) -> u64 {
        floor(self.limit)
    }

    /// Answers arrive out of order: within a window the lowest is the newest, an older window tells nothing.
    fn learn(&mut self, told: Window, now: DateTime<Utc>) {
        if told.reset > self.reset + SAME_WINDOW || now >= self.reset {
            *self = told;
        } else if told.reset >= self.reset - SAME_WINDOW {
            self.limit = told.limit;
            self.remaining = self.remaining.min(told.remaining);
        }
    }
}

/// What is kept back of a budget for deletes.
pub(super) fn floor(limit: u64) -> u64 {
    (limit / 100).max(MIN_FLOOR).min(limit / 10)
}

/// One call's place among those under way; it ends when this is dropped.
pub(super) struct Admission<'a> {
    quota: &'a Quota,
    resource: Arc<str>,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if let Some(budget) = self.quota.state().budgets.get_mut(&self.resource) {
            budget.under_way = budget.under_way.saturating_sub(1);
        }
    }
}

impl Quota {
    /// All of `installation`, of which nothing is known yet.
    pub fn new(installation: String) -> Quota {
        Quota { installation, permits: Semaphore::new(MAX_CONCURRENT), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place until the deadline; refuses at once what the budget does not allow. Nothing was sent
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
                let why = format!(
                    "no time was left to ask it (at most {MAX_CONCURRENT} calls are under way at once)"
                );
                return Err(Error::Unavailable { maybe_done: false, why });
            }
        };
        let resource = self.state().count(operation, now())?;
        Ok(Admission { quota: self, resource, _permit })
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
        let name = answer.header("x-ratelimit-resource").unwrap_or(DEFAULT_RESOURCE);
        let mut state = self.state();
        let resource = match state.budgets.get_key_value(name) {
            Some((resource, _)) => resource.clone(),
            None => Arc::from(name),
        };
        if state.resource_of.get(&operation) != Some(&resource) && !operation.is_free() {
            state.resource_of.insert(operation, resource.clone());
        }
        let told = Window { limit, remaining, reset };
        let budget = state.budgets.entry(resource).or_default();
        let window = match &mut budget.window {
            Some(window) => {
                window.learn(told, now);
                window
            }
            unknown => unknown.insert(told),
        };
        let labels = [("installation", self.installation.clone()), ("resource", name.to_owned())];
        gauge!("github_rate_limit_limit", &labels).set(window.limit as f64);
        gauge!("github_rate_limit_remaining", &labels).set(window.remaining as f64);
        gauge!("github_rate_limit_reset_timestamp_seconds", &labels).set(window.reset.timestamp() as f64);
    }

    /// GitHub refused: the budget that this operation is counted in is all gone until then.
    pub fn exhaust(&self, operation: Operation, until: DateTime<Utc>) {
        let mut state = self.state();
        let resource = state.resource(operation);
        let told = &mut state.budgets.entry(resource).or_default().window;
        let limit = told.as_ref().map_or(0, |window| window.limit);
        *told = Some(Window { limit, remaining: 0, reset: until });
    }

    /// Nothing but deletes is sent until then.
    pub fn pause(&self, until: DateTime<Utc>) {
        let mut state = self.state();
        state.paused_until = state.paused_until.max(Some(until));
    }

    /// What is left for lists. `None`: no answer has told of it in this hour.
    pub fn allowance(&self, now: DateTime<Utc>) -> Option<Allowance> {
        let state = self.state();
        let budget = state.budgets.get(&state.resource(Operation::ListRunners))?;
        state.allowance_of(budget, now)
    }

    /// What is left of the budget of which the smallest part is left. `None`: as [`allowance`](Self::allowance).
    pub fn scarcest(&self, now: DateTime<Utc>) -> Option<Allowance> {
        let state = self.state();
        let all = state.budgets.values().filter_map(|budget| state.allowance_of(budget, now));
        all.filter(|budget| budget.limit > 0).min_by_key(|budget| budget.remaining * 1000 / budget.limit)
    }

    /// The budgets that answers have told of, by their names.
    pub fn statuses(&self) -> Vec<BudgetStatus> {
        let state = self.state();
        let status = |(resource, budget): (&Arc<str>, &Budget)| {
            let window = budget.window.as_ref()?;
            Some(BudgetStatus {
                installation: self.installation.clone(),
                resource: resource.to_string(),
                limit: window.limit,
                remaining: window.remaining,
                resets_at: window.reset,
                paused_until: state.paused_until,
            })
        };
        state.budgets.iter().filter_map(status).collect()
    }
}

impl State {
    fn allowance_of(&self, budget: &Budget, now: DateTime<Utc>) -> Option<Allowance> {
        let window = budget.window.as_ref().filter(|window| now < window.reset)?;
        Some(Allowance {
            limit: window.limit,
            remaining: window.remaining,
            floor: window.floor(),
            resets_at: window.reset,
            paused_until: self.paused_until.filter(|&until| now < until),
        })
    }

    fn resource(&self, operation: Operation) -> Arc<str> {
        self.resource_of.get(&operation).cloned().unwrap_or_else(|| Arc::from(operation.usual_resource()))
    }

    /// Counts a call in the budget that it will cost, which is returned.
    fn count(&mut self, operation: Operation, now: DateTime<Utc>) -> Result<Arc<str>, Error> {
        if let Some(until) = self.paused_until.filter(|&until| now < until)
            && !operation.is_delete()
        {
            return Err(Error::RateLimited { until });
        }
        let resource = self.resource(operation);
        let budget = self.budgets.entry(resource.clone()).or_default();
        if let Some(window) = budget.window.as_ref().filter(|window| now < window.reset) {
            let spent = match operation.is_delete() {
                true => window.remaining == 0,
                false => window.remaining.saturating_sub(budget.under_way) <= window.floor(),
            };
            if spent {
                return Err(Error::RateLimited { until: window.reset });
            }
        }
        budget.under_way += 1;
        Ok(resource)
    }
}
