//! A repeated idempotency key: never two runners alive for one key, and fresh credentials for a caller who
//! lost the first ones.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::KEY_LIFE;
use crate::broker::events::{About, Kind, record};
use crate::broker::people::caller::Caller;
use crate::broker::runners::facts::is_unstarted;
use crate::broker::{Broker, Error};
use crate::github::{Deadline, Removal};
use crate::model::{Method, Status};
use crate::store::idempotency::Key;
use crate::store::runners::{self, Runner};
use crate::store::{Conn, idempotency};

impl Broker {
    /// The runner that this key already stands for and that may be replaced; `None`: the key is fresh.
    pub(in crate::broker) async fn repeated(
        &self,
        conn: &mut Conn,
        caller: &Caller,
        key: &Key,
        now: DateTime<Utc>,
    ) -> Result<Result<Option<Runner>, Error>, Error> {
        idempotency::lock(conn, &caller.identity, key).await?;
        let Some(used) = idempotency::find(conn, &caller.identity, key, now - KEY_LIFE).await? else {
            return Ok(Ok(None));
        };
        if !key.was_used_for(&used) {
            return Ok(Err(Error::KeyReused));
        }
        let Some(runner) = runners::by_id(conn, used.runner_id).await? else {
            return Ok(Ok(None));
        };
        Ok(match runner.status {
            Status::Pending => Ok(Some(runner)),
            Status::Failed => Ok(None),
            // A repair has claimed it: soon the key is free, or stands for what it stood for before.
            Status::Deleting if runner.deleting_from.is_none() => {
                Err(Error::KeyInProgress { until: now + TimeDelta::seconds(1) })
            }
            Status::Requested => {
                let longest = TimeDelta::from_std(self.longest()).unwrap_or(TimeDelta::MAX);
                let until = (runner.requested_at + longest).max(now + TimeDelta::seconds(1));
                Err(Error::KeyInProgress { until })
            }
            Status::Active | Status::Offline | Status::Deleting | Status::Deleted => Err(Error::KeySpent),
        })
    }

    /// Makes sure that what the key stood for never started, and takes it off GitHub. If it did start, the row
    /// goes back to what it was, and the key is spent.
    pub(in crate::broker) async fn replace_unstarted(
        &self,
        caller: &Caller,
        former: &Runner,
        runner: &Runner,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let refusal = match self.take_off_unstarted(runner, deadline).await {
            Ok(true) => return Ok(()),
            Ok(false) => Error::KeySpent,
            Err(err) => err,
        };
        Err(self.give_back(caller, former, runner, refusal).await?)
    }

    /// `requested → pending`: what was handed out before is still good. Hands `err` back.
    pub(in crate::broker) async fn give_back(
        &self,
        caller: &Caller,
        former: &Runner,
        runner: &Runner,
        err: Error,
    ) -> Result<Error, Error> {
        let kind = match err {
            Error::KeySpent => Kind::ProvisionRefused,
            _ => Kind::ProvisionFailed,
        };
        let event = self.event(kind, caller.actor()).about(runner).because(&err);
        let event = event.with(json!({ "from": Status::Requested, "to": Status::Pending }));
        self.store
            .transaction::<_, Error, _>(async |conn| {
                if runners::unclaim(conn, runner.claim(), former, event.timestamp).await? {
                    record(conn, event).await?;
                }
                Ok(())
            })
            .await?;
        Ok(err)
    }

    /// Whether nothing of the former generation is on GitHub, now or any more, and none of it ever started.
    async fn take_off_unstarted(&self, runner: &Runner, deadline: Deadline) -> Result<bool, Error> {
        let id = match (runner.method, runner.github_runner_id) {
            (Method::Jit, Some(id)) => id,
            (Method::Jit, None) => return Ok(true),
            // Registered means that the first token has done its work.
            (Method::RegistrationToken, _) => {
                return Ok(self.registered(runner, deadline).await?.is_none());
            }
        };
        match self.github.runner(&runner.target, id, deadline).await? {
            None => Ok(true),
            Some(found) if !is_unstarted(&found) => Ok(false),
            Some(_) => Ok(self.github.delete_runner(&runner.target, id, deadline).await? != Removal::Busy),
        }
    }
}
