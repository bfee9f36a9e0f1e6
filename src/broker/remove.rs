//! Taking a runner off GitHub, asking GitHub about one, and the token that `config.sh remove` wants.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::ExposeSecret;
use serde_json::json;

use super::caller::Caller;
use super::events::{About, Actor, Kind, record};
use super::sync::plan;
use super::{Broker, Error, change_scope, runner_scope};
use crate::github::{self, IssuedToken, Removal};
use crate::model::{Method, Status};
use crate::store::audit::Event;
use crate::store::leases::{self, Lease};
use crate::store::runners::{self, Change, Runner};
use crate::store::{self, Conn};

/// The longest pause between two attempts to delete a busy runner.
const LONGEST_PAUSE: TimeDelta = TimeDelta::minutes(15);

/// What became of a removal.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// GitHub has it no more.
    Deleted,
    /// It was gone before.
    AlreadyGone,
    /// It is busy, and will be removed once idle.
    WhenIdle,
}

/// What to do with a runner that GitHub says is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IfBusy {
    Refuse,
    KeepDeleting,
}

/// Who removes, why, and under which lease if it is the leader.
#[derive(Clone, Copy)]
pub(super) struct By<'a> {
    pub actor: Actor<'a>,
    pub reason: &'static str,
    pub lease: Option<&'a Lease>,
}

impl Broker {
    /// Removes one of the caller's runners. `force_when_idle` leaves a busy one `deleting` until it is idle.
    pub async fn remove(
        self: &Arc<Self>,
        caller: &Caller,
        id_or_name: &str,
        force_when_idle: bool,
    ) -> Result<(Runner, Outcome), Error> {
        let (broker, caller, id_or_name) = (self.clone(), caller.clone(), id_or_name.to_owned());
        self.to_the_end(async move {
            let runner = broker.find_to_change(&caller, &id_or_name).await?;
            let if_busy = if force_when_idle { IfBusy::KeepDeleting } else { IfBusy::Refuse };
            let by = By { actor: Actor::Caller(&caller), reason: "asked for", lease: None };
            broker.remove_runner(by, runner, if_busy).await
        })
        .await
    }

    /// A runner that this caller may change. One that he may only see is forbidden; any other is not found.
    async fn find_to_change(&self, caller: &Caller, id_or_name: &str) -> Result<Runner, Error> {
        let mut conn = self.store.conn().await?;
        if let Some(runner) = runners::find(&mut conn, id_or_name, &change_scope(caller)).await? {
            return Ok(runner);
        }
        match runners::find(&mut conn, id_or_name, &runner_scope(caller)).await? {
            Some(_) => Err(Error::Forbidden),
            None => Err(Error::RunnerNotFound(id_or_name.to_owned())),
        }
    }

    /// `deleting` first, then GitHub, then `deleted`: interrupted anywhere, the sweep goes on.
    pub(super) async fn remove_runner(
        &self,
        by: By<'_>,
        runner: Runner,
        if_busy: IfBusy,
    ) -> Result<(Runner, Outcome), Error> {
        match runner.status {
            Status::Deleted | Status::Failed => return Ok((runner, Outcome::AlreadyGone)),
            Status::Requested => return Err(Error::RunnerInFlight(runner.name)),
            // A repair has claimed it; what is left of it on GitHub is the sweep's.
            Status::Deleting if runner.deleting_from.is_none() => {
                return Err(Error::RunnerInFlight(runner.name));
            }
            Status::Deleting => {}
            Status::Pending if runner.github_runner_id.is_none() => {
                return self.remove_unseen(by, runner).await;
            }
            Status::Pending | Status::Active | Status::Offline => {}
        }
        let runner = match runner.status {
            Status::Deleting => runner,
            _ => match self.start_deleting(by, &runner).await? {
                Some(deleting) => deleting,
                // Somebody else moved it in between.
                None => return Err(Error::RunnerInFlight(runner.name)),
            },
        };
        self.finish_deleting(by, runner, if_busy).await
    }

    async fn start_deleting(&self, by: By<'_>, runner: &Runner) -> Result<Option<Runner>, Error> {
        let event = self.event(Kind::DeprovisionRequested, by.actor).about(runner);
        let event = event.with(json!({ "reason": by.reason, "from": runner.status }));
        let now = event.timestamp;
        let change = Change {
            status: Some(Status::Deleting.as_str()),
            deleting_from: Some(Some(runner.status.as_str())),
            delete_attempts: Some(0),
            // The sweep keeps away while this request may still be at it.
            delete_after: Some(Some(now + self.interrupted_after())),
            updated_at: Some(now),
            ..Change::default()
        };
        self.move_runner(by.lease, runner, &change, event).await
    }

