//! Lost answers: whether GitHub made a runner after all, and whether it is ours to remove.

use std::collections::BTreeSet;

use crate::broker::runners::facts::is_unstarted;
use crate::broker::{Broker, Error};
use crate::github::{self, Deadline, Removal};
use crate::model::Target;
use crate::store::runners::{self, Runner};

/// What there is of a lost request on GitHub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Trace {
    /// Nothing of that name, or not any more.
    None,
    /// What it made; now removed.
    Removed,
    /// A runner of that name which somebody else made.
    Foreign,
}

impl Broker {
    /// Looks on GitHub for what a lost request may have made, and removes it. Whether something was removed.
    pub(in crate::broker) async fn remove_if_ours(
        &self,
        row: &Runner,
        deadline: Deadline,
    ) -> Result<bool, Error> {
        Ok(self.resolve(row, deadline).await? == Trace::Removed)
    }

    /// As `remove_if_ours`, and says whether the name is somebody else's.
    pub(in crate::broker) async fn resolve(&self, row: &Runner, deadline: Deadline) -> Result<Trace, Error> {
        let Some(found) = self.github.runner_named(&row.target, &row.name, deadline).await? else {
            return Ok(Trace::None);
        };
        if !self.holds_its_name(row).await? || !self.is_ours(row, &found).await? {
            return Ok(Trace::Foreign);
        }
        Ok(match self.github.delete_runner(&row.target, found.id, deadline).await? {
            Removal::Removed => Trace::Removed,
            Removal::NotThere => Trace::None,
            Removal::Busy => Trace::Foreign,
        })
    }

    /// Whether the row is live as it was, asked after a look at GitHub: then what the look found under its name is of
    /// no other provision that is under way. A repair may have given a slow request up, and somebody else begun anew.
    pub(super) async fn holds_its_name(&self, row: &Runner) -> Result<bool, Error> {
        let mut conn = self.store.conn().await?;
        let now = runners::by_id(&mut conn, row.id).await?;
        Ok(now.is_some_and(|now| now.status.is_live() && now.claim() == row.claim()))
    }

    /// Whether `found` can only be what the request of `row` made: exactly what we asked for, never
    /// connected, and no other row's. So nothing that somebody else made, or that has started, is touched.
    pub(in crate::broker) async fn is_ours(
        &self,
        row: &Runner,
        found: &github::Runner,
    ) -> Result<bool, Error> {
        if !is_unstarted(found) || !is_as_asked(row, found) {
            return Ok(false);
        }
        let mut conn = self.store.conn().await?;
        let known = runners::knows(&mut conn, &row.target, found.id).await?;
        Ok(known.is_none_or(|known| known.id == row.id))
    }
}

/// Exactly what the row asked for.
pub(in crate::broker) fn is_as_asked(row: &Runner, found: &github::Runner) -> bool {
    let is_repository = matches!(row.target, Target::Repository { .. });
    let asked: BTreeSet<String> = row.labels.iter().cloned().collect();
    let has: BTreeSet<String> = found.labels.iter().map(|label| label.to_ascii_lowercase()).collect();
    found.name.eq_ignore_ascii_case(&row.name)
        && found.ephemeral != Some(false)
        // A repository has no groups of its own; what GitHub says there is the organisation's business.
        && (is_repository || found.group_id.is_none_or(|group| group == row.runner_group_id))
        && has == asked
}
