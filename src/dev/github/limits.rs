//! GitHub's limits: the hourly budget of each (installation, resource), and the secondary ones.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::answer::Answer;

pub(super) const CORE: &str = "core";
pub(super) const REGISTRATION: &str = "actions_runner_registration";
/// What is reported while limits are off: never near its end.
const BOUNDLESS: u64 = 1_000_000_000;

/// What one installation may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests an hour.
    pub core: u64,
    /// JIT configs, registration and remove tokens an hour.
    pub registration: u64,
    /// Requests at the same time.
    pub concurrent: u32,
    /// A minute; a GET is 1, a write 5.
    pub points: u64,
}

impl Default for Limits {
    /// An installation's least.
    fn default() -> Limits {
        Limits { core: 5_000, registration: 10_000, concurrent: 100, points: 900 }
    }
}

impl Limits {
    /// An installation's in an Enterprise Cloud.
    pub fn generous() -> Limits {
        Limits { core: 15_000, ..Limits::default() }
    }
}

#[derive(Clone, Copy)]
struct Window {
    used: u64,
    reset: DateTime<Utc>,
}

/// Counts for each installation; 0 is the App itself.
#[derive(Default)]
pub(super) struct Meter {
    /// `None`: counts, never refuses.
    pub limits: Option<Limits>,
    hours: HashMap<(u64, &'static str), Window>,
    minutes: HashMap<u64, Window>,
    in_flight: HashMap<u64, u32>,
}

impl Meter {
    pub fn enter(&mut self, who: u64) {
        *self.in_flight.entry(who).or_default() += 1;
    }

    pub fn leave(&mut self, who: u64) {
        if let Some(count) = self.in_flight.get_mut(&who) {
            *count = count.saturating_sub(1);
        }
    }

    /// The refusal that a call meets, if it meets one; else its points are taken.
    pub fn refusal(
        &mut self,
        who: u64,
        resource: &'static str,
        points: u64,
        now: DateTime<Utc>,
    ) -> Option<Answer> {
        let limits = self.limits.clone()?;
        if self.in_flight.get(&who).is_some_and(|&count| count > limits.concurrent) {
            return Some(secondary(429, 60));
        }
        let minute = window(self.minutes.entry(who), now, TimeDelta::minutes(1));
        if minute.used + points > limits.points {
            let wait = (minute.reset - now).num_seconds().max(0) as u64 + 1;
            return Some(secondary(403, wait));
        }
        minute.used += points;
        let hour = window(self.hours.entry((who, resource)), now, TimeDelta::hours(1));
        if hour.used >= of(&limits, resource) {
            return Some(exhausted(who));
        }
        None
    }

    /// Nothing but so much is left of the hour.
    pub fn leave_only(&mut self, who: u64, resource: &str, remaining: u64, now: DateTime<Utc>) {
        let resource = if resource == REGISTRATION { REGISTRATION } else { CORE };
        let limit = self.limit(resource);
        let hour = window(self.hours.entry((who, resource)), now, TimeDelta::hours(1));
        hour.used = limit.saturating_sub(remaining);
    }

    /// Takes one request from the hour.
    pub fn charge(&mut self, who: u64, resource: &'static str, now: DateTime<Utc>) {
        window(self.hours.entry((who, resource)), now, TimeDelta::hours(1)).used += 1;
    }

    /// The `x-ratelimit-*` headers as they stand after the call.
    pub fn report(&mut self, answer: Answer, who: u64, resource: &'static str, now: DateTime<Utc>) -> Answer {
        let limit = self.limit(resource);
        let hour = window(self.hours.entry((who, resource)), now, TimeDelta::hours(1));
        headers(answer, resource, limit, hour.used.min(limit), hour.reset)
    }

    /// The body of `GET /rate_limit`, which is free.
    pub fn overview(&mut self, who: u64, now: DateTime<Utc>) -> Value {
        let mut of = |resource| {
            let limit = self.limit(resource);
            let hour = window(self.hours.entry((who, resource)), now, TimeDelta::hours(1));
            let used = hour.used.min(limit);
            json!({ "limit": limit, "used": used, "remaining": limit - used, "reset": hour.reset.timestamp() })
        };
        let core = of(CORE);
        json!({
            "resources": { "core": core, "search": of("search"), REGISTRATION: of(REGISTRATION) },
            "rate": core,
        })
    }

    fn limit(&self, resource: &str) -> u64 {
        self.limits.as_ref().map_or(BOUNDLESS, |limits| of(limits, resource))
    }
}

fn of(limits: &Limits, resource: &str) -> u64 {
    match resource {
        REGISTRATION => limits.registration,
        "search" => 30,
        _ => limits.core,
    }
}

fn window<'a, K>(
    entry: std::collections::hash_map::Entry<'a, K, Window>,
    now: DateTime<Utc>,
    length: TimeDelta,
) -> &'a mut Window {
    let window = entry.or_insert(Window { used: 0, reset: now + length });
    if window.reset <= now {
        *window = Window { used: 0, reset: now + length };
    }
    window
}

fn headers(answer: Answer, resource: &str, limit: u64, used: u64, reset: DateTime<Utc>) -> Answer {
    answer
        .with("x-ratelimit-limit", limit.to_string())
        .with("x-ratelimit-remaining", limit.saturating_sub(used).to_string())
        .with("x-ratelimit-used", used.to_string())
        .with("x-ratelimit-reset", reset.timestamp().to_string())
        .with("x-ratelimit-resource", resource)
}

/// What a fault answers: the budget is used up until `reset`.
pub(super) fn rate_limited(who: u64, resource: &str, reset: DateTime<Utc>) -> Answer {
    let limit = of(&Limits::default(), resource);
    headers(exhausted(who), resource, limit, limit, reset)
}

fn exhausted(who: u64) -> Answer {
    Answer::error(403, &format!("API rate limit exceeded for installation ID {who}."))
}

/// A secondary limit, with the seconds to wait.
pub(super) fn secondary(status: u16, wait: u64) -> Answer {
    let message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
    Answer::error(status, message).with("retry-after", wait.to_string())
}