    /// Asks GitHub to delete what is `deleting`, and writes what came of it.
    pub(super) async fn finish_deleting(
        &self,
        by: By<'_>,
        runner: Runner,
        if_busy: IfBusy,
    ) -> Result<(Runner, Outcome), Error> {
        let removal = match runner.github_runner_id {
            Some(id) => self.github.delete_runner(&runner.target, id, self.deadline()).await,
            None => Ok(Removal::NotThere),
        };
        match removal {
            Ok(Removal::Removed | Removal::NotThere) => self.deleted(by, runner).await,
            Ok(Removal::Busy) => self.busy(by, runner, if_busy).await,
            Err(err) => {
                let err = Error::GitHub(err);
                let event = self.event(Kind::DeprovisionFailed, by.actor).about(&runner).because(&err);
                self.store
                    .transaction::<_, Error, _>(async |conn| {
                        fence(conn, by.lease).await?;
                        record(conn, event).await
                    })
                    .await?;
                self.wake.notify_one();
                Err(err)
            }
        }
    }

    async fn deleted(&self, by: By<'_>, runner: Runner) -> Result<(Runner, Outcome), Error> {
        let event = self.event(Kind::Deprovisioned, by.actor).about(&runner);
        let event = event.with(json!({ "reason": by.reason, "github_runner_id": runner.github_runner_id }));
        let change = gone(Status::Deleted, event.timestamp);
        let moved = self.move_runner(by.lease, &runner, &change, event).await?;
        Ok((moved.unwrap_or(Runner { status: Status::Deleted, ..runner }), Outcome::Deleted))
    }

    async fn busy(&self, by: By<'_>, runner: Runner, if_busy: IfBusy) -> Result<(Runner, Outcome), Error> {
        let refusal = Error::RunnerBusy(runner.name.clone());
        let event = self.event(Kind::DeprovisionRefused, by.actor).about(&runner).because(&refusal);
        let now = event.timestamp;
        if if_busy == IfBusy::KeepDeleting {
            let attempts = runner.delete_attempts;
            let change = Change {
                busy: Some(true),
                delete_attempts: Some(attempts + 1),
                delete_after: Some(Some(now + pause(attempts))),
                updated_at: Some(now),
                ..Change::default()
            };
            // Only the first refusal is news.
            let moved = match attempts {
                0 => self.move_runner(by.lease, &runner, &change, event).await?,
                _ => self.change_silently(by.lease, &runner, &change).await?,
            };
            return Ok((moved.unwrap_or(runner), Outcome::WhenIdle));
        }
        // What it was; `pending` cannot be busy, so a busy one that was pending is active.
        let back = match runner.deleting_from.as_deref().map(str::parse) {
            Some(Ok(Status::Offline)) => Status::Offline,
            Some(Ok(Status::Pending)) => Status::Pending,
            _ => Status::Active,
        };
        let change = Change {
            status: Some(back.as_str()),
            busy: Some(true),
            deleting_from: Some(None),
            delete_after: Some(None),
            updated_at: Some(now),
            ..Change::default()
        };
        self.move_runner(by.lease, &runner, &change, event.with(json!({ "to": back }))).await?;
        Err(refusal)
    }

    /// A registration whose runner GitHub has not shown: there may be one of that name by now.
    async fn remove_unseen(&self, by: By<'_>, runner: Runner) -> Result<(Runner, Outcome), Error> {
        if let Some(found) = self.github.runner_named(&runner.target, &runner.name, self.deadline()).await? {
            let Some(runner) = self.take_facts(by, &runner, &found, self.clock.now()).await? else {
                return Err(Error::RunnerInFlight(runner.name));
            };
            let Some(deleting) = self.start_deleting(by, &runner).await? else {
                return Err(Error::RunnerInFlight(runner.name));
            };
            return self.finish_deleting(by, deleting, IfBusy::Refuse).await;
        }
        self.deleted(by, runner).await
    }

    /// Asks GitHub about one runner now, and moves its row by the answer.
    pub async fn refresh(&self, caller: &Caller, id_or_name: &str) -> Result<(Runner, Vec<Event>), Error> {
        let runner = self.find_to_change(caller, id_or_name).await?;
        let by = By { actor: Actor::Caller(caller), reason: "refresh", lease: None };
        if matches!(runner.status, Status::Pending | Status::Active | Status::Offline) {
            self.look(by, &runner).await?;
        }
        self.runner(caller, &runner.id.to_string()).await
    }

