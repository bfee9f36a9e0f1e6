//! A runner for a caller: the intent first, then GitHub, then the result, and only then the credential.
//! A crash anywhere leaves a `requested` row, never a runner that no row knows.

pub(super) mod ask_github;
pub mod explain;
pub(super) mod intent;
pub(super) mod late;
pub(super) mod lost_answer;
pub(super) mod repeated_key;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::try_join;
use metrics::counter;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tracing::Instrument;

use super::events::{About, Kind, record};
use super::people::caller::Caller;
use super::{Broker, Error};
use crate::github::Deadline;
use crate::model::{DEFAULT_GROUP_ID, GroupRef, Method, sha256, system_labels};
use crate::policy::{self, Ask, Denial, Grant, Placed};
use crate::store::idempotency::Key;
use crate::store::runners::{self, Issued, Runner};
use crate::telemetry::{self, SPANS};
use ask_github::Issuance;
use intent::Intent;

/// How long an idempotency key is remembered.
pub(super) const KEY_LIFE: TimeDelta = TimeDelta::hours(24);

/// What a caller gets, once.
#[derive(Debug)]
pub struct Provisioned {
    /// The row of the runner.
    pub runner: Runner,
    /// What was granted.
    pub grant: Grant,
    /// The JIT configuration, or the registration token.
    pub credential: SecretString,
    /// Until when the credential can be used.
    pub expires_at: DateTime<Utc>,
    /// What `config.sh` calls the runner group; `None` for GitHub's default one.
    pub group_name: Option<String>,
    /// Those of `runner.labels` that the runner's own software adds.
    pub system_labels: BTreeSet<String>,
}

impl Broker {
    /// Hands out one runner, or says why not. Goes on to its end when the caller hangs up.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`], [`Error::TooManyRequests`], [`Error::GitHubHourIsOthers`], [`Error::NameTaken`], [`Error::KeyInProgress`],
    /// [`Error::KeySpent`], [`Error::KeyReused`], [`Error::IdentityDeactivated`], [`Error::TooLate`],
    /// [`Error::AnswerLost`], [`Error::GitHub`], [`Error::Store`] or [`Error::Panicked`].
    pub async fn provision(
        self: &Arc<Self>,
        caller: &Caller,
        ask: Ask,
        key: Option<Key>,
    ) -> Result<Provisioned, Error> {
        let (broker, caller) = (self.clone(), caller.clone());
        let method = ask.method;
        let outcome =
            self.run_detached(async move { broker.provision_now(&caller, &ask, key.as_ref()).await }).await;
        let label = outcome.as_ref().map_or_else(Error::code, |_| "granted");
        counter!("broker_decisions_total", "method" => method.as_str(), "outcome" => label).increment(1);
        outcome
    }

    async fn provision_now(
        self: &Arc<Self>,
        caller: &Caller,
        ask: &Ask,
        key: Option<&Key>,
    ) -> Result<Provisioned, Error> {
        let deadline = self.deadline();
        let placed = match self.place(caller, ask, deadline).await {
            Ok(placed) => placed,
            Err(err) => return Err(self.refuse(caller, ask, err).await?),
        };
        let permit = placed.permit();
        if let Err(err) = self.spend_provision(permit.team(), permit.target()) {
            return Err(self.refuse(caller, ask, err).await?);
        }
        let group_name = match self.group_name(&placed, deadline).await {
            Ok(name) => name,
            Err(err) => return Err(self.refuse(caller, ask, err).await?),
        };
        let (runner, grant) = match self.intend(caller, ask, key, &placed).await? {
            Intent::Fresh(runner, grant) => (runner, grant),
            Intent::Repeat { former, runner, grant } => {
                self.replace_unstarted(caller, &former, &runner, deadline).await?;
                if grant.method() == Method::RegistrationToken {
                    let renewed = self.renew(caller, ask, &former, runner, grant, deadline).await?;
                    return Ok(Provisioned { group_name, ..renewed });
                }
                (runner, grant)
            }
        };
        let (runner, made) = self.obtain(caller, ask, &grant, runner, deadline).await?;
        let provisioned = self.hand_out(caller, ask, grant, runner, made, deadline).await?;
        Ok(Provisioned { group_name, ..provisioned })
    }

    /// A fresh token on the row of a former one, which stays good whatever happens to this one: GitHub cannot
    /// take it back.
    async fn renew(
        self: &Arc<Self>,
        caller: &Caller,
        ask: &Ask,
        former: &Runner,
        runner: Runner,
        grant: Grant,
        deadline: Deadline,
    ) -> Result<Provisioned, Error> {
        match self.ask_github(&grant, &runner, deadline).await {
            Ok(made) => self.hand_out(caller, ask, grant, runner, made, deadline).await,
            Err(err) => Err(self.give_back(caller, former, &runner, err.into()).await?),
        }
    }

