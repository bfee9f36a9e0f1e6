//! The sweep: the table is made true to GitHub. Takes no input and may be interrupted anywhere; every write
//! is fenced by the leader's lease.

mod drift;
mod due;
mod orphans;
mod outages;
mod pace;
pub mod plan;
mod repair;
pub mod report;
pub mod status;
mod target;
mod unmanaged;

use std::collections::BTreeSet;
use std::time::Instant;

use metrics::histogram;

use super::lease::fence;
use super::provision::KEY_LIFE;
use super::{Broker, Error};
use crate::model::Target;
use crate::store::leases::Lease;
use crate::store::{idempotency, runners, sync_targets};
use outages::OwnerOutages;
use report::Report;

/// How many rows one sweep repairs, deletes or reaps of each kind; the next goes on.
const BATCH: i64 = 500;

impl Broker {
    /// One sweep. What fails for one row or target is reported and does not keep the others waiting; only
    /// the loss of the lease or of Postgres ends it early.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] or [`Error::Store`].
    pub async fn sync(&self, lease: &Lease) -> Result<Report, Error> {
        let started = Instant::now();
        let mut report = Report::default();
        let result = self.sync_all(lease, &mut report).await;
        histogram!("broker_sweep_duration_seconds").record(started.elapsed().as_secs_f64());
        report.count(result.is_ok(), self.clock.now().timestamp());
        result.map(|()| report)
    }

    /// Sweeps the targets that somebody wants swept, and nothing else.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] or [`Error::Store`].
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
            runners::targets(&mut conn, self.watched_since()).await?.into_iter().collect();
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
        let mut outages = OwnerOutages::default();
        for target in targets {
            if outages.skips(target, report) {
                continue;
            }
            let swept = outages.record(target, self.sweep_target(lease, target, report).await);
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
