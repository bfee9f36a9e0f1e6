//! Labels that are not those asked for: an admin changed them, or a registration named others.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::BATCH;
use super::report::Report;
use crate::broker::events::{About, Actor, Kind, record};
use crate::broker::lease::fence;
use crate::broker::runners::remove::{IfBusy, Outcome};
use crate::broker::runners::transition::{Cause, pause};
use crate::broker::{Broker, Error};
use crate::github;
use crate::model::{Status, is_system_label};
use crate::store::leases::Lease;
use crate::store::runners::{self, Change, Runner};

/// Why a runner is removed.
pub(super) const DRIFT: &str = "label drift";

/// A row whose runner has other labels than it asked for.
#[derive(Debug)]
pub struct Drift<'a> {
    /// Our row.
    pub row: &'a Runner,
    /// GitHub's runner.
    pub found: &'a github::Runner,
    /// GitHub's, lower-cased and sorted.
    pub labels: Vec<String>,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// It is idle: removed at once.
    Remove,
    /// It is busy: removed once idle.
    RemoveWhenIdle,
    /// It is busy, and is left to its job.
    Report,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Action::Remove => "removed",
            Action::RemoveWhenIdle => "removed_when_idle",
            Action::Report => "reported",
        }
    }
}

/// The labels of `found`, lower-cased and sorted, if they are others than the row asked for. The system's own
/// are aside: a runner has them by what it is.
pub fn drifted(asked: &[String], found: &github::Runner) -> Option<Vec<String>> {
    let lower =
        |labels: &[String]| labels.iter().map(|label| label.to_ascii_lowercase()).collect::<BTreeSet<_>>();
    let (asked, has, system) = (lower(asked), lower(&found.labels), lower(&found.system_labels));
    let added = has.iter().any(|label| !asked.contains(label) && !system.contains(label));
    let lost = asked.iter().any(|label| !has.contains(label) && !is_system_label(label));
    (added || lost).then(|| has.into_iter().collect())
}

impl Broker {
    /// Whether there is something to say or to do about a drift, which may have been reported before.
    pub(super) fn is_news(&self, drift: &Drift<'_>) -> bool {
        drift.row.drifted_labels.as_ref() != Some(&drift.labels) || self.drift_action(drift) != Action::Report
    }

    fn drift_action(&self, drift: &Drift<'_>) -> Action {
        match (drift.found.busy, self.config.drift_deletes_busy) {
            (false, _) => Action::Remove,
            (true, true) => Action::RemoveWhenIdle,
            (true, false) => Action::Report,
        }
    }

