//! What GitHub says about one runner, as a change of its row. Pure.

use chrono::{DateTime, Utc};

use crate::github;
use crate::model::{Method, Status};
use crate::store::runners::{Change, Observation, Runner};

/// What one look at GitHub says about one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The state that follows.
    pub to: Status,
    /// Whether it runs a job.
    pub busy: bool,
    /// Whether it is connected to GitHub.
    pub online: bool,
    /// GitHub's id of it.
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

    pub(in crate::broker) fn is_news_for(&self, row: &Runner) -> bool {
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

/// What `found`, true at `at`, says about the row; `None`: the row knows something newer, or is in no state
/// that follows GitHub's.
pub fn facts(row: &Runner, found: &github::Runner, at: DateTime<Utc>) -> Option<Facts> {
    if row.facts_at.is_some_and(|known| known >= at) {
        return None;
    }
    let to = match row.status {
        Status::Pending if row.method == Method::Jit && is_unstarted(found) => Status::Pending,
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

/// Never connected to GitHub.
pub(in crate::broker) fn is_unstarted(found: &github::Runner) -> bool {
    !found.online && !found.busy && found.version.is_none()
}
