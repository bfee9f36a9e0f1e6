//! Provisions whose request died: finished, so that GitHub and the table agree again.

use serde_json::json;

use super::BATCH;
use super::outages::OwnerOutages;
use super::report::Report;
use crate::broker::events::{About, Actor, Kind, record};
use crate::broker::lease::fence;
use crate::broker::runners::transition::{gone, tried};
use crate::broker::{Broker, Error};
use crate::github;
use crate::model::{Method, Status};
use crate::store::leases::Lease;
use crate::store::runners::{self, Change, Runner};

/// What an interrupted provision left behind.
enum Left {
    /// What the row stood for before an idempotency key was repeated was handed out, and is still good: a
    /// token, or this runner, which may have other labels than the repeat asked for.
    Former(Option<github::Runner>),
    /// Nothing any more; whether something had to be removed from GitHub.
    Nothing { removed: bool },
}

impl Broker {
    /// Finishes `requested` rows whose own request can no longer be at work.
    pub(super) async fn repair_interrupted(&self, lease: &Lease, report: &mut Report) -> Result<(), Error> {
        let before = self.clock.now() - self.interrupted_after();
        let mut conn = self.store.conn().await?;
        let rows = runners::interrupted(&mut conn, before, BATCH).await?;
        drop(conn);
        let mut outages = OwnerOutages::default();
        for row in rows {
            if outages.skips(&row.target, report) {
                continue;
            }
            let repaired = outages.record(&row.target, self.repair(lease, &row).await);
            if report.note(repaired, "repairing an interrupted provision")? == Some(true) {
                report.repaired += 1;
            }
        }
        Ok(())
    }

    /// Claims the row first, then looks on GitHub: the request's own last step finds its row gone and
    /// withdraws its runner itself, so nothing that was handed out is taken away here.
    async fn repair(&self, lease: &Lease, row: &Runner) -> Result<bool, Error> {
        let event = self.event(Kind::RunnerStateChanged, Actor::System("sync")).about(row);
        let data = json!({ "from": row.status, "to": Status::Deleting, "reason": "interrupted provision" });
        let change = Change {
            status: Some(Status::Deleting.as_str()),
            deleting_from: Some(None),
            delete_attempts: Some(0),
            delete_after: Some(None),
            updated_at: Some(event.timestamp),
            ..Change::default()
        };
        match self.move_runner(Some(lease), row, &change, event.with(data)).await? {
            Some(claimed) => self.finish_repair(lease, &claimed).await,
            None => Ok(false),
        }
    }

    /// A claimed row becomes `failed`, once nothing of it is on GitHub, or what it was before. Whether it did.
    pub(super) async fn finish_repair(&self, lease: &Lease, row: &Runner) -> Result<bool, Error> {
        match self.what_is_left(row).await {
            Ok(Left::Former(found)) => self.restore(lease, row, found).await,
            Ok(Left::Nothing { removed }) => self.give_up(lease, row, removed).await,
            Err(err) => {
                self.change_silently(Some(lease), row, &tried(row, self.clock.now())).await?;
                Err(err)
            }
        }
    }

    async fn what_is_left(&self, row: &Runner) -> Result<Left, Error> {
        let deadline = self.deadline();
        match (row.method, row.github_runner_id) {
            // A token that was handed out stays good: GitHub cannot take it back.
            (Method::RegistrationToken, _) if row.expires_at.is_some() => Ok(Left::Former(None)),
            (Method::RegistrationToken, _) => Ok(Left::Nothing { removed: false }),
            (Method::Jit, Some(id)) => match self.github.runner(&row.target, id, deadline).await? {
                Some(found) => Ok(Left::Former(Some(found))),
                None => Ok(Left::Nothing { removed: self.remove_if_ours(row, deadline).await? }),
            },
            (Method::Jit, None) => Ok(Left::Nothing { removed: self.remove_if_ours(row, deadline).await? }),
        }
    }

    async fn restore(
        &self,
        lease: &Lease,
        row: &Runner,
        found: Option<github::Runner>,
    ) -> Result<bool, Error> {
        let event = self.event(Kind::RunnerStateChanged, Actor::System("sync")).about(row);
        let data = json!({ "from": row.status, "to": Status::Pending, "reason": "what was handed out before is still good" });
        let change = Change {
            status: Some(Status::Pending.as_str()),
            delete_attempts: Some(0),
            delete_after: Some(None),
            updated_at: Some(event.timestamp),
            // The interrupted request may have been sent all the same.
            may_appear: Some(true),
            runner_group_id: found.as_ref().and_then(|found| found.group_id),
            labels: found.map(|found| found.labels),
            ..Change::default()
        };
        Ok(self.move_runner(Some(lease), row, &change, event.with(data)).await?.is_some())
    }

    async fn give_up(&self, lease: &Lease, row: &Runner, removed: bool) -> Result<bool, Error> {
        let mut event = self.event(Kind::ProvisionFailed, Actor::System("sync")).about(row);
        event.error_code = Some("GITHUB_UNAVAILABLE".into());
        event.error_message = Some("the provision was interrupted".into());
        let event = event.with(json!({ "runner_removed_from_github": removed }));
        let change = Change {
            failure: Some("interrupted".into()),
            may_appear: Some(true),
            ..gone(Status::Failed, event.timestamp)
        };
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                let failed = runners::change(conn, row, &change).await?.is_some();
                if failed {
                    runners::free_key(conn, row.id).await?;
                    record(conn, event).await?;
                }
                Ok(failed)
            })
            .await
    }
}
