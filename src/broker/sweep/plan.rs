//! What GitHub's list means for our rows: a pure comparison.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::drift::{Drift, drifted};
use crate::broker::runners::facts::{Facts, facts};
use crate::github;
use crate::model::Status;
use crate::store::runners::Runner;

/// How many whole sweeps in a row must miss a runner before it counts as gone: pages shift while they are
/// read.
pub(super) const MISSES: i32 = 2;

/// What a whole list says about the live rows of its target.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// Rows that change their state, or their busy flag, or learn their id.
    pub moves: Vec<(&'a Runner, Facts)>,
    /// Rows that are online as before.
    pub still_online: Vec<Uuid>,
    /// Rows that this list missed for the first time, or again.
    pub missed: Vec<Uuid>,
    /// Rows that enough whole lists have missed.
    pub gone: Vec<&'a Runner>,
    /// Rows whose runner has other labels than they asked for.
    pub drifts: Vec<Drift<'a>>,
    /// Rows of which that was reported, and is over.
    pub undrifted: Vec<Uuid>,
}

/// Compares rows, read after the list, with a whole list that began at `at`.
pub fn compare<'a>(
    rows: &'a [Runner],
    list: impl Iterator<Item = &'a github::Runner>,
    at: DateTime<Utc>,
) -> Plan<'a> {
    let mut by_id = HashMap::new();
    let mut by_name = HashMap::new();
    for found in list {
        by_id.insert(found.id, found);
        by_name.insert(found.name.to_ascii_lowercase(), found);
    }
    let mut plan = Plan::default();
    for row in rows {
        let found = match row.github_runner_id {
            Some(id) => by_id.get(&id),
            None => by_name.get(&row.name.to_ascii_lowercase()),
        };
        match found {
            Some(found) => plan.follow(row, found, at),
            None if is_missed(row, at) && row.missed_sweeps + 1 >= MISSES => plan.gone.push(row),
            None if is_missed(row, at) => plan.missed.push(row.id),
            None => {}
        }
    }
    plan
}

impl<'a> Plan<'a> {
    fn follow(&mut self, row: &'a Runner, found: &'a github::Runner, at: DateTime<Utc>) {
        let Some(facts) = facts(row, found, at) else { return };
        if facts.is_news_for(row) {
            self.moves.push((row, facts));
        } else if facts.online {
            self.still_online.push(row.id);
        }
        match drifted(&row.labels, found) {
            Some(labels) => self.drifts.push(Drift { row, found, labels }),
            None if row.drifted_labels.is_some() => self.undrifted.push(row.id),
            None => {}
        }
    }
}

/// Whether a list that began at `at` should have shown the row's runner.
fn is_missed(row: &Runner, at: DateTime<Utc>) -> bool {
    matches!(row.status, Status::Pending | Status::Active | Status::Offline)
        && row.github_runner_id.is_some()
        && row.facts_at.is_none_or(|known| known < at)
}
