//! One target's list and what follows from it.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use super::pace;
use super::plan::{self, Plan};
use super::report::Report;
use super::unmanaged::unmanaged_runners;
use crate::broker::events::{About, Actor, Kind, record_all};
use crate::broker::lease::fence;
use crate::broker::provision::late::orphans;
use crate::broker::runners::transition::Cause;
use crate::broker::{Broker, Error};
use crate::github::{self, CachedPage, Deadline, Listing};
use crate::model::{Status, Target};
use crate::store::leases::Lease;
use crate::store::runners::{self, Observation};
use crate::store::sync_targets::{self, SweepResult};
use crate::store::{self, github_cache};

/// What a whole list may take: thousands of runners are many pages, each with a time limit of its own.
const LISTING: Duration = Duration::from_secs(300);

/// How many rows change in one transaction: the lease cannot be prolonged meanwhile, and no statement may take
/// more than seconds.
const AT_ONCE: usize = 2_000;

/// How many runners one sweep asks for one by one.
const ASKED_FOR: usize = 50;

/// When a sweep that somebody wanted, and that broke off, is tried again.
const RETRY_AFTER: TimeDelta = TimeDelta::seconds(15);

/// What a list says of rows that do not change their state.
#[derive(Clone, Copy)]
enum Mark {
    Missed,
    Seen,
    Undrifted,
}