    /// One look at GitHub: the row takes the facts over, or is `deleted` when GitHub answers 404.
    pub(super) async fn look(&self, by: By<'_>, runner: &Runner) -> Result<Option<github::Runner>, Error> {
        let (deadline, at) = (self.deadline(), self.clock.now());
        let found = match runner.github_runner_id {
            Some(id) => self.github.runner(&runner.target, id, deadline).await?,
            None => self.github.runner_named(&runner.target, &runner.name, deadline).await?,
        };
        match &found {
            Some(found) => {
                self.take_facts(by, runner, found, at).await?;
            }
            // A registration that nobody has used yet is not gone.
            None if runner.github_runner_id.is_none() => {}
            None => {
                let event = self.event(Kind::RunnerStateChanged, by.actor).about(runner);
                let data = json!({ "from": runner.status, "to": Status::Deleted, "reason": "not on GitHub" });
                let change = gone(Status::Deleted, event.timestamp);
                self.move_runner(by.lease, runner, &change, event.with(data)).await?;
            }
        }
        Ok(found)
    }

    /// Takes over what GitHub said at `at`, unless the row knows something newer.
    async fn take_facts(
        &self,
        by: By<'_>,
        runner: &Runner,
        found: &github::Runner,
        at: DateTime<Utc>,
    ) -> Result<Option<Runner>, Error> {
        let Some(facts) = plan::facts(runner, found, at) else {
            return Ok(Some(runner.clone()));
        };
        let change = facts.change(at, self.clock.now());
        match facts.to == runner.status {
            true => self.change_silently(by.lease, runner, &change).await,
            false => {
                let event = self.event(Kind::RunnerStateChanged, by.actor).about(runner);
                let event = event.with(json!({ "from": runner.status, "to": facts.to, "reason": by.reason }));
                self.move_runner(by.lease, runner, &change, event).await
            }
        }
    }

    /// A token for `config.sh remove`. JIT runners have nothing that could use it.
    pub async fn remove_token(
        self: &Arc<Self>,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<(Runner, IssuedToken), Error> {
        let runner = self.find_to_change(caller, id_or_name).await?;
        if runner.method == Method::Jit {
            return Err(Error::NoRemoveTokenForJit);
        }
        if !runner.status.is_live() {
            let status = runner.status.as_str();
            return Err(Error::RunnerGone { name: runner.name, status, verb: "remove" });
        }
        let (broker, caller) = (self.clone(), caller.clone());
        self.to_the_end(async move {
            let issued = broker.github.remove_token(&runner.target, broker.deadline()).await;
            let event = match &issued {
                Ok(issued) => {
                    let sha256 = hex::encode(digest(&SHA256, issued.token.expose_secret().as_bytes()));
                    broker
                        .event(Kind::RemoveTokenIssued, Actor::Caller(&caller))
                        .with(json!({ "credential_sha256": sha256, "expires_at": issued.expires_at }))
                }
                Err(err) => {
                    let mut event = broker.event(Kind::RemoveTokenFailed, Actor::Caller(&caller));
                    event.error_message = Some(err.to_string());
                    event
                }
            };
            let event = event.about(&runner);
            broker.store.transaction::<_, Error, _>(async |conn| record(conn, event).await).await?;
            Ok((runner, issued?))
        })
        .await
    }

    /// Changes a row that is still as it was seen, with its event, in one transaction.
    pub(super) async fn move_runner(
        &self,
        lease: Option<&Lease>,
        seen: &Runner,
        change: &Change,
        event: store::audit::NewEvent,
    ) -> Result<Option<Runner>, Error> {
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, lease).await?;
                let moved = runners::change(conn, seen, change).await?;
                if moved.is_some() {
                    record(conn, event).await?;
                }
                Ok(moved)
            })
            .await
    }

    /// For what is no change of state: busy, last seen, the count of attempts.
    async fn change_silently(
        &self,
        lease: Option<&Lease>,
        seen: &Runner,
        change: &Change,
    ) -> Result<Option<Runner>, Error> {
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, lease).await?;
                Ok(runners::change(conn, seen, change).await?)
            })
            .await
    }
}

/// The first statement of everything that a leader writes: does nothing if another leads by now.
pub(super) async fn fence(conn: &mut Conn, lease: Option<&Lease>) -> Result<(), Error> {
    match lease {
        Some(lease) if !leases::hold(conn, lease).await? => Err(Error::LeaseLost),
        _ => Ok(()),
    }
}

/// The change of a row whose runner GitHub has no more.
pub(super) fn gone(status: Status, now: DateTime<Utc>) -> Change {
    Change {
        status: Some(status.as_str()),
        busy: Some(false),
        updated_at: Some(now),
        facts_at: Some(now),
        deleted_at: Some(now),
        ..Change::default()
    }
}

/// 1, 2, 4, … 15 minutes.
fn pause(attempts: i32) -> TimeDelta {
    TimeDelta::minutes(1 << attempts.clamp(0, 4)).min(LONGEST_PAUSE)
}
