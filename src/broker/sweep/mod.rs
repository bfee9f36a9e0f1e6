//! The sweep: the table is made true to GitHub. Takes no input and may be interrupted anywhere; every write
//! is fenced by the leader's lease.

mod drift;
mod due;
mod orphans;
mod pace;
pub mod plan;
mod repair;
pub mod status;
mod target;
mod unmanaged;

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use chrono::TimeDelta;
use metrics::{counter, gauge, histogram};
use uuid::Uuid;

use super::provision::KEY_LIFE;
use super::runners::transition::fence;
use super::{Broker, Error};
use crate::github;
use crate::model::Target;
use crate::store::leases::{self, Lease};
use crate::store::{self, idempotency, runners, sync_targets};

/// The lease of everything that only one replica may do.
pub const LEADER: &str = "leader";

/// How long the name of a failed JIT runner stays watched: a lost request may still make its runner.
const WATCH: TimeDelta = TimeDelta::hours(1);

/// How many rows one sweep repairs, deletes or reaps of each kind; the next goes on.
const BATCH: i64 = 500;

/// After so many questions in a row that GitHub did not answer, an owner's other rows wait for the next sweep.
const PATIENCE: u32 = 3;

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Interrupted provisions that were finished.
    pub repaired: usize,
    /// Runners removed: overdue, stale, or asked for and not finished.
    pub removed: usize,
    /// Runners that nobody was given, taken off GitHub.
    pub orphans: usize,
    /// Runners whose labels are not those asked for, reported now.
    pub drifted: usize,
    /// Runners that nobody asked for, reported now.
    pub unmanaged: usize,
    /// Rows whose state followed GitHub's.
    pub moved: usize,
    /// Runners that GitHub listed.
    pub seen: usize,
    /// Targets that GitHub's budget did not bear.
    pub postponed: usize,
    /// Targets or rows that could not be looked at this time.
    pub failures: usize,
}

impl Broker {
    /// Takes or prolongs the leader's lease. `None`: another replica has it.
    pub async fn lead(&self, replica: Uuid) -> Result<Option<Lease>, Error> {
        let mut conn = self.store.conn().await?;
        Ok(leases::acquire(&mut conn, LEADER, replica, self.config.lease).await?)
    }

    /// Gives the lease up at the end.
    pub async fn step_down(&self, lease: &Lease) -> Result<(), Error> {
        let mut conn = self.store.conn().await?;
        Ok(leases::release(&mut conn, lease).await?)
    }

    /// One sweep. What fails for one row or target is reported and does not keep the others waiting; only
    /// the loss of the lease or of Postgres ends it early.
    pub async fn sync(&self, lease: &Lease) -> Result<Report, Error> {
        let started = Instant::now();
        let mut report = Report::default();
        let result = self.sync_all(lease, &mut report).await;
        histogram!("broker_sweep_duration_seconds").record(started.elapsed().as_secs_f64());
        report.count(result.is_ok(), self.clock.now().timestamp());
        result.map(|()| report)
    }

    /// Sweeps the targets that somebody wants swept, and nothing else.
    pub async fn sync_wanted(&self, lease: &Lease) -> Result<Report, Error> {
        let mut report = Report::default();
        if !self.config.sync_enabled {
            return Ok(report);
        }
        let mut conn = self.store.conn().await?;
        let wanted = sync_targets::wanted(&mut conn, self.clock.now()).await?;
        drop(conn);
        if wanted.is_empty() {
            return Ok(report);
        }
        // A wish for what is not ours to sweep is forgotten with it.
        let targets = self.know_targets(lease).await?;
        self.sweep_targets(lease, wanted.iter().filter(|target| targets.contains(target)), &mut report)
            .await?;
        report.count_rows();
        Ok(report)
    }

