//! What changes from moment to moment, asked once for all who look on, however many they are.
//!
//! Postgres is asked at most every 3 seconds (numbers over time, security counts and the sweep: every 15), for all
//! teams at once. Each page and each stream takes its visitor's part.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Outcomes, Stats, Window};
use crate::broker::people::caller::Caller;
use crate::broker::people::scopes::runner_scope;
use crate::broker::security::Type;
use crate::broker::sweep::status::SyncStatus;
use crate::broker::{Broker, Error};
use crate::model::Status;
use crate::single_flight::SingleFlight;
use crate::store::runners::Scope;
use crate::store::stats::Live;
use crate::store::{audit, security, stats};

/// For how long an answer is good enough for the next who looks.
const FRESH: TimeDelta = TimeDelta::seconds(3);
/// The same, for what costs more to ask.
const SLOW: TimeDelta = TimeDelta::seconds(15);
/// An older answer than this is shown to nobody, even while a new one is being made.
const OLDEST: TimeDelta = TimeDelta::minutes(2);
/// Security events are counted over this time.
pub const SECURITY_OVER: TimeDelta = TimeDelta::hours(24);
/// Of each type so many, and no more.
pub const MOST_SECURITY: i64 = 1_000;

/// How things stand, of all teams.
#[derive(Clone, Debug)]
pub struct Pulse {
    /// When it was asked.
    pub at: DateTime<Utc>,
    /// Another one means that something happened.
    pub newest_event: Option<i64>,
    live: Arc<Vec<Live>>,
    /// The numbers that are asked less often.
    pub slow: Arc<Slow>,
}

/// What is asked less often.
#[derive(Debug)]
pub struct Slow {
    at: DateTime<Utc>,
    security: Vec<(Type, Option<String>, i64)>,
    /// Of the last 24 hours.
    pub stats: Arc<Stats>,
    /// The state of the sweep.
    pub sync: SyncStatus,
}

/// Whose part of it somebody sees.
#[derive(Clone, Debug)]
pub enum Share {
    /// All teams.
    All,
    /// These teams.
    Teams(HashSet<String>),
}

impl Share {
    /// The share that this caller may see.
    pub fn of(caller: &Caller) -> Share {
        match runner_scope(caller) {
            Scope::All => Share::All,
            Scope::Teams(teams) => Share::Teams(teams.into_iter().collect()),
        }
    }

    fn has(&self, team: Option<&str>) -> bool {
        match self {
            Share::All => true,
            Share::Teams(teams) => team.is_some_and(|team| teams.contains(team)),
        }
    }
}

impl Pulse {
    /// How many live runners are in which state; every live state.
    pub fn runners(&self, share: &Share) -> Vec<(Status, i64)> {
        let count = |status| {
            let these = self.live.iter().filter(|of| of.status == status && share.has(Some(&of.team)));
            these.map(|of| of.count).sum()
        };
        Status::LIVE.iter().map(|&status| (status, count(status))).collect()
    }

    /// How many live runners one team has.
    pub fn runners_of(&self, team: &str) -> i64 {
        self.live.iter().filter(|of| of.team == team).map(|of| of.count).sum()
    }

    /// How provisions ended, by the hour of the last 24.
    pub fn provisions(&self, share: &Share) -> Vec<(DateTime<Utc>, Outcomes)> {
        let hours = self.slow.stats.provisions.iter();
        hours
            .map(|(hour, ended)| match share {
                Share::All => (*hour, ended.all),
                Share::Teams(_) => {
                    let own = ended.by_team.iter().filter(|(team, _)| share.has(team.as_deref()));
                    (
                        *hour,
                        own.fold(Outcomes::default(), |sum, (_, more)| Outcomes {
                            provisioned: sum.provisioned + more.provisioned,
                            refused: sum.refused + more.refused,
                            failed: sum.failed + more.failed,
                        }),
                    )
                }
            })
            .collect()
    }

    /// Security events of the last 24 hours by type, the gravest first; those of which there were any. The third says
    /// whether there may be more.
    pub fn security(&self, share: &Share) -> Vec<(Type, i64, bool)> {
        let mut counts: Vec<_> = Type::ALL
            .into_iter()
            .filter_map(|kind| {
                let of_kind = || self.slow.security.iter().filter(move |(of, ..)| *of == kind);
                let own = of_kind().filter(|(_, team, _)| share.has(team.as_deref()));
                let count: i64 = own.map(|(.., count)| count).sum();
                let all: i64 = of_kind().map(|(.., count)| count).sum();
                (count > 0).then_some((kind, count, all >= MOST_SECURITY))
            })
            .collect();
        counts.sort_by_key(|(kind, ..)| std::cmp::Reverse(kind.severity()));
        counts
    }
}

/// The last answer, and the one that is being made.
pub type PulseFlight = Arc<SingleFlight<Pulse, Arc<Error>>>;

impl Broker {
    /// Not older than 3 seconds, or some more while somebody else is at it; numbers over time and the sweep not
    /// older than 15.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn pulse(self: &Arc<Self>) -> Result<Pulse, Error> {
        let now = self.clock.now();
        let younger_than = |age: TimeDelta| move |pulse: &Pulse| now - pulse.at < age;
        if let Some(fresh) = self.pulse.peek(younger_than(FRESH)) {
            return Ok(fresh);
        }
        if self.pulse.is_running()
            && let Some(older) = self.pulse.peek(younger_than(OLDEST))
        {
            return Ok(older);
        }
        let broker = self.clone();
        let fetch = || async move {
            let work = {
                let broker = broker.clone();
                async move { broker.fresh_pulse().await }
            };
            broker.run_detached(work).await.map_err(Arc::new)
        };
        self.pulse.get(younger_than(FRESH), fetch).await.map_err(Error::Shared)
    }

    async fn fresh_pulse(self: &Arc<Self>) -> Result<Pulse, Error> {
        let now = self.clock.now();
        let known = self.pulse.peek(|pulse| now - pulse.at < OLDEST).map(|pulse| pulse.slow);
        let slow = match known.filter(|slow| now - slow.at < SLOW) {
            Some(slow) => slow,
            None => Arc::new(self.slow_pulse(now).await?),
        };
        let mut conn = self.store.conn().await?;
        let live = Arc::new(stats::live_by_team(&mut conn).await?);
        let newest_event = audit::newest(&mut conn).await?;
        Ok(Pulse { at: now, newest_event, live, slow })
    }

    async fn slow_pulse(self: &Arc<Self>, now: DateTime<Utc>) -> Result<Slow, Error> {
        let stats = self.stats(Window::default()).await?;
        let sync = self.sync_status().await?;
        let types: Vec<&'static str> = Type::ALL.into_iter().map(Type::as_str).collect();
        let mut conn = self.store.conn().await?;
        let counted = security::counts(&mut conn, &types, now - SECURITY_OVER, MOST_SECURITY).await?;
        let typed = |one: security::Count| Some((one.security_type.parse().ok()?, one.team, one.count));
        Ok(Slow { at: now, security: counted.into_iter().filter_map(typed).collect(), stats, sync })
    }
}
