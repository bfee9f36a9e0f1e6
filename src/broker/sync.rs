//! The sweep: the table is made true to GitHub. Takes no input and may be interrupted anywhere; every write
//! is fenced by the leader's lease.

pub mod plan;

use std::collections::HashMap;
use std::time::Duration;

use chrono::TimeDelta;
use metrics::{counter, gauge, histogram};
use serde_json::json;
use uuid::Uuid;

use super::events::{About, Actor, Kind, record};
use super::lost::is_unstarted;
use super::provision::KEY_LIFE;
use super::remove::{By, IfBusy, fence, gone};
use super::{Broker, Error};
use crate::github::{CachedPage, Listing};
use crate::model::{Method, Status, Target};
use crate::store::leases::{self, Lease};
use crate::store::runners::{self, Change, Runner};
use crate::store::{github_cache, idempotency};

/// The lease of everything that only one replica may do.
pub const LEADER: &str = "leader";

/// How long the name of a failed JIT runner stays watched: a lost request may still make its runner.
const WATCH: TimeDelta = TimeDelta::hours(1);

/// How many rows one sweep repairs, deletes or reaps of each kind; the next goes on.
const BATCH: i64 = 500;

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
        let started = self.clock.now();
        let mut report = Report::default();
        let result = self.sync_all(lease, &mut report).await;
        let took = (self.clock.now() - started).to_std().unwrap_or(Duration::ZERO);
        histogram!("broker_sweep_duration_seconds").record(took.as_secs_f64());
        let label = if result.is_ok() && report.failures == 0 { "complete" } else { "incomplete" };
        counter!("broker_sweeps_total", "result" => label).increment(1);
        gauge!("broker_sweep_runners_seen").set(report.seen as f64);
        if label == "complete" {
            gauge!("broker_sweep_last_complete_timestamp_seconds").set(self.clock.now().timestamp() as f64);
        }
        result.map(|()| report)
    }

    async fn sync_all(&self, lease: &Lease, report: &mut Report) -> Result<(), Error> {
        self.repair_interrupted(lease, report).await?;
        self.finish_removals(lease, report).await?;
        self.keep_deadlines(lease, report).await?;
        if self.config.sync_enabled {
            let mut conn = self.store.conn().await?;
            let targets = runners::targets(&mut conn, self.clock.now() - WATCH).await?;
            drop(conn);
            for target in targets {
                let swept = self.sweep_target(lease, &target, report).await;
                report.note(swept, &format!("sweeping {target}"))?;
            }
            self.remove_stale(lease, self.config.stale_after, report).await?;
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

    /// Finishes `requested` rows whose own request can no longer be at work.
    async fn repair_interrupted(&self, lease: &Lease, report: &mut Report) -> Result<(), Error> {
        let before = self.clock.now() - self.interrupted_after();
        let mut conn = self.store.conn().await?;
        let rows = runners::interrupted(&mut conn, before, BATCH).await?;
        drop(conn);
        for row in rows {
            let repaired = self.repair(lease, &row).await;
            if report.note(repaired, "repairing an interrupted provision")?.is_some() {
                report.repaired += 1;
            }
        }
        Ok(())
    }

    /// Claims the row first, then looks on GitHub: the request's own last step finds its row gone and
    /// withdraws its runner itself, so nothing that was handed out is taken away here.
    async fn repair(&self, lease: &Lease, row: &Runner) -> Result<(), Error> {
        if self.started_meanwhile(lease, row).await? {
            return Ok(());
        }
        let event = self.event(Kind::RunnerStateChanged, Actor::System("sync")).about(row);
        let data = json!({ "from": row.status, "to": Status::Deleting, "reason": "interrupted provision" });
        let change = Change {
            status: Some(Status::Deleting.as_str()),
            deleting_from: Some(None),
            delete_after: Some(None),
            updated_at: Some(event.timestamp),
            ..Change::default()
        };
        match self.move_runner(Some(lease), row, &change, event.with(data)).await? {
            Some(claimed) => self.finish_repair(lease, &claimed).await,
            None => Ok(()),
        }
    }

    /// A repeat of an idempotency key that was interrupted: if the former runner has started by now, it
    /// stays, and the row goes back to `pending`.
    async fn started_meanwhile(&self, lease: &Lease, row: &Runner) -> Result<bool, Error> {
        let (Method::Jit, Some(id)) = (row.method, row.github_runner_id) else {
            return Ok(false);
        };
        match self.github.runner(&row.target, id, self.deadline()).await? {
            Some(found) if !is_unstarted(&found) => {}
            _ => return Ok(false),
        }
        let event = self.event(Kind::RunnerStateChanged, Actor::System("sync")).about(row);
        let data = json!({ "from": row.status, "to": Status::Pending, "reason": "its runner has started" });
        let now = event.timestamp;
        let change =
            Change { status: Some(Status::Pending.as_str()), updated_at: Some(now), ..Change::default() };
        self.move_runner(Some(lease), row, &change, event.with(data)).await?;
        Ok(true)
    }

    /// `deleting → failed` for a claimed row, once nothing of it is on GitHub.
    async fn finish_repair(&self, lease: &Lease, row: &Runner) -> Result<(), Error> {
        let mut removed = false;
        if row.method == Method::Jit {
            removed = self.remove_if_ours(row, self.deadline()).await?;
        }
        let mut event = self.event(Kind::ProvisionFailed, Actor::System("sync")).about(row);
        event.error_code = Some("GITHUB_UNAVAILABLE".into());
        event.error_message = Some("the provision was interrupted".into());
        let event = event.with(json!({ "runner_removed_from_github": removed }));
        let change = Change { failure: Some("interrupted".into()), ..gone(Status::Failed, event.timestamp) };
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                if runners::change(conn, row, &change).await?.is_some() {
                    runners::free_key(conn, row.id).await?;
                    record(conn, event).await?;
                }
                Ok(())
            })
            .await
    }

    /// Goes on with what is `deleting`: removals that were interrupted or met a busy runner, and repairs.
    async fn finish_removals(&self, lease: &Lease, report: &mut Report) -> Result<(), Error> {
        let mut conn = self.store.conn().await?;
        let rows = runners::deleting(&mut conn, self.clock.now(), BATCH).await?;
        drop(conn);
        for row in rows {
            let by = By { actor: Actor::System("sync"), reason: "asked for", lease: Some(lease) };
            let done = match row.deleting_from {
                None => self.finish_repair(lease, &row).await,
                Some(_) => self.finish_deleting(by, row, IfBusy::KeepDeleting).await.map(|_| ()),
            };
            if report.note(done, "finishing a removal")?.is_some() {
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
        for row in rows {
            let reaped = self.reap_overdue(lease, &row).await;
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
                let row = runners::by_id(&mut conn, row.id).await?;
                drop(conn);
                match row.filter(|row| row.status == Status::Pending) {
                    Some(row) => self.remove_runner(by, row, IfBusy::Refuse).await.map(|_| true),
                    None => Ok(false),
                }
            }
            (Method::RegistrationToken, None) => {
                let event = self.event(Kind::RunnerStateChanged, by.actor).about(row);
                let data = json!({ "from": row.status, "to": Status::Deleted, "reason": reason });
                let change = gone(Status::Deleted, event.timestamp);
                Ok(self.move_runner(Some(lease), row, &change, event.with(data)).await?.is_some())
            }
            (_, found) => Ok(found.is_none()),
        }
    }

    /// Lists one target whole and moves its rows by it. A list that broke off changes nothing.
    async fn sweep_target(&self, lease: &Lease, target: &Target, report: &mut Report) -> Result<(), Error> {
        let mut conn = self.store.conn().await?;
        let known = github_cache::pages(&mut conn, target).await?;
        drop(conn);
        let known = known.into_iter().filter_map(to_cached).collect();
        let listing = self.github.list_runners(target, known, self.deadline()).await?;
        report.seen += listing.runners().count();
        let mut conn = self.store.conn().await?;
        let rows = runners::live_on(&mut conn, target).await?;
        let watched = runners::watched_on(&mut conn, target, self.clock.now() - WATCH).await?;
        drop(conn);
        let plan = plan::compare(rows, listing.runners(), listing.started_at);
        report.moved += plan.moves.len() + plan.gone.len();
        self.carry_out(lease, target, plan, &listing).await?;
        self.remove_orphans(lease, &watched, &listing, report).await
    }

    async fn carry_out(
        &self,
        lease: &Lease,
        target: &Target,
        plan: plan::Plan,
        listing: &Listing,
    ) -> Result<(), Error> {
        let (now, at) = (self.clock.now(), listing.started_at);
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                for (row, facts) in &plan.moves {
                    let moved = runners::change(conn, row, &facts.change(at, now)).await?;
                    if moved.is_some() && facts.to != row.status {
                        let event = self.event(Kind::RunnerStateChanged, Actor::System("sync")).about(row);
                        let data = json!({ "from": row.status, "to": facts.to, "reason": "sweep" });
                        record(conn, event.with(data)).await?;
                    }
                }
                for row in &plan.missed {
                    let missed = Some(row.missed_sweeps + 1);
                    let change = Change { missed_sweeps: missed, facts_at: Some(at), ..Change::default() };
                    runners::change(conn, row, &change).await?;
                }
                for row in &plan.gone {
                    if runners::change(conn, row, &gone(Status::Deleted, now)).await?.is_some() {
                        let event = self.event(Kind::RunnerStateChanged, Actor::System("sync")).about(row);
                        let data =
                            json!({ "from": row.status, "to": Status::Deleted, "reason": "not on GitHub" });
                        record(conn, event.with(data)).await?;
                    }
                }
                runners::seen(conn, &plan.still_online, at).await?;
                if listing.changed {
                    let pages: Vec<github_cache::Page> = listing.pages.iter().map(from_cached).collect();
                    github_cache::replace(conn, target, &pages, now).await?;
                }
                Ok(())
            })
            .await
    }

    /// Removes runners of ours that appeared under the name of a failed provision after all.
    async fn remove_orphans(
        &self,
        lease: &Lease,
        watched: &[Runner],
        listing: &Listing,
        report: &mut Report,
    ) -> Result<(), Error> {
        let by_name: HashMap<String, &Runner> =
            watched.iter().map(|row| (row.name.to_ascii_lowercase(), row)).collect();
        for found in listing.runners() {
            let Some(row) = by_name.get(&found.name.to_ascii_lowercase()) else { continue };
            if !self.is_ours(row, found).await? {
                continue;
            }
            self.github.delete_runner(&row.target, found.id, self.deadline()).await?;
            let event = self.event(Kind::OrphanRemoved, Actor::System("sync")).about(row);
            let event = event.with(json!({ "github_runner_id": found.id }));
            self.store
                .transaction::<_, Error, _>(async |conn| {
                    fence(conn, Some(lease)).await?;
                    record(conn, event).await
                })
                .await?;
            report.orphans += 1;
        }
        Ok(())
    }

    async fn remove_stale(&self, lease: &Lease, after: Duration, report: &mut Report) -> Result<(), Error> {
        for row in self.stale(after).await? {
            let removed = self.remove_stale_runner(Some(lease), row).await;
            if report.note(removed, "removing a stale runner")?.is_some() {
                report.removed += 1;
            }
        }
        Ok(())
    }

    /// Runners offline for longer than `after`.
    pub async fn stale(&self, after: Duration) -> Result<Vec<Runner>, Error> {
        let since = self.clock.now() - TimeDelta::from_std(after).unwrap_or(TimeDelta::MAX);
        let mut conn = self.store.conn().await?;
        Ok(runners::stale(&mut conn, since, BATCH).await?)
    }

    /// Removes one of `stale`; without a lease for an operator at the machine.
    pub async fn remove_stale_runner(&self, lease: Option<&Lease>, row: Runner) -> Result<(), Error> {
        let job = if lease.is_some() { "sync" } else { "cleanup" };
        let by = By { actor: Actor::System(job), reason: "stale", lease };
        self.remove_runner(by, row, IfBusy::Refuse).await.map(|_| ())
    }
}

impl Report {
    /// Counts a failure and goes on, unless nothing can go on. `None`: it failed.
    fn note<T>(&mut self, result: Result<T, Error>, doing: &str) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(err @ (Error::LeaseLost | Error::Store(_))) => Err(err),
            Err(err) => {
                tracing::warn!(error = %err, "{doing} failed; the next sweep tries again");
                self.failures += 1;
                Ok(None)
            }
        }
    }
}

/// A page whose content this version does not understand is fetched anew.
fn to_cached(page: github_cache::Page) -> Option<CachedPage> {
    Some(CachedPage {
        page: page.page.try_into().ok()?,
        etag: page.etag,
        runners: serde_json::from_value(page.runners).ok()?,
        has_next: page.has_next,
    })
}

fn from_cached(page: &CachedPage) -> github_cache::Page {
    github_cache::Page {
        page: page.page.try_into().unwrap_or(i32::MAX),
        etag: page.etag.clone(),
        has_next: page.has_next,
        runners: json!(page.runners),
    }
}
