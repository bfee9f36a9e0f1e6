//! What goes on, in numbers: runners by state, how provisions ended, GitHub's budgets, who asks most.
//!
//! The log has millions of events and never changes, so an hour that is over is counted once and remembered. What
//! is left to count is counted at most every 15 seconds, and while somebody reads what was counted before.
//!
//! Provisions are counted by the partial index `audit_log_outcomes`. The log is append-only, so an hour that has
//! been over for 5 minutes is counted once per replica and remembered (at most 92 days). Answers are good for 15 s;
//! one of up to 2 minutes is given while the next is made in the background, once for all. Of callers the 1,000
//! busiest of each hour are kept.

pub mod live;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

use super::{Broker, Error};
use crate::github::BudgetStatus;
use crate::model::Status;
use crate::single_flight::SingleFlights;
use crate::store::stats::{self, Asked, Ended};

/// For how long an answer is good enough for the next who asks.
const FRESH: TimeDelta = TimeDelta::seconds(15);
/// An answer that is older than this is shown to nobody. A loop makes one every minute.
const OLDEST: TimeDelta = TimeDelta::minutes(2);
/// An hour may still get events so long after its end: a transaction ends within seconds, clocks differ by some.
const SETTLED: TimeDelta = TimeDelta::minutes(5);
/// Up to this length a window is shown by the hour.
const BY_HOUR: TimeDelta = TimeDelta::hours(48);
/// How far back is counted before anybody asks, and how much of it at a time.
const AHEAD: TimeDelta = TimeDelta::days(31);
const PORTION: TimeDelta = TimeDelta::days(1);
/// The longest window.
pub const LONGEST: TimeDelta = TimeDelta::days(92);
/// Callers are counted over this time.
const CALLERS_OVER: TimeDelta = TimeDelta::hours(24);
/// So many callers are named, and so many kept of each hour.
const CALLERS_NAMED: usize = 10;
const CALLERS_KEPT: i64 = 1_000;
/// Answers for different windows that are kept.
const ANSWERS_KEPT: usize = 16;

/// From when to when; both are rounded outward to whole hours or days.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// `None`: a day before `until`.
    pub since: Option<DateTime<Utc>>,
    /// `None`: now.
    pub until: Option<DateTime<Utc>>,
}

/// How long a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// One hour.
    Hour,
    /// One day, by UTC.
    Day,
}

impl Bucket {
    /// As answers spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Bucket::Hour => "hour",
            Bucket::Day => "day",
        }
    }

    fn length(self) -> TimeDelta {
        match self {
            Bucket::Hour => TimeDelta::hours(1),
            Bucket::Day => TimeDelta::days(1),
        }
    }
}

/// How provisions ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Ended with a runner.
    pub provisioned: i64,
    /// Refused.
    pub refused: i64,
    /// Failed.
    pub failed: i64,
}

impl Outcomes {
    fn add(&mut self, event_type: &str, count: i64) {
        match event_type {
            "provisioned" => self.provisioned += count,
            "provision_refused" => self.refused += count,
            _ => self.failed += count,
        }
    }
}

/// What ended within one bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provisions {
    /// Of all teams.
    pub all: Outcomes,
    /// `None`: refused before a team was settled.
    pub by_team: BTreeMap<Option<String>, Outcomes>,
}

/// Somebody who asks for runners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopCaller {
    /// The caller's issuer.
    pub issuer: String,
    /// The caller's subject.
    pub subject: String,
    /// The last name that the caller had.
    pub display_name: String,
    /// Ended with a runner.
    pub provisioned: i64,
    /// Refused or failed.
    pub not_provisioned: i64,
}

/// The numbers.
#[derive(Clone, Debug)]
pub struct Stats {
    /// When they were counted.
    pub computed_at: DateTime<Utc>,
    /// The beginning of the window.
    pub since: DateTime<Utc>,
    /// The end of the window, exclusive.
    pub until: DateTime<Utc>,
    /// How long each bucket is.
    pub bucket: Bucket,
    /// Live ones, every live state.
    pub runners: Vec<(Status, i64)>,
    /// Every bucket of the window, by its beginning.
    pub provisions: BTreeMap<DateTime<Utc>, Provisions>,
    /// As this replica knows them.
    pub github: Vec<BudgetStatus>,
    /// Of the last 24 hours.
    pub top_callers: Vec<TopCaller>,
}

type Key = (DateTime<Utc>, DateTime<Utc>, Bucket);

