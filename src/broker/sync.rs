//! The sweep: the table is made true to GitHub. Takes no input and may be interrupted anywhere; every write
//! is fenced by the leader's lease.

pub mod plan;
mod repair;
mod target;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use metrics::{counter, gauge, histogram};
use serde_json::json;
use uuid::Uuid;

use super::events::{About, Actor, Kind};
use super::lost::is_unstarted;
use super::moves::{By, fence, gone, tried};
use super::provision::KEY_LIFE;
use super::remove::{IfBusy, Outcome};
use super::{Broker, Error};
use crate::github;
use crate::model::{Method, Status, Target};
use crate::store::leases::{self, Lease};
use crate::store::runners::{self, Runner};
use crate::store::{self, idempotency};

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
    /// Rows whose state followed GitHub's.
    pub moved: usize,
    /// Runners that GitHub listed.
    pub seen: usize,
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
        report.count(result.is_ok() && report.failures == 0, self.clock.now().timestamp());
        result.map(|()| report)
    }

    async fn sync_all(&self, lease: &Lease, report: &mut Report) -> Result<(), Error> {
        self.finish_removals(lease, report).await?;
        self.repair_interrupted(lease, report).await?;
        self.keep_deadlines(lease, report).await?;
        if self.config.sync_enabled {
            let mut conn = self.store.conn().await?;
            let targets = runners::targets(&mut conn, self.clock.now() - WATCH).await?;
            drop(conn);
            for target in targets {
                let swept = self.sweep_target(lease, &target, report).await;
                report.note(swept, &format!("sweeping {target}"))?;
            }
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

    /// Goes on with what is `deleting`: removals that were interrupted or met a busy runner, and repairs.
    async fn finish_removals(&self, lease: &Lease, report: &mut Report) -> Result<(), Error> {
        let mut conn = self.store.conn().await?;
        let rows = runners::deleting(&mut conn, self.clock.now(), BATCH).await?;
        drop(conn);
        let mut away = Away::default();
        for row in rows {
            if away.skips(&row.target, report) {
                continue;
            }
            let target = row.target.clone();
            let by = By { actor: Actor::System("sync"), reason: "asked for", lease: Some(lease) };
            if row.deleting_from.is_none() {
                let done = away.heed(&target, self.finish_repair(lease, &row).await);
                report.repaired +=
                    usize::from(report.note(done, "finishing a repair")?.is_some_and(|done| done));
                continue;
            }
            let if_busy = if row.wait_until_idle { IfBusy::KeepDeleting } else { IfBusy::Refuse };
            let done = match self.finish_deleting(by, row, if_busy).await {
                // Nobody wanted to wait, so it is again what it was.
                Err(Error::RunnerBusy(_)) => continue,
                done => away.heed(&target, done),
            };
            if let Some((_, Outcome::Deleted)) = report.note(done, "finishing a removal")? {
                report.removed += 1;
            }
        }
        Ok(())
    }

    /// Reaps JIT runners past their start deadline, and rows whose registration token ended unused.
    async fn keep_deadlines(&self, lease: &Lease, report: &mut Report) -> Result<(), Error> {
        let mut conn = self.store.conn().await?;
        let rows = runners::overdue(&mut conn, self.clock.now(), BATCH).await?;
        drop(conn);
        let mut away = Away::default();
        for row in rows {
            if away.skips(&row.target, report) {
                continue;
            }
            let reaped = away.heed(&row.target, self.reap_overdue(lease, &row).await);
            if matches!(reaped, Err(Error::GitHub(_))) {
                let change = tried(&row, self.clock.now());
                self.change_silently(Some(lease), &row, &change).await?;
            }
            if report.note(reaped, "reaping an overdue runner")? == Some(true) {
                report.removed += 1;
            }
        }
        Ok(())
    }

    /// Whether the row was overdue indeed: it may have started unseen.
    async fn reap_overdue(&self, lease: &Lease, row: &Runner) -> Result<bool, Error> {
        let reason = match row.method {
            Method::Jit => "start deadline",
            Method::RegistrationToken => "registration token ended unused",
        };
        let by = By { actor: Actor::System("sync"), reason, lease: Some(lease) };
        let found = self.look(by, row).await?;
        match (row.method, found) {
            (Method::Jit, Some(found)) if is_unstarted(&found) => {
                let mut conn = self.store.conn().await?;
                let now = runners::by_id(&mut conn, row.id).await?;
                drop(conn);
                // A repeat of its key may have replaced the runner that was looked at.
                let is_same = |now: &Runner| now.status == Status::Pending && now.claim() == row.claim();
                match now.filter(is_same) {
                    Some(row) => self.remove_runner(by, row, IfBusy::Refuse).await.map(|_| true),
                    None => Ok(false),
                }
            }
            (Method::RegistrationToken, None) if row.github_runner_id.is_none() => {
                let event = self.event(Kind::RunnerStateChanged, by.actor).about(row);
                let data = json!({ "from": row.status, "to": Status::Deleted, "reason": reason });
                let change = gone(Status::Deleted, event.timestamp);
                Ok(self.move_runner(Some(lease), row, &change, event.with(data)).await?.is_some())
            }
            (_, found) => Ok(found.is_none()),
        }
    }

    async fn remove_stale(&self, lease: &Lease, report: &mut Report) -> Result<(), Error> {
        let mut away = Away::default();
        for row in self.stale_runners(self.config.stale_after, BATCH).await? {
            if away.skips(&row.target, report) {
                continue;
            }
            let target = row.target.clone();
            let removed = away.heed(&target, self.remove_stale_runner(Some(lease), row).await);
            if report.note(removed, "removing a stale runner")? == Some(true) {
                report.removed += 1;
            }
        }
        Ok(())
    }

    /// All runners offline for longer than `after`.
    pub async fn stale(&self, after: Duration) -> Result<Vec<Runner>, Error> {
        self.stale_runners(after, i64::MAX).await
    }

    async fn stale_runners(&self, after: Duration, limit: i64) -> Result<Vec<Runner>, Error> {
        let since = self.clock.now() - TimeDelta::from_std(after).unwrap_or(TimeDelta::MAX);
        let mut conn = self.store.conn().await?;
        Ok(runners::stale(&mut conn, since, limit).await?)
    }

    /// Removes one of `stale`, without a lease for an operator at the machine; `false`: it has come back.
    pub async fn remove_stale_runner(&self, lease: Option<&Lease>, row: Runner) -> Result<bool, Error> {
        let job = if lease.is_some() { "sync" } else { "cleanup" };
        let by = By { actor: Actor::System(job), reason: "stale", lease };
        // The list that showed it offline may be old: it may have come back since.
        self.look(by, &row).await?;
        let mut conn = self.store.conn().await?;
        let now = runners::by_id(&mut conn, row.id).await?;
        drop(conn);
        match now {
            Some(now) if now.status == Status::Offline && now.last_seen_at == row.last_seen_at => {
                self.remove_runner(by, now, IfBusy::Refuse).await.map(|_| true)
            }
            now => Ok(now.is_none_or(|now| now.status == Status::Deleted)),
        }
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

    fn count(&self, complete: bool, now: i64) {
        let result = if complete { "complete" } else { "incomplete" };
        counter!("broker_sweeps_total", "result" => result).increment(1);
        let done = [
            ("repaired", self.repaired),
            ("removed", self.removed),
            ("orphans", self.orphans),
            ("moved", self.moved),
            ("failures", self.failures),
        ];
        for (what, count) in done {
            counter!("broker_sweep_rows_total", "what" => what).increment(count as u64);
        }
        gauge!("broker_sweep_runners_seen").set(self.seen as f64);
        if complete {
            gauge!("broker_sweep_last_complete_timestamp_seconds").set(now as f64);
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
