//! A repeated idempotency key: never two runners alive for one key, and fresh credentials for a caller who
//! lost the first ones.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::caller::Caller;
use super::events::{About, Actor, Kind, record};
use super::lost::is_unstarted;
use super::provision::KEY_LIFE;
use super::{Broker, Error};
use crate::github::{Deadline, Removal};
use crate::model::{Method, Status};
use crate::store::idempotency::Key;
use crate::store::runners::{self, Runner};
use crate::store::{Conn, idempotency};

impl Broker {
    /// The runner that this key already stands for and that may be replaced; `None`: the key is fresh.
    pub(super) async fn repeated(
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
        if used.fingerprint != key.fingerprint {
            return Ok(Err(Error::KeyReused));
        }
        let Some(runner) = runners::by_id(conn, used.runner_id).await? else {
            return Ok(Ok(None));
        };
        Ok(match runner.status {
            Status::Pending => Ok(Some(runner)),
            Status::Failed => Ok(None),
            Status::Requested => {
                let longest = TimeDelta::from_std(self.longest()).unwrap_or(TimeDelta::MAX);
                let until = (runner.requested_at + longest).max(now + TimeDelta::seconds(1));
                Err(Error::KeyInProgress { until })
            }
            Status::Active | Status::Offline | Status::Deleting | Status::Deleted => Err(Error::KeySpent),
        })
    }

    /// Takes the former runner of a reclaimed row off GitHub, if it never started. If it did, the row goes
    /// back to `pending` as it was, and the key is spent.
    pub(super) async fn replace_unstarted(
        &self,
        caller: &Caller,
        runner: &Runner,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let (Method::Jit, Some(id)) = (runner.method, runner.github_runner_id) else {
            return Ok(());
        };
        let refusal = match self.take_off_unstarted(runner, id, deadline).await {
            Ok(true) => return Ok(()),
            Ok(false) => Error::KeySpent,
            Err(err) => err,
        };
        let kind = match refusal {
            Error::KeySpent => Kind::ProvisionRefused,
            _ => Kind::ProvisionFailed,
        };
        let event = self.event(kind, Actor::Caller(caller)).about(runner).because(&refusal);
        let event = event.with(json!({ "from": "requested", "to": "pending" }));
        self.store
            .transaction::<_, Error, _>(async |conn| {
                if runners::unclaim(conn, runner.claim(), self.clock.now()).await? {
                    record(conn, event).await?;
                }
                Ok(())
            })
            .await?;
        Err(refusal)
    }

    /// Whether the runner is gone from GitHub now without ever having started.
    async fn take_off_unstarted(&self, runner: &Runner, id: i64, deadline: Deadline) -> Result<bool, Error> {
        match self.github.runner(&runner.target, id, deadline).await? {
            None => Ok(true),
            Some(found) if !is_unstarted(&found) => Ok(false),
            Some(_) => Ok(self.github.delete_runner(&runner.target, id, deadline).await? != Removal::Busy),
        }
    }
}
