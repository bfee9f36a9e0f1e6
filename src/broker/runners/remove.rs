//! Taking a runner off GitHub: the intent first, then GitHub, then the result.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde_json::json;

use super::transition::{Cause, gone, pause, tried};
use crate::broker::events::{About, Kind, record};
use crate::broker::lease::fence;
use crate::broker::people::caller::Caller;
use crate::broker::people::scopes::{change_scope, runner_scope};
use crate::broker::{Broker, Error};
use crate::github::{self, Removal};
use crate::model::Status;
use crate::store::runners::{self, Change, Runner};

/// How often a removal looks again at a row that somebody else moves at the same time.
const MAX_ATTEMPTS: usize = 3;

/// What another attempt to remove a runner costs of the GitHub calls of its caller: it may leave two events.
const AGAIN: NonZeroU32 = NonZeroU32::new(3).expect("not zero");

/// What became of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// GitHub has it no more.
    Deleted,
    /// It was gone before.
    AlreadyGone,
    /// GitHub never had it: nobody has used its registration token, which GitHub cannot take back.
    NeverRegistered,
    /// It is busy, and will be removed once idle.
    WhenIdle,
}

/// What to do with a runner that GitHub says is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum IfBusy {
    /// It goes back to what it was.
    Refuse,
    /// It stays `deleting`, and is tried again after a pause.
    KeepDeleting,
}

impl Broker {
    /// Removes one of the caller's runners. `force_when_idle` leaves a busy one `deleting` until it is idle.
    ///
    /// # Errors
    ///
    /// [`Error::RunnerNotFound`], [`Error::Forbidden`], [`Error::RunnerBusy`], [`Error::RunnerInFlight`],
    /// [`Error::TooManyGitHubCalls`],
    /// [`Error::GitHub`], [`Error::Store`] or [`Error::Panicked`].
    pub async fn remove(
        self: &Arc<Self>,
        caller: &Caller,
        id_or_name: &str,
        force_when_idle: bool,
    ) -> Result<(Runner, Outcome), Error> {
        let (broker, caller, id_or_name) = (self.clone(), caller.clone(), id_or_name.to_owned());
        self.run_detached(async move {
            let runner = broker.find_to_change(&caller, &id_or_name).await?;
            let if_busy = if force_when_idle { IfBusy::KeepDeleting } else { IfBusy::Refuse };
            // GitHub has been asked before and did not remove it: it was busy, or GitHub was away.
            if runner.busy || runner.status == Status::Deleting {
                broker.spend_github_calls(&caller, AGAIN)?;
            }
            let by = Cause { actor: caller.actor(), reason: "asked for", lease: None };
            broker.remove_runner(by, runner, if_busy).await
        })
        .await
    }