    pub(super) async fn settle_drifts(
        &self,
        lease: &Lease,
        drifts: &[Drift<'_>],
        at: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<(), Error> {
        // The next sweep goes on with the others.
        for drift in drifts.iter().take(BATCH as usize) {
            let settled = self.settle_drift(lease, drift, at, report).await;
            report.note(settled, "settling a label drift")?;
        }
        Ok(())
    }

    async fn settle_drift(
        &self,
        lease: &Lease,
        drift: &Drift<'_>,
        at: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let action = self.drift_action(drift);
        let if_busy = match self.config.drift_deletes_busy {
            true => IfBusy::KeepDeleting,
            false => IfBusy::Refuse,
        };
        let (is_new, deleting) = self.report_drift(lease, drift, action, if_busy, at).await?;
        report.drifted += usize::from(is_new);
        let (Some(row), Action::Remove) = (deleting, action) else { return Ok(()) };
        let by = Cause { actor: Actor::System("sync"), reason: DRIFT, lease: Some(lease) };
        match self.finish_deleting(by, row, if_busy).await {
            Ok((_, outcome)) => {
                report.removed += usize::from(outcome == Outcome::Deleted);
                Ok(())
            }
            // A job was faster, and nobody wants to wait for its end: the row is again what it was.
            Err(Error::RunnerBusy(_)) => Ok(()),
            Err(err) => Err(err),
        }
    }

    /// Writes what was found and what follows, before anything follows. Whether it is news, and the row if it
    /// is `deleting` now.
    async fn report_drift(
        &self,
        lease: &Lease,
        drift: &Drift<'_>,
        action: Action,
        if_busy: IfBusy,
        at: DateTime<Utc>,
    ) -> Result<(bool, Option<Runner>), Error> {
        let actor = Actor::System("sync");
        let (found, id) = (drift.found, drift.row.id);
        let runner_status = match (found.busy, found.online) {
            (true, _) => "busy",
            (false, true) => "idle",
            (false, false) => "offline",
        };
        let detected = self.event(Kind::LabelDriftDetected, actor).with(json!({
            "original_labels": drift.row.labels,
            "current_labels": drift.labels,
            "runner_status": runner_status,
            "action_taken": action.as_str(),
            "github_runner_id": found.id,
        }));
        let requested = self.event(Kind::DeprovisionRequested, actor);
        let now = requested.timestamp;
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                // Read anew: the list's own moves have been made, and others may have.
                let row = runners::lock(conn, id).await?.filter(|row| {
                    matches!(row.status, Status::Pending | Status::Active | Status::Offline)
                        && row.github_runner_id == Some(found.id)
                        && row.labels == drift.row.labels
                        && row.facts_at.is_none_or(|known| known <= at)
                });
                let Some(row) = row else { return Ok((false, None)) };
                let is_new = row.drifted_labels.as_ref() != Some(&drift.labels);
                let mut change = Change { drifted_labels: Some(drift.labels.clone()), ..Change::default() };
                if action != Action::Report {
                    change = Change {
                        status: Some(Status::Deleting.as_str()),
                        deleting_from: Some(Some(row.status.as_str())),
                        delete_attempts: Some(0),
                        delete_after: Some(Some(match action {
                            // The sweep's other loop keeps away while this one is at it.
                            Action::Remove => now + self.interrupted_after(),
                            // GitHub would refuse now.
                            _ => now + pause(0),
                        })),
                        wait_until_idle: Some(if_busy == IfBusy::KeepDeleting),
                        updated_at: Some(now),
                        ..change
                    };
                }
                let Some(changed) = runners::change(conn, &row, &change).await? else {
                    return Ok((false, None));
                };
                if is_new {
                    record(conn, detected.about(&row)).await?;
                }
                if action == Action::Report {
                    return Ok((is_new, None));
                }
                let data = json!({ "reason": DRIFT, "from": row.status });
                record(conn, requested.about(&row).with(data)).await?;
                Ok((is_new, Some(changed)))
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(labels: &[&str], system: &[&str]) -> github::Runner {
        let owned = |labels: &[&str]| labels.iter().map(|&label| label.to_owned()).collect();
        github::Runner {
            id: 1,
            name: "r".into(),
            os: None,
            online: true,
            busy: false,
            ephemeral: None,
            version: None,
            group_id: None,
            labels: owned(labels),
            system_labels: owned(system),
        }
    }

    fn drift(asked: &[&str], has: &[&str], system: &[&str]) -> bool {
        let asked: Vec<String> = asked.iter().map(|&label| label.to_owned()).collect();
        drifted(&asked, &runner(has, system)).is_some()
    }

    const ASKED: &[&str] = &["self-hosted", "linux", "x64", "gpu"];

    #[test]
    fn labels_are_compared_as_sets_and_without_case() {
        assert!(!drift(ASKED, &["GPU", "x64", "Linux", "self-hosted"], &[]));
        assert!(drift(ASKED, &["self-hosted", "linux", "x64"], &[]));
        assert!(drift(ASKED, &["self-hosted", "linux", "x64", "gpu", "prod"], &[]));
        assert!(drift(ASKED, &["self-hosted", "linux", "x64", "gpu2"], &[]));
    }

    #[test]
    fn the_systems_own_labels_are_aside() {
        let system = &["self-hosted", "macOS", "ARM64"];
        assert!(!drift(ASKED, &["self-hosted", "macOS", "ARM64", "gpu"], system));
        assert!(!drift(ASKED, &["gpu"], &[]), "it may have none");
        assert!(drift(ASKED, &["self-hosted", "macOS", "ARM64", "gpu", "windows"], system), "a given one");
        assert!(drift(ASKED, &["self-hosted", "linux", "x64", "gpu", "windows"], &["self-hosted"]));
    }
}
