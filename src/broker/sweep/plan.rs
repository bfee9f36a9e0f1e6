//! What GitHub's list means for our rows: a pure comparison.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::drift::{Drift, drifted};
use crate::github;
use crate::model::{Method, Status};
use crate::store::runners::{Change, Observation, Runner};

/// How many whole sweeps in a row must miss a runner before it counts as gone: pages shift while they are
/// read.
pub(super) const MISSES: i32 = 2;

/// What one look at GitHub says about one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub to: Status,
    pub busy: bool,
    pub online: bool,
    pub github_runner_id: i64,
    /// When a registration-flow runner is seen for the first time.
    first_seen: bool,
}

impl Facts {
    /// The change of the row by facts that were true at `at`.
    pub fn change(&self, at: DateTime<Utc>, now: DateTime<Utc>) -> Change {
        Change {
            status: Some(self.to.as_str()),
            busy: Some(self.busy),
            github_runner_id: Some(self.github_runner_id),
            missed_sweeps: Some(0),
            updated_at: Some(now),
            facts_at: Some(at),
            registered_at: self.first_seen.then_some(at),
            last_seen_at: self.online.then_some(at),
            ..Change::default()
        }
    }
}

/// What `found`, true at `at`, says about the row; `None`: the row knows something newer, or is in no state
/// that follows GitHub's.
pub fn facts(row: &Runner, found: &github::Runner, at: DateTime<Utc>) -> Option<Facts> {
    if row.facts_at.is_some_and(|known| known >= at) {
        return None;
    }
    let unstarted = !found.online && !found.busy && found.version.is_none();
    let to = match row.status {
        Status::Pending if row.method == Method::Jit && unstarted => Status::Pending,
        Status::Pending | Status::Active | Status::Offline if found.online || found.busy => Status::Active,
        Status::Pending | Status::Active | Status::Offline => Status::Offline,
        _ => return None,
    };
    Some(Facts {
        to,
        busy: found.busy,
        online: found.online,
        github_runner_id: found.id,
        first_seen: row.registered_at.is_none(),
    })
}

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

impl Facts {
    fn is_news_for(&self, row: &Runner) -> bool {
        self.to != row.status
            || self.busy != row.busy
            || row.github_runner_id != Some(self.github_runner_id)
            || row.missed_sweeps != 0
    }

    /// The same for many rows at once.
    pub fn of<'a>(&self, seen: &'a Runner) -> Observation<'a> {
        Observation {
            seen,
            to: self.to,
            busy: self.busy,
            github_runner_id: Some(self.github_runner_id),
            online: self.online,
            first_seen: self.first_seen,
        }
    }
}

/// Whether a list that began at `at` should have shown the row's runner.
fn is_missed(row: &Runner, at: DateTime<Utc>) -> bool {
    matches!(row.status, Status::Pending | Status::Active | Status::Offline)
        && row.github_runner_id.is_some()
        && row.facts_at.is_none_or(|known| known < at)
}
