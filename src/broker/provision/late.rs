//! What a lost request makes late: under the name of a row that has ended since, or got its runner by another request.
//! Nobody was given it, and it is not taken for anybody's.

use std::collections::HashMap;
use std::{iter, slice};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::lost_answer::is_as_asked;
use crate::broker::events::{About, Actor, Kind, record};
use crate::broker::lease::fence;
use crate::broker::runners::facts::is_unstarted;
use crate::broker::{Broker, Error};
use crate::github::{self, Deadline, Removal};
use crate::model::Method;
use crate::store::audit;
use crate::store::leases::Lease;
use crate::store::runners::{self, Runner};

/// How long the name of a JIT runner stays watched after its row ended, at least.
const WATCH: TimeDelta = TimeDelta::hours(1);

/// What GitHub calls the system of a runner that has not told it.
const UNKNOWN: &str = "unknown";

/// Watched rows with what the list shows under their names, as far as it may be theirs. What may be a `live` row's is
/// left to that: its runner may be known to no row yet.
pub(in crate::broker) fn orphans<'a>(
    watched: &'a [Runner],
    live: &[Runner],
    list: impl Iterator<Item = &'a github::Runner>,
) -> Vec<(&'a Runner, &'a github::Runner)> {
    if watched.is_empty() {
        return Vec::new();
    }
    let live: HashMap<String, &Runner> =
        live.iter().map(|row| (row.name.to_ascii_lowercase(), row)).collect();
    let mut by_name: HashMap<String, Vec<&Runner>> = HashMap::new();
    for row in watched {
        by_name.entry(row.name.to_ascii_lowercase()).or_default().push(row);
    }
    let mut orphans = Vec::new();
    for found in list.filter(|found| is_unstarted(found)) {
        let name = found.name.to_ascii_lowercase();
        let Some(rows) = by_name.get(&name) else { continue };
        if live.get(&name).is_some_and(|row| may_be_its(row, found)) {
            continue;
        }
        // Of several that ended under one name, any that asked for just this. What a row knows was handed out.
        let row = rows.iter().find(|row| row.github_runner_id != Some(found.id) && is_as_asked(row, found));
        orphans.extend(row.map(|row| (*row, found)));
    }
    orphans
}

/// Whether `found`, which never connected, may be this live row's. A registration's runner told GitHub its version and
/// its system when it registered.
fn may_be_its(row: &Runner, found: &github::Runner) -> bool {
    row.method == Method::Jit
        || row.github_runner_id == Some(found.id)
        || found.os.as_ref().is_some_and(|os| !os.eq_ignore_ascii_case(UNKNOWN))
}

impl Broker {
    /// The names of rows that ended since then are watched: long enough for two sweeps.
    pub(in crate::broker) fn watched_since(&self) -> DateTime<Utc> {
        let sweeps = TimeDelta::from_std(self.config.sync_interval.saturating_mul(2)).unwrap_or(WATCH);
        self.clock.now() - sweeps.max(WATCH)
    }

    /// The runner that was registered under the name of a row whose registration nobody has seen yet. What a lost JIT
    /// request made under that name is none.
    pub(in crate::broker) async fn registered(
        &self,
        row: &Runner,
        deadline: Deadline,
    ) -> Result<Option<github::Runner>, Error> {
        match self.github.runner_named(&row.target, &row.name, deadline).await? {
            Some(found) if is_unstarted(&found) => {
                let watched = self.watched(row).await?;
                let is_orphan = !orphans(&watched, slice::from_ref(row), iter::once(&found)).is_empty();
                Ok((!is_orphan).then_some(found))
            }
            found => Ok(found),
        }
    }

    /// Takes off GitHub what a lost request made under the name of this `requested` row, which GitHub said is taken.
    /// Whether there was such a runner, and the name is free.
    pub(super) async fn free_name(&self, by: Actor<'_>, row: &Runner, deadline: Deadline) -> bool {
        self.try_to_free_name(by, row, deadline).await.unwrap_or_else(|err| {
            tracing::warn!(runner = %row.id, error = %err, "what holds its name is left to the sweep");
            false
        })
    }

    async fn try_to_free_name(&self, by: Actor<'_>, row: &Runner, deadline: Deadline) -> Result<bool, Error> {
        let watched = self.watched(row).await?;
        if watched.is_empty() {
            return Ok(false);
        }
        let found = self.github.runner_named(&row.target, &row.name, deadline).await?;
        match orphans(&watched, &[], found.iter()).first() {
            Some((late, found)) if self.holds_its_name(row).await? => {
                self.remove_orphan(by, None, late, found, deadline).await
            }
            _ => Ok(false),
        }
    }

    /// Rows that have ended, and under whose name, which is also this one's, a runner may still appear.
    async fn watched(&self, row: &Runner) -> Result<Vec<Runner>, Error> {
        let mut conn = self.store.conn().await?;
        let mut watched = runners::watched_on(&mut conn, &row.target, self.watched_since()).await?;
        watched.retain(|other| other.name.eq_ignore_ascii_case(&row.name));
        Ok(watched)
    }

    /// The event first: a crash after the DELETE would lose it. It is written once, however often this is tried.
    pub(in crate::broker) async fn remove_orphan(
        &self,
        by: Actor<'_>,
        lease: Option<&Lease>,
        row: &Runner,
        found: &github::Runner,
        deadline: Deadline,
    ) -> Result<bool, Error> {
        if !self.is_ours(row, found).await? {
            return Ok(false);
        }
        let data = json!({ "github_runner_id": found.id });
        let event = self.event(Kind::OrphanRemoved, by).about(row).with(data.clone());
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, lease).await?;
                // Locked, so that of two attempts one finds the event of the other.
                runners::lock(conn, row.id).await?;
                if !audit::tells(conn, row.id, event.event_type, data).await? {
                    record(conn, event).await?;
                }
                Ok(())
            })
            .await?;
        Ok(self.github.delete_runner(&row.target, found.id, deadline).await? == Removal::Removed)
    }
}