/// What was computed and may be used again.
#[derive(Debug)]
pub struct Computed {
    /// The answer to each window; one is computed at a time.
    answers: SingleFlights<Key, Arc<Stats>, Arc<Error>>,
    /// What all answers are made from; held while one is computed.
    hours: tokio::sync::Mutex<Hours>,
}

impl Default for Computed {
    fn default() -> Computed {
        Computed { answers: SingleFlights::new(ANSWERS_KEPT), hours: tokio::sync::Mutex::default() }
    }
}

/// Hours that are over, by their beginning. The callers' only as far back as anybody asks.
#[derive(Debug, Default)]
struct Hours {
    provisions: BTreeMap<DateTime<Utc>, Vec<Ended>>,
    callers: BTreeMap<DateTime<Utc>, Vec<Asked>>,
}

fn younger_than(age: TimeDelta, now: DateTime<Utc>) -> impl Fn(&Arc<Stats>) -> bool {
    move |stats| now - stats.computed_at < age
}

/// The hour that this is in.
fn hour_of(time: DateTime<Utc>) -> DateTime<Utc> {
    floor(time, Bucket::Hour)
}

fn floor(time: DateTime<Utc>, bucket: Bucket) -> DateTime<Utc> {
    time.duration_trunc(bucket.length()).unwrap_or(time)
}

impl Broker {
    /// Not older than 15 seconds if somebody asked within two minutes before, for then the next answer is made
    /// while this one is read; who asks first waits.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn stats(self: &Arc<Self>, window: Window) -> Result<Arc<Stats>, Error> {
        let now = self.clock.now();
        let key = key(window, now);
        let flight = self.stats.answers.of(&key);
        if let Some(fresh) = flight.peek(younger_than(FRESH, now)) {
            return Ok(fresh);
        }
        if let Some(older) = flight.peek(younger_than(OLDEST, now)) {
            let broker = self.clone();
            flight.refresh(|| async move {
                let computed = broker.computed(key).await;
                if let Err(err) = &computed {
                    tracing::warn!(error = %err, "counting what goes on failed");
                }
                computed
            });
            return Ok(older);
        }
        self.fresh_stats(key, now).await
    }

    async fn fresh_stats(self: &Arc<Self>, key: Key, now: DateTime<Utc>) -> Result<Arc<Stats>, Error> {
        let broker = self.clone();
        let flight = self.stats.answers.of(&key);
        let computed = flight.get(younger_than(FRESH, now), || async move { broker.computed(key).await });
        computed.await.map_err(Error::Shared)
    }

    async fn computed(self: &Arc<Self>, key: Key) -> Result<Arc<Stats>, Arc<Error>> {
        let broker = self.clone();
        let work = async move {
            let mut hours = broker.stats.hours.lock().await;
            let now = broker.clock.now();
            broker.compute(key, &mut hours, now).await.map(Arc::new)
        };
        self.run_detached(work).await.map_err(Arc::new)
    }

    /// Counts what the next who asks would wait for: the last day, and one day more of the last month.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn count_ahead(self: &Arc<Self>) -> Result<(), Error> {
        let now = self.clock.now();
        self.fresh_stats(key(Window::default(), now), now).await?;
        let mut hours = self.stats.hours.lock().await;
        let mut known = hour_of(now - SETTLED);
        while hours.provisions.contains_key(&(known - TimeDelta::hours(1))) {
            known -= TimeDelta::hours(1);
        }
        let from = (known - PORTION).max(hour_of(now - AHEAD));
        if from < known {
            let ended = stats::provisions_by_hour(&mut *self.store.conn().await?, from, known).await?;
            remember(&mut hours.provisions, ended, from, known, |ended| ended.hour);
        }
        Ok(())
    }

    async fn compute(
        &self,
        (since, until, bucket): Key,
        hours: &mut Hours,
        now: DateTime<Utc>,
    ) -> Result<Stats, Error> {
        let mut conn = self.store.conn().await?;
        let live = stats::live_by_status(&mut conn).await?;
        let open = hour_of(now - SETTLED);
        let callers_since = hour_of(now - CALLERS_OVER);

        let mut unfinished = Vec::new();
        for (from, to) in unknown(&hours.provisions, since, until, open) {
            let ended = stats::provisions_by_hour(&mut conn, from, to).await?;
            unfinished.extend(remember(&mut hours.provisions, ended, from, to.min(open), |ended| ended.hour));
        }
        let mut asking = Vec::new();
        for (from, to) in unknown(&hours.callers, callers_since, open + TimeDelta::hours(2), open) {
            let asked = stats::callers_by_hour(&mut conn, from, to, CALLERS_KEPT).await?;
            asking.extend(remember(&mut hours.callers, asked, from, to.min(open), |asked| asked.hour));
        }
        drop(conn);

        let mut provisions = every_bucket(since, until, bucket);
        let finished = hours.provisions.range(since..until).flat_map(|(_, ended)| ended);
        for ended in finished.chain(&unfinished) {
            let in_bucket = provisions.entry(floor(ended.hour, bucket)).or_default();
            in_bucket.all.add(&ended.event_type, ended.count);
            in_bucket.by_team.entry(ended.team.clone()).or_default().add(&ended.event_type, ended.count);
        }
        let asked = hours.callers.range(callers_since..).flat_map(|(_, asked)| asked);
        let top_callers = busiest(asked.chain(&asking));
        hours.provisions.retain(|hour, _| now - *hour <= LONGEST + TimeDelta::days(2));
        hours.callers.retain(|hour, _| *hour >= callers_since);

        let count = |status: &Status| live.iter().find(|(of, _)| of == status).map_or(0, |(_, count)| *count);
        Ok(Stats {
            computed_at: now,
            since,
            until,
            bucket,
            runners: Status::LIVE.iter().map(|status| (*status, count(status))).collect(),
            provisions,
            github: self.github.budgets(),
            top_callers,
        })
    }
}

