//! What is due whatever GitHub lists: removals to go on with, deadlines, and runners offline for too long.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;

use super::BATCH;
use super::drift::DRIFT;
use super::outages::OwnerOutages;
use super::report::Report;
use crate::broker::events::{About, Actor, Kind};
use crate::broker::runners::facts::is_unstarted;
use crate::broker::runners::remove::{IfBusy, Outcome};
use crate::broker::runners::transition::{Cause, gone, tried};
use crate::broker::{Broker, Error};
use crate::model::{Method, Status};
use crate::store::leases::Lease;
use crate::store::runners::{self, Runner};

impl Broker {
    /// Goes on with what is `deleting`: removals that were interrupted or met a busy runner, and repairs.
    pub(super) async fn finish_removals(&self, lease: &Lease, report: &mut Report) -> Result<(), Error> {
        let mut conn = self.store.conn().await?;
        let rows = runners::deleting(&mut conn, self.clock.now(), BATCH).await?;
        drop(conn);
        let mut outages = OwnerOutages::default();
        for row in rows {
            if outages.skips(&row.target, report) {
                continue;
            }
            let target = row.target.clone();
            let reason = if row.drifted_labels.is_some() { DRIFT } else { "asked for" };
            let by = Cause { actor: Actor::System("sync"), reason, lease: Some(lease) };
            if row.deleting_from.is_none() {
                let done = outages.record(&target, self.finish_repair(lease, &row).await);
                report.repaired +=
                    usize::from(report.note(done, "finishing a repair")?.is_some_and(|done| done));
                continue;
            }
            let if_busy = if row.wait_until_idle { IfBusy::KeepDeleting } else { IfBusy::Refuse };
            let done = match self.finish_deleting(by, row, if_busy).await {
                // Nobody wanted to wait, so it is again what it was.
                Err(Error::RunnerBusy(_)) => continue,
                done => outages.record(&target, done),
            };
            if let Some((_, Outcome::Deleted)) = report.note(done, "finishing a removal")? {
                report.removed += 1;
            }
        }
        Ok(())
    }

    /// Reaps JIT runners past their start deadline, and rows whose registration token ended unused.
    pub(super) async fn keep_deadlines(&self, lease: &Lease, report: &mut Report) -> Result<(), Error> {
        let mut conn = self.store.conn().await?;
        let rows = runners::overdue(&mut conn, self.clock.now(), BATCH).await?;
        drop(conn);
        let mut outages = OwnerOutages::default();
        for row in rows {
            if outages.skips(&row.target, report) {
                continue;
            }
            let reaped = outages.record(&row.target, self.reap_overdue(lease, &row).await);
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
        let by = Cause { actor: Actor::System("sync"), reason, lease: Some(lease) };
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

    pub(super) async fn remove_stale(&self, lease: &Lease, report: &mut Report) -> Result<(), Error> {
        let mut outages = OwnerOutages::default();
        for row in self.stale_runners(self.config.stale_after, BATCH).await? {
            if outages.skips(&row.target, report) {
                continue;
            }
            let target = row.target.clone();
            let removed = outages.record(&target, self.remove_stale_runner(Some(lease), row).await);
            if report.note(removed, "removing a stale runner")? == Some(true) {
                report.removed += 1;
            }
        }
        Ok(())
    }

    /// All runners offline for longer than `after`.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn stale(&self, after: Duration) -> Result<Vec<Runner>, Error> {
        self.stale_runners(after, i64::MAX).await
    }

    async fn stale_runners(&self, after: Duration, limit: i64) -> Result<Vec<Runner>, Error> {
        let since = self.clock.now() - TimeDelta::from_std(after).unwrap_or(TimeDelta::MAX);
        let mut conn = self.store.conn().await?;
        Ok(runners::stale(&mut conn, since, limit).await?)
    }

    /// Removes one of `stale`, without a lease for an operator at the machine; `false`: it has come back.
    ///
    /// # Errors
    ///
    /// [`Error::RunnerInFlight`], [`Error::RunnerBusy`], [`Error::GitHub`], [`Error::LeaseLost`] or
    /// [`Error::Store`].
    pub async fn remove_stale_runner(&self, lease: Option<&Lease>, row: Runner) -> Result<bool, Error> {
        let job = if lease.is_some() { "sync" } else { "cleanup" };
        let by = Cause { actor: Actor::System(job), reason: "stale", lease };
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
