//! Runners of ours that nobody was given: what a lost request made after its row had failed.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::report::Report;
use crate::broker::events::{About, Actor, Kind, record};
use crate::broker::lease::fence;
use crate::broker::provision::lost_answer::is_as_asked;
use crate::broker::runners::facts::is_unstarted;
use crate::broker::{Broker, Error};
use crate::github::{self, Removal};
use crate::store::leases::Lease;
use crate::store::runners::{self, Change, Runner};

/// Watched rows with what the list shows under their names, as far as it may be theirs. A name that is `live`
/// again is that provision's: its runner may be known to no row yet.
pub(super) fn orphans<'a>(
    watched: &'a [Runner],
    live: &[Runner],
    list: impl Iterator<Item = &'a github::Runner>,
) -> Vec<(&'a Runner, &'a github::Runner)> {
    if watched.is_empty() {
        return Vec::new();
    }
    let live: HashSet<String> = live.iter().map(|row| row.name.to_ascii_lowercase()).collect();
    let mut by_name: HashMap<String, Vec<&Runner>> = HashMap::new();
    for row in watched {
        by_name.entry(row.name.to_ascii_lowercase()).or_default().push(row);
    }
    let mut orphans = Vec::new();
    for found in list {
        let name = found.name.to_ascii_lowercase();
        let Some(rows) = by_name.get(&name).filter(|_| !live.contains(&name)) else { continue };
        // Of several that failed under one name, any that asked for just this.
        let row = rows.iter().find(|row| is_unstarted(found) && is_as_asked(row, found));
        orphans.extend(row.map(|row| (*row, found)));
    }
    orphans
}

impl Broker {
    pub(super) async fn remove_orphans(
        &self,
        lease: &Lease,
        orphans: &[(&Runner, &github::Runner)],
        report: &mut Report,
    ) -> Result<(), Error> {
        for (row, found) in orphans {
            let removed = self.remove_orphan(lease, row, found).await;
            if report.note(removed, "removing an orphan")? == Some(true) {
                report.orphans += 1;
            }
        }
        Ok(())
    }

    /// The event first: a crash after the DELETE would lose it. The row remembers that it was written.
    async fn remove_orphan(
        &self,
        lease: &Lease,
        row: &Runner,
        found: &github::Runner,
    ) -> Result<bool, Error> {
        if !self.is_ours(row, found).await? {
            return Ok(false);
        }
        let event = self.event(Kind::OrphanRemoved, Actor::System("sync")).about(row);
        let event = event.with(json!({ "github_runner_id": found.id }));
        let change = Change { github_runner_id: Some(found.id), ..Change::default() };
        let is_said = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                // Read anew: an earlier attempt, or the other loop, may have said so.
                let Some(row) = runners::lock(conn, row.id).await? else { return Ok(false) };
                if row.github_runner_id == Some(found.id) {
                    return Ok(true);
                }
                let changed = runners::change(conn, &row, &change).await?.is_some();
                if changed {
                    record(conn, event).await?;
                }
                Ok(changed)
            })
            .await?;
        if !is_said {
            return Ok(false);
        }
        Ok(self.github.delete_runner(&row.target, found.id, self.deadline()).await? == Removal::Removed)
    }
}