impl Broker {
    /// Lists one target whole and moves its rows by it. A list that broke off changes nothing.
    pub(super) async fn sweep_target(
        &self,
        lease: &Lease,
        target: &Target,
        report: &mut Report,
    ) -> Result<(), Error> {
        let turn = self.sweeping.lock().await;
        let mut conn = self.store.conn().await?;
        let before = sync_targets::get(&mut conn, target).await?;
        let known = github_cache::pages(&mut conn, target).await?;
        drop(conn);
        let last = before.as_ref().and_then(|before| before.started_at);
        if self.is_postponed(lease, target, last).await? {
            report.postponed += 1;
            return Ok(());
        }
        let begun = self.clock.now();
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                Ok(sync_targets::begin(conn, target, begun).await?)
            })
            .await?;
        let known = known.into_iter().filter_map(to_cached).collect();
        let wanted = before.and_then(|before| before.wanted_at).is_some();
        let listed = self.github.list_runners(target, known, Deadline::within(LISTING)).await;
        let listing = match listed {
            Ok(listing) => listing,
            Err(err) => {
                let err = Error::GitHub(err);
                self.break_off(lease, target, &err, wanted).await?;
                return Err(err);
            }
        };
        report.seen += listing.runners().count();

        // After the list: what the list shows was claimed before.
        let at = listing.started_at;
        let mut conn = self.store.conn().await?;
        let rows = runners::live_on(&mut conn, target).await?;
        let watched = runners::watched_on(&mut conn, target, self.watched_since()).await?;
        drop(conn);
        let orphans = orphans(&watched, &rows, listing.runners());
        let ours: HashSet<i64> = orphans.iter().map(|(_, found)| found.id).collect();
        let unmanaged = unmanaged_runners(&rows, &ours, listing.runners(), at);
        let theirs = listing.runners().filter(|found| !ours.contains(&found.id));
        let mut plan = plan::compare(&rows, theirs, at);
        plan.drifts.retain(|drift| self.is_news(drift));
        // The list may be incomplete: GitHub is asked for each runner that it misses.
        let unsure = if listing.shows_all() { Vec::new() } else { std::mem::take(&mut plan.gone) };
        let followed = async {
            self.carry_out(lease, &plan, at, report).await?;
            let unmanaged = self.report_unmanaged(lease, target, unmanaged, at, report).await?;
            self.complete(lease, target, &listing).await?;
            Ok(unmanaged)
        };
        let unmanaged = match followed.await {
            Ok(unmanaged) => unmanaged,
            Err(err @ (Error::LeaseLost | Error::Store(store::Error::Unavailable(_)))) => return Err(err),
            Err(err) => {
                self.break_off(lease, target, &err, wanted).await?;
                return Err(err);
            }
        };

        // What is asked of GitHub now may take its time, and is the same however often it is asked.
        drop(turn);
        for row in unsure.into_iter().take(ASKED_FOR) {
            let by = Cause { actor: Actor::System("sync"), reason: "not on GitHub", lease: Some(lease) };
            let looked = self.look(by, row).await;
            if report
                .note(looked, "looking for a runner that a list missed")?
                .is_some_and(|found| found.is_none())
            {
                report.moved += 1;
            }
        }
        self.settle_drifts(lease, &plan.drifts, at, report).await?;
        self.remove_orphans(lease, &orphans, report).await?;
        self.remove_unmanaged(lease, target, unmanaged, report).await
    }

    async fn is_postponed(
        &self,
        lease: &Lease,
        target: &Target,
        last: Option<DateTime<Utc>>,
    ) -> Result<bool, Error> {
        let Some(allowance) = self.github.allowance(target) else { return Ok(false) };
        let interval = self.config.sync_interval;
        let Some(until) = pace::postponed(&allowance, last, interval, self.clock.now()) else {
            return Ok(false);
        };
        let why = pace::explained(&allowance, until);
        tracing::debug!(%target, why, "a sweep is postponed");
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                Ok(sync_targets::postpone(conn, target, &why, until).await?)
            })
            .await?;
        Ok(true)
    }

    async fn break_off(
        &self,
        lease: &Lease,
        target: &Target,
        err: &Error,
        wanted: bool,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let (result, again) = match err {
            Error::GitHub(github::Error::RateLimited { until }) => (SweepResult::Postponed, Some(*until)),
            _ => (SweepResult::Incomplete, wanted.then(|| now + RETRY_AFTER)),
        };
        let why = err.to_string();
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                Ok(sync_targets::break_off(conn, target, now, result, &why, again).await?)
            })
            .await
    }

    async fn carry_out(
        &self,
        lease: &Lease,
        plan: &Plan<'_>,
        at: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let moves = plan.moves.iter().map(|(row, facts)| facts.of(row));
        let observations: Vec<Observation<'_>> =
            moves.chain(plan.gone.iter().map(|row| Observation::gone(row))).collect();
        for some in observations.chunks(AT_ONCE) {
            report.moved += self.move_all(lease, some, at).await?;
        }
        for (mark, ids) in [
            (Mark::Missed, &plan.missed),
            (Mark::Seen, &plan.still_online),
            (Mark::Undrifted, &plan.undrifted),
        ] {
            for some in ids.chunks(AT_ONCE) {
                self.mark(lease, mark, some, at).await?;
            }
        }
        Ok(())
    }

    async fn mark(&self, lease: &Lease, mark: Mark, ids: &[Uuid], at: DateTime<Utc>) -> Result<(), Error> {
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                match mark {
                    Mark::Missed => runners::missed(conn, ids, at).await?,
                    Mark::Seen => runners::seen(conn, ids, at).await?,
                    Mark::Undrifted => runners::undrifted(conn, ids).await?,
                };
                Ok(())
            })
            .await
    }

    /// Moves these rows in one statement, with their events in another. How many changed their state.
    async fn move_all(
        &self,
        lease: &Lease,
        observations: &[Observation<'_>],
        at: DateTime<Utc>,
    ) -> Result<usize, Error> {
        let now = self.clock.now();
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                let moved = runners::follow_all(conn, observations, at, now).await?;
                let news = observations.iter().filter(|one| one.to != one.seen.status);
                let events = news.filter(|one| moved.contains(&one.seen.id)).map(|one| {
                    let reason = if one.to == Status::Deleted { "not on GitHub" } else { "sweep" };
                    let data = json!({ "from": one.seen.status, "to": one.to, "reason": reason });
                    self.event(Kind::RunnerStateChanged, Actor::System("sync")).about(one.seen).with(data)
                });
                let events: Vec<_> = events.collect();
                record_all(conn, &events).await?;
                Ok(events.len())
            })
            .await
    }

    async fn complete(&self, lease: &Lease, target: &Target, listing: &Listing) -> Result<(), Error> {
        let now = self.clock.now();
        let seen = i64::try_from(listing.runners().count()).unwrap_or(i64::MAX);
        let last = i32::try_from(listing.pages.len()).unwrap_or(i32::MAX);
        let changed = listing.pages.iter().filter(|page| listing.changed.contains(&page.page));
        let changed: Vec<github_cache::Page> = changed.map(from_cached).collect();
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                if !changed.is_empty() {
                    github_cache::write(conn, target, &changed, last, now).await?;
                }
                Ok(sync_targets::complete(conn, target, now, seen).await?)
            })
            .await
    }
}

/// A page whose content this version does not understand is fetched anew.
fn to_cached(page: github_cache::Page) -> Option<CachedPage> {
    Some(CachedPage {
        page: page.page.try_into().ok()?,
        etag: page.etag,
        runners: serde_json::from_value(page.runners).ok()?,
        has_next: page.has_next,
        total: page.total.and_then(|total| total.try_into().ok()),
    })
}

fn from_cached(page: &CachedPage) -> github_cache::Page {
    github_cache::Page {
        page: page.page.try_into().unwrap_or(i32::MAX),
        etag: page.etag.clone(),
        has_next: page.has_next,
        runners: json!(page.runners),
        total: page.total.and_then(|total| total.try_into().ok()),
    }
}