    /// The last step: the row is settled, and only then does the caller get the credential.
    async fn hand_out(
        self: &Arc<Self>,
        caller: &Caller,
        ask: &Ask,
        grant: Grant,
        runner: Runner,
        made: Issuance,
        deadline: Deadline,
    ) -> Result<Provisioned, Error> {
        let runner = self.settle(caller, &grant, &runner, &made, deadline).await?;
        let system_labels = system_labels(ask.os, ask.arch).iter().map(ToString::to_string).collect();
        let Issuance { credential, expires_at, .. } = made;
        Ok(Provisioned { runner, grant, credential, expires_at, group_name: None, system_labels })
    }

    /// The permit with its runner group settled; GitHub is asked only for names that nobody knows yet.
    pub(super) async fn place(
        &self,
        caller: &Caller,
        ask: &Ask,
        deadline: Deadline,
    ) -> Result<Placed, Error> {
        let permit = telemetry::step(|| tracing::info_span!(target: SPANS, "policy"))
            .in_scope(|| policy::consider(&caller.memberships, ask))?;
        self.check_installation(permit.target())?;
        let mut ids = BTreeMap::new();
        for name in permit.group_names() {
            if let Some(id) = self.github.group_id(permit.target(), name, deadline).await? {
                ids.insert(name.to_owned(), id);
            }
        }
        Ok(permit.place(&ids)?)
    }

    /// Records a refusal that came before any row, and hands the refusal back.
    async fn refuse(&self, caller: &Caller, ask: &Ask, err: Error) -> Result<Error, Error> {
        if caller.is_stranger() {
            self.note_refused_stranger(caller, &err).await?;
            return Ok(err);
        }
        let (kind, event) = self.refusal(caller, ask, &err);
        if self.has_own_event(caller, kind, err.code()) {
            self.store.transaction::<_, Error, _>(async |conn| record(conn, event).await).await?;
        }
        Ok(err)
    }

    /// `requested → pending`. If that cannot be written, the runner is taken off GitHub again: nothing is
    /// handed out that the table does not know.
    async fn settle(
        self: &Arc<Self>,
        caller: &Caller,
        grant: &Grant,
        runner: &Runner,
        made: &Issuance,
        deadline: Deadline,
    ) -> Result<Runner, Error> {
        let sha256 = sha256(made.credential.expose_secret());
        let mut event = self.event(Kind::Provisioned, caller.actor()).about(runner).with(json!({
            "method": grant.method(),
            "credential_sha256": sha256,
            "github_runner_id": made.github_runner_id,
            "expires_at": made.expires_at,
            "generation": runner.generation,
        }));
        event.policy_rule = Some(grant.rule().to_owned());
        let now = event.timestamp;
        let issued = Issued {
            github_runner_id: made.github_runner_id,
            credential_sha256: &sha256,
            expires_at: made.expires_at,
            may_appear: made.may_appear,
        };
        let written = self
            .store
            .pipeline::<_, Error, _>(async |conn| {
                let settled = async { Ok(runners::settle(conn, runner.claim(), issued, now).await?) };
                match try_join(settled, record(conn, event)).await? {
                    (true, ()) => Ok(()),
                    (false, ()) => Err(Error::TooLate),
                }
            })
            .await;
        match written {
            Ok(()) => Ok(runner.settled(issued, now)),
            Err(err) => {
                self.withdraw(runner, made.github_runner_id, deadline).await;
                Err(err)
            }
        }
    }

    /// Takes a runner off GitHub that was made but not handed out. Its caller is not kept waiting for that
    /// past the deadline.
    async fn withdraw(self: &Arc<Self>, runner: &Runner, github_runner_id: Option<i64>, deadline: Deadline) {
        let Some(id) = github_runner_id else { return };
        let (broker, runner) = (self.clone(), runner.clone());
        let withdrawing = self.tasks.spawn_on(
            async move {
                let own = Deadline::within(broker.github_timeout);
                if let Err(err) = broker.github.delete_runner(&runner.target, id, own).await {
                    tracing::warn!(runner = %runner.id, error = %err, "a runner that was not handed out is left to the sweep");
                }
                broker.wake.notify_one();
            }
            .in_current_span(),
            &self.runtime,
        );
        // Whether it ended in time or not, there is nothing to add.
        let _ = tokio::time::timeout_at(deadline.at(), withdrawing).await;
    }

    /// What `config.sh --runnergroup` wants: known before a token is issued, since without it the runner would
    /// register in the default group. `None`: that is its group.
    async fn group_name(&self, placed: &Placed, deadline: Deadline) -> Result<Option<String>, Error> {
        let (permit, id) = (placed.permit(), placed.group_id());
        if permit.method() == Method::Jit || id == DEFAULT_GROUP_ID {
            return Ok(None);
        }
        match self.github.group_name(permit.target(), id, deadline).await? {
            Some(name) => Ok(Some(name)),
            None => Err(Denial::RunnerGroup(Some(GroupRef::Id(id))).into()),
        }
    }
}