    /// A runner that this caller may change. One that they may only see is forbidden; any other is not found.
    pub(in crate::broker) async fn find_to_change(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<Runner, Error> {
        let mut conn = self.store.conn().await?;
        if let Some(runner) = runners::find(&mut conn, id_or_name, &change_scope(caller)).await? {
            return Ok(runner);
        }
        let visible = runners::find(&mut conn, id_or_name, &runner_scope(caller)).await?;
        drop(conn);
        let Some(runner) = visible else {
            let err = Error::RunnerNotFound(id_or_name.to_owned());
            if caller.is_stranger() {
                self.note_refused_stranger(caller, &err).await?;
            }
            return Err(err);
        };
        let refusal = Error::Forbidden;
        if self.has_own_event(caller, Kind::AccessRefused, refusal.code()) {
            let event = self.event(Kind::AccessRefused, caller.actor()).about(&runner).because(&refusal);
            self.store.transaction::<_, Error, _>(async |conn| record(conn, event).await).await?;
        }
        Err(Error::Forbidden)
    }

    /// `deleting` first, then GitHub, then `deleted`: interrupted anywhere, the sweep goes on.
    pub(in crate::broker) async fn remove_runner(
        &self,
        by: Cause<'_>,
        runner: Runner,
        if_busy: IfBusy,
    ) -> Result<(Runner, Outcome), Error> {
        let (id, name) = (runner.id, runner.name.clone());
        let mut seen = Some(runner);
        // What a caller asked for holds for the runner however it moves; a reason of our own may have vanished.
        let looks = if by.actor.is_caller() { MAX_ATTEMPTS } else { 1 };
        for _ in 0..looks {
            let Some(runner) = seen else { break };
            match self.try_to_remove(by, runner, if_busy).await {
                Ok(Some(done)) => return Ok(done),
                // Somebody else moved it in between.
                Ok(None) | Err(Error::RunnerInFlight(_)) => {}
                Err(err) => return Err(err),
            }
            let mut conn = self.store.conn().await?;
            seen = runners::by_id(&mut conn, id).await?;
        }
        Err(Error::RunnerInFlight(name))
    }

    /// `None`: the row is not any more as it was seen.
    async fn try_to_remove(
        &self,
        by: Cause<'_>,
        runner: Runner,
        if_busy: IfBusy,
    ) -> Result<Option<(Runner, Outcome)>, Error> {
        match runner.status {
            Status::Deleted | Status::Failed => Ok(Some((runner, Outcome::AlreadyGone))),
            Status::Requested => Err(Error::RunnerInFlight(runner.name)),
            // A repair has claimed it; what is left of it on GitHub is the sweep's.
            Status::Deleting if runner.deleting_from.is_none() => Err(Error::RunnerInFlight(runner.name)),
            Status::Deleting => self.finish_deleting(by, runner, if_busy).await.map(Some),
            Status::Pending if runner.github_runner_id.is_none() => {
                self.remove_unseen(by, runner, if_busy).await
            }
            Status::Pending | Status::Active | Status::Offline => {
                match self.start(by, &runner, if_busy).await? {
                    Some(deleting) => self.finish_deleting(by, deleting, if_busy).await.map(Some),
                    None => Ok(None),
                }
            }
        }
    }

    async fn start(&self, by: Cause<'_>, runner: &Runner, if_busy: IfBusy) -> Result<Option<Runner>, Error> {
        let event = self.event(Kind::DeprovisionRequested, by.actor).about(runner);
        let event = event.with(json!({ "reason": by.reason, "from": runner.status }));
        let now = event.timestamp;
        let change = Change {
            status: Some(Status::Deleting.as_str()),
            deleting_from: Some(Some(runner.status.as_str())),
            delete_attempts: Some(0),
            // The sweep keeps away while this request may still be at it.
            delete_after: Some(Some(now + self.interrupted_after())),
            wait_until_idle: Some(if_busy == IfBusy::KeepDeleting),
            updated_at: Some(now),
            ..Change::default()
        };
        self.move_runner(by.lease, runner, &change, event).await
    }

    /// A registration whose runner GitHub has not shown: there may be one of that name by now.
    async fn remove_unseen(
        &self,
        by: Cause<'_>,
        runner: Runner,
        if_busy: IfBusy,
    ) -> Result<Option<(Runner, Outcome)>, Error> {
        let at = self.clock.now();
        if let Some(found) = self.registered(&runner, self.deadline()).await? {
            let Some(shown) = self.take_facts(by, &runner, &found, at).await? else { return Ok(None) };
            let Some(deleting) = self.start(by, &shown, if_busy).await? else { return Ok(None) };
            return self.finish_deleting(by, deleting, if_busy).await.map(Some);
        }
        let event = self.event(Kind::Deprovisioned, by.actor).about(&runner);
        let event = event.with(json!({
            "reason": by.reason,
            "github_runner_id": null,
            "registration_token_expires_at": runner.expires_at,
        }));
        let change = gone(Status::Deleted, event.timestamp);
        let moved = self.move_runner(by.lease, &runner, &change, event).await?;
        Ok(moved.map(|runner| (runner, Outcome::NeverRegistered)))
    }

    /// Asks GitHub to delete what is `deleting`, and writes the result.
    pub(in crate::broker) async fn finish_deleting(
        &self,
        by: Cause<'_>,
        runner: Runner,
        if_busy: IfBusy,
    ) -> Result<(Runner, Outcome), Error> {
        let removal = match runner.github_runner_id {
            Some(id) => self.github.delete_runner(&runner.target, id, self.deadline()).await,
            None => Ok(Removal::NotThere),
        };
        match (removal, if_busy) {
            (Ok(Removal::Removed | Removal::NotThere), _) => self.deleted(by, runner).await,
            (Ok(Removal::Busy), IfBusy::KeepDeleting) => self.keep_deleting(by, runner).await,
            (Ok(Removal::Busy), IfBusy::Refuse) => Err(self.refuse_busy(by, runner).await?),
            (Err(err), _) => self.try_again_later(by, runner, err).await,
        }
    }

    async fn deleted(&self, by: Cause<'_>, runner: Runner) -> Result<(Runner, Outcome), Error> {
        let event = self.event(Kind::Deprovisioned, by.actor).about(&runner);
        let event = event.with(json!({ "reason": by.reason, "github_runner_id": runner.github_runner_id }));
        let change = gone(Status::Deleted, event.timestamp);
        match self.move_runner(by.lease, &runner, &change, event).await? {
            Some(deleted) => Ok((deleted, Outcome::Deleted)),
            None => self.moved_meanwhile(runner).await,
        }
    }

    /// Somebody else moved the row while GitHub was asked: either to the same end, or away from it.
    async fn moved_meanwhile(&self, runner: Runner) -> Result<(Runner, Outcome), Error> {
        let mut conn = self.store.conn().await?;
        let now = runners::by_id(&mut conn, runner.id).await?;
        match now.filter(|row| row.status == Status::Deleted) {
            Some(deleted) => Ok((deleted, Outcome::Deleted)),
            None => Err(Error::RunnerInFlight(runner.name)),
        }
    }

    async fn keep_deleting(&self, by: Cause<'_>, runner: Runner) -> Result<(Runner, Outcome), Error> {
        let refusal = Error::RunnerBusy(runner.name.clone());
        let event = self.event(Kind::DeprovisionRefused, by.actor).about(&runner).because(&refusal);
        let (now, attempts) = (event.timestamp, runner.delete_attempts);
        let change = Change {
            busy: Some(true),
            delete_attempts: Some(attempts.saturating_add(1)),
            delete_after: Some(Some(now + pause(attempts))),
            wait_until_idle: Some(true),
            updated_at: Some(now),
            ..Change::default()
        };
        // Only the first refusal is news.
        let moved = match attempts {
            0 => self.move_runner(by.lease, &runner, &change, event).await?,
            _ => self.change_silently(by.lease, &runner, &change).await?,
        };
        match moved {
            Some(waiting) => Ok((waiting, Outcome::WhenIdle)),
            None => self.moved_meanwhile(runner).await,
        }
    }

    /// Hands the refusal back, once the row is again what it was, unless somebody waits for it to be idle.
    async fn refuse_busy(&self, by: Cause<'_>, runner: Runner) -> Result<Error, Error> {
        let refusal = Error::RunnerBusy(runner.name.clone());
        let event = self.event(Kind::DeprovisionRefused, by.actor).about(&runner).because(&refusal);
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, by.lease).await?;
                // Read anew and kept so: another call may have begun to wait, or be about to.
                let Some(row) = runners::lock(conn, runner.id).await? else { return Ok(()) };
                let back = match row.deleting_from.as_deref().map(str::parse) {
                    _ if row.wait_until_idle => Status::Deleting,
                    Some(Ok(status)) => status,
                    _ => Status::Active,
                };
                let change = Change {
                    status: Some(back.as_str()),
                    busy: Some(true),
                    deleting_from: (back != Status::Deleting).then_some(None),
                    delete_after: (back != Status::Deleting).then_some(None),
                    updated_at: Some(event.timestamp),
                    ..Change::default()
                };
                if runners::change(conn, &runner, &change).await?.is_some() {
                    record(conn, event.with(json!({ "to": back }))).await?;
                }
                Ok(())
            })
            .await?;
        Ok(refusal)
    }

    /// Hands the failure back, once the row is the sweep's to finish.
    async fn try_again_later(
        &self,
        by: Cause<'_>,
        runner: Runner,
        err: github::Error,
    ) -> Result<(Runner, Outcome), Error> {
        let err = Error::GitHub(err);
        let event = self.event(Kind::DeprovisionFailed, by.actor).about(&runner).because(&err);
        let change = tried(&runner, event.timestamp);
        // The log cannot be pruned: of the sweep's own failures only the first is news.
        let is_news = by.lease.is_none() || runner.delete_attempts == 0;
        let finished = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, by.lease).await?;
                if runners::change(conn, &runner, &change).await?.is_none() {
                    let now = runners::by_id(conn, runner.id).await?;
                    if let Some(deleted) = now.filter(|row| row.status == Status::Deleted) {
                        return Ok(Some(deleted));
                    }
                }
                if is_news {
                    record(conn, event).await?;
                }
                Ok(None)
            })
            .await?;
        if let Some(deleted) = finished {
            // Another replica's sweep was faster.
            return Ok((deleted, Outcome::Deleted));
        }
        if by.lease.is_none() {
            self.wake.notify_one();
        }
        Err(err)
    }
}