fn key(window: Window, now: DateTime<Utc>) -> Key {
    let until = window.until.unwrap_or(now);
    let since = window.since.unwrap_or(until - TimeDelta::days(1));
    let bucket = if until - since <= BY_HOUR { Bucket::Hour } else { Bucket::Day };
    // The end is the beginning of the next bucket, unless it is one already.
    let last = floor(until - TimeDelta::microseconds(1), bucket);
    (floor(since, bucket), last + bucket.length(), bucket)
}

/// The runs of hours between `since` and `until` that are not remembered. Those from `open` on never are.
fn unknown<T>(
    known: &BTreeMap<DateTime<Utc>, T>,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    open: DateTime<Utc>,
) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
    let mut runs: Vec<(DateTime<Utc>, DateTime<Utc>)> = Vec::new();
    let mut hour = since;
    while hour < until {
        let next = hour + TimeDelta::hours(1);
        if hour >= open || !known.contains_key(&hour) {
            match runs.last_mut().filter(|(_, end)| *end == hour) {
                Some((_, end)) => *end = next,
                None => runs.push((hour, next)),
            }
        }
        hour = next;
    }
    runs
}

/// Remembers what was counted of the hours between `from` and `until`, which are over; an hour without anything is
/// known as well. What is left is of other hours.
fn remember<T>(
    known: &mut BTreeMap<DateTime<Utc>, Vec<T>>,
    counted: Vec<T>,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    hour_of: impl Fn(&T) -> DateTime<Utc>,
) -> Vec<T> {
    let mut hour = from;
    while hour < until {
        known.insert(hour, Vec::new());
        hour += TimeDelta::hours(1);
    }
    let mut rest = Vec::new();
    for one in counted {
        match hour_of(&one) {
            at if (from..until).contains(&at) => known.entry(at).or_default().push(one),
            _ => rest.push(one),
        }
    }
    rest
}

fn every_bucket(
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    bucket: Bucket,
) -> BTreeMap<DateTime<Utc>, Provisions> {
    let mut buckets = BTreeMap::new();
    let mut at = since;
    while at < until {
        buckets.insert(at, Provisions::default());
        at += bucket.length();
    }
    buckets
}

fn busiest<'a>(asked: impl Iterator<Item = &'a Asked>) -> Vec<TopCaller> {
    let mut callers: HashMap<(&str, &str), TopCaller> = HashMap::new();
    for one in asked {
        let caller = callers.entry((&one.issuer, &one.subject)).or_insert_with(|| TopCaller {
            issuer: one.issuer.clone(),
            subject: one.subject.clone(),
            display_name: String::new(),
            provisioned: 0,
            not_provisioned: 0,
        });
        // Hours come in their order: the last name stays.
        caller.display_name.clone_from(&one.display_name);
        caller.provisioned += one.provisioned;
        caller.not_provisioned += one.not_provisioned;
    }
    let mut callers: Vec<TopCaller> = callers.into_values().collect();
    let asked = |caller: &TopCaller| caller.provisioned + caller.not_provisioned;
    callers.sort_by(|a, b| {
        asked(b).cmp(&asked(a)).then_with(|| (&a.issuer, &a.subject).cmp(&(&b.issuer, &b.subject)))
    });
    callers.truncate(CALLERS_NAMED);
    callers
}
