//! One target's list and what follows from it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::json;

use super::plan::{self, Facts};
use super::{Report, WATCH};
use crate::broker::events::{About, Actor, Kind, record, record_all};
use crate::broker::moves::{fence, gone};
use crate::broker::{Broker, Error};
use crate::github::{self, CachedPage, Deadline, Listing, Removal};
use crate::model::{Status, Target};
use crate::store::audit::NewEvent;
use crate::store::github_cache;
use crate::store::leases::Lease;
use crate::store::runners::{self, Runner};

/// What a whole list may take: thousands of runners are many pages, each with a time limit of its own.
const LISTING: Duration = Duration::from_secs(300);

/// How many rows move in one transaction: the lease cannot be prolonged meanwhile.
const AT_ONCE: usize = 200;

impl Broker {
    /// Lists one target whole and moves its rows by it. A list that broke off changes nothing.
    pub(super) async fn sweep_target(
        &self,
        lease: &Lease,
        target: &Target,
        report: &mut Report,
    ) -> Result<(), Error> {
        let mut conn = self.store.conn().await?;
        let known = github_cache::pages(&mut conn, target).await?;
        drop(conn);
        let known = known.into_iter().filter_map(to_cached).collect();
        let listing = self.github.list_runners(target, known, Deadline::within(LISTING)).await?;
        report.seen += listing.runners().count();
        // After the list: what the list shows was claimed before.
        let mut conn = self.store.conn().await?;
        let rows = runners::live_on(&mut conn, target).await?;
        let watched = runners::watched_on(&mut conn, target, self.clock.now() - WATCH).await?;
        drop(conn);
        let live: HashSet<String> = rows.iter().map(|row| row.name.to_ascii_lowercase()).collect();
        let plan = plan::compare(rows, listing.runners(), listing.started_at);
        self.carry_out(lease, target, plan, &listing, report).await?;
        self.remove_orphans(lease, &watched, &live, &listing, report).await
    }

    async fn carry_out(
        &self,
        lease: &Lease,
        target: &Target,
        plan: plan::Plan,
        listing: &Listing,
        report: &mut Report,
    ) -> Result<(), Error> {
        let at = listing.started_at;
        for moves in plan.moves.chunks(AT_ONCE) {
            let moves = moves.iter().map(|(row, facts)| (row, Some(facts)));
            report.moved += self.move_all(lease, moves.collect(), listing).await?;
        }
        for gone in plan.gone.chunks(AT_ONCE) {
            let moves = gone.iter().map(|row| (row, None));
            report.moved += self.move_all(lease, moves.collect(), listing).await?;
        }
        let now = self.clock.now();
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                runners::missed(conn, &plan.missed, at).await?;
                runners::seen(conn, &plan.still_online, at).await?;
                if listing.changed {
                    let pages: Vec<github_cache::Page> = listing.pages.iter().map(from_cached).collect();
                    github_cache::replace(conn, target, &pages, now).await?;
                }
                Ok(())
            })
            .await
    }

    /// Moves these rows by what GitHub shows of each (`None`: nothing any more), in one transaction. How many
    /// changed their state.
    async fn move_all(
        &self,
        lease: &Lease,
        moves: Vec<(&Runner, Option<&Facts>)>,
        listing: &Listing,
    ) -> Result<usize, Error> {
        let (now, at) = (self.clock.now(), listing.started_at);
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                let mut events: Vec<NewEvent> = Vec::new();
                for (row, facts) in moves {
                    let (to, reason, change) = match facts {
                        Some(facts) => (facts.to, "sweep", facts.change(at, now)),
                        None => (Status::Deleted, "not on GitHub", gone(Status::Deleted, now)),
                    };
                    if runners::follow(conn, row, &change, at).await?.is_some() && to != row.status {
                        let event = self.event(Kind::RunnerStateChanged, Actor::System("sync")).about(row);
                        events.push(event.with(json!({ "from": row.status, "to": to, "reason": reason })));
                    }
                }
                record_all(conn, &events).await?;
                Ok(events.len())
            })
            .await
    }

    /// Removes runners of ours that appeared under the name of a failed provision after all. A name that is
    /// `live` again is that provision's: its runner may be known to no row yet.
    async fn remove_orphans(
        &self,
        lease: &Lease,
        watched: &[Runner],
        live: &HashSet<String>,
        listing: &Listing,
        report: &mut Report,
    ) -> Result<(), Error> {
        let by_name: HashMap<String, &github::Runner> =
            listing.runners().map(|found| (found.name.to_ascii_lowercase(), found)).collect();
        for row in watched {
            let name = row.name.to_ascii_lowercase();
            let Some(found) = by_name.get(&name).filter(|_| !live.contains(&name)) else { continue };
            let removed = self.remove_orphan(lease, row, found).await;
            if report.note(removed, "removing an orphan")? == Some(true) {
                report.orphans += 1;
            }
        }
        Ok(())
    }

    async fn remove_orphan(
        &self,
        lease: &Lease,
        row: &Runner,
        found: &github::Runner,
    ) -> Result<bool, Error> {
        if !self.is_ours(row, found).await?
            || self.github.delete_runner(&row.target, found.id, self.deadline()).await? != Removal::Removed
        {
            return Ok(false);
        }
        let event = self.event(Kind::OrphanRemoved, Actor::System("sync")).about(row);
        let event = event.with(json!({ "github_runner_id": found.id }));
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                record(conn, event).await
            })
            .await?;
        Ok(true)
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
