//! Lost answers: whether GitHub made a runner after all, and whether it is ours to remove.

use std::collections::BTreeSet;

use super::{Broker, Error};
use crate::github::{self, Deadline, Removal};
use crate::store::runners::{self, Runner};

impl Broker {
    /// Looks on GitHub for what a lost request may have made, and removes it. Whether something was removed.
    pub(super) async fn remove_if_ours(&self, row: &Runner, deadline: Deadline) -> Result<bool, Error> {
        let Some(found) = self.github.runner_named(&row.target, &row.name, deadline).await? else {
            return Ok(false);
        };
        if !self.is_ours(row, &found).await? {
            return Ok(false);
        }
        Ok(self.github.delete_runner(&row.target, found.id, deadline).await? == Removal::Removed)
    }

    /// Whether `found` can only be what the request of `row` made: exactly what we asked for, never
    /// connected, and no other row's. So nothing that somebody else made, or that has started, is touched.
    pub(super) async fn is_ours(&self, row: &Runner, found: &github::Runner) -> Result<bool, Error> {
        if !is_unstarted(found) || !is_as_asked(row, found) {
            return Ok(false);
        }
        let mut conn = self.store.conn().await?;
        let known = runners::knows(&mut conn, &row.target, found.id).await?;
        Ok(known.is_none_or(|known| known.id == row.id))
    }
}

/// Never connected to GitHub.
pub(super) fn is_unstarted(found: &github::Runner) -> bool {
    !found.online && !found.busy && found.version.is_none()
}

fn is_as_asked(row: &Runner, found: &github::Runner) -> bool {
    let asked: BTreeSet<String> = row.labels.iter().cloned().collect();
    let has: BTreeSet<String> = found.labels.iter().map(|label| label.to_ascii_lowercase()).collect();
    found.name.eq_ignore_ascii_case(&row.name)
        && found.ephemeral != Some(false)
        && found.group_id.is_none_or(|group| group == row.runner_group_id)
        && has == asked
}