    /// The targets with live or watched rows, and those that the policy names; the table knows them after.
    async fn know_targets(&self, lease: &Lease) -> Result<BTreeSet<Target>, Error> {
        let now = self.clock.now();
        let mut conn = self.store.conn().await?;
        let mut targets: BTreeSet<Target> =
            runners::targets(&mut conn, now - WATCH).await?.into_iter().collect();
        drop(conn);
        let policy = self.policy.load();
        // What has a star in it is no target.
        let named = policy.rules.teams().iter().flat_map(|team| team.targets());
        targets.extend(named.filter_map(|name| name.parse::<Target>().ok()));
        let known: Vec<Target> = targets.iter().cloned().collect();
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                Ok(sync_targets::replace(conn, &known, now).await?)
            })
            .await?;
        Ok(targets)
    }

    async fn sweep_targets(
        &self,
        lease: &Lease,
        targets: impl Iterator<Item = &Target>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let mut away = Away::default();
        for target in targets {
            if away.skips(target, report) {
                continue;
            }
            let swept = away.heed(target, self.sweep_target(lease, target, report).await);
            report.note(swept, &format!("sweeping {target}"))?;
        }
        Ok(())
    }

    async fn sync_all(&self, lease: &Lease, report: &mut Report) -> Result<(), Error> {
        self.finish_removals(lease, report).await?;
        self.repair_interrupted(lease, report).await?;
        self.keep_deadlines(lease, report).await?;
        if self.config.sync_enabled {
            let targets = self.know_targets(lease).await?;
            self.sweep_targets(lease, targets.iter(), report).await?;
            self.remove_stale(lease, report).await?;
        }
        let before = self.clock.now() - KEY_LIFE;
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                Ok(idempotency::forget(conn, before).await?)
            })
            .await?;
        Ok(())
    }
}

impl Report {
    /// Counts a failure and goes on, unless nothing can go on. `None`: it failed.
    fn note<T>(&mut self, result: Result<T, Error>, doing: &str) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(err @ (Error::LeaseLost | Error::Store(store::Error::Unavailable(_)))) => Err(err),
            Err(err) => {
                tracing::warn!(error = %err, "{doing} failed; the next sweep tries again");
                self.failures += 1;
                Ok(None)
            }
        }
    }

    fn count(&self, ended: bool, now: i64) {
        let result = match (ended && self.failures == 0, self.postponed) {
            (true, 0) => "complete",
            (true, _) => "postponed",
            (false, _) => "incomplete",
        };
        counter!("broker_sweeps_total", "result" => result).increment(1);
        gauge!("broker_sweep_runners_seen").set(self.seen as f64);
        if result == "complete" {
            gauge!("broker_sweep_last_complete_timestamp_seconds").set(now as f64);
        }
        self.count_rows();
    }

    fn count_rows(&self) {
        let done = [
            ("repaired", self.repaired),
            ("removed", self.removed),
            ("orphans", self.orphans),
            ("drifted", self.drifted),
            ("unmanaged", self.unmanaged),
            ("moved", self.moved),
            ("failures", self.failures),
        ];
        for (what, count) in done {
            counter!("broker_sweep_rows_total", "what" => what).increment(count as u64);
        }
    }
}

/// How often in a row GitHub did not answer, by owner: each such question costs its whole time limit.
#[derive(Default)]
struct Away(HashMap<String, u32>);

impl Away {
    /// Whether this target's rows are left to the next sweep.
    fn skips(&self, target: &Target, report: &mut Report) -> bool {
        let skips = self.0.get(target.owner()).is_some_and(|&count| count >= PATIENCE);
        report.failures += usize::from(skips);
        skips
    }

    fn heed<T>(&mut self, target: &Target, result: Result<T, Error>) -> Result<T, Error> {
        let count = self.0.entry(target.owner().to_owned()).or_default();
        *count = match &result {
            Err(Error::GitHub(github::Error::Unavailable { .. } | github::Error::RateLimited { .. })) => {
                *count + 1
            }
            _ => 0,
        };
        result
    }
}
