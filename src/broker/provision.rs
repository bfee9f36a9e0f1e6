//! A runner for a caller: the intent first, then GitHub, then the result, and only then the credential.
//! A crash anywhere leaves a `requested` row, never a runner that no row knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, TimeDelta, Utc};
use metrics::counter;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tracing::Instrument;
use uuid::Uuid;

use super::caller::Caller;
use super::events::{About, Actor, Kind, record};
use super::lost::Trace;
use super::{Broker, Error};
use crate::github::{self, Deadline};
use crate::model::{Method, NameAsk, system_labels};
use crate::policy::{self, Ask, Denial, Grant, Placed, Usage};
use crate::store::idempotency::Key;
use crate::store::runners::{self, Issued, Runner};
use crate::store::{Conn, idempotency, policies};

/// How many suffixes are tried for a generated name before its prefix counts as taken.
const SUFFIXES: usize = 3;

/// How long an idempotency key is remembered.
pub(super) const KEY_LIFE: TimeDelta = TimeDelta::hours(24);

/// What a caller gets, once.
#[derive(Debug)]
pub struct Provisioned {
    pub runner: Runner,
    pub grant: Grant,
    /// The JIT configuration, or the registration token.
    pub credential: SecretString,
    pub expires_at: DateTime<Utc>,
    /// What `config.sh` calls the runner group; `None` for GitHub's default one.
    pub group_name: Option<String>,
    /// Those of `runner.labels` that the runner's own software adds.
    pub system_labels: BTreeSet<String>,
}

/// What the intent's transaction decided to do.
enum Intent {
    Fresh(Runner, Grant),
    /// The idempotency key's runner is to be replaced by the same row's next generation.
    Repeat {
        former: Box<Runner>,
        runner: Runner,
        grant: Grant,
    },
}

/// What GitHub made for a claim.
struct Made {
    github_runner_id: Option<i64>,
    credential: SecretString,
    expires_at: DateTime<Utc>,
}

impl Broker {
    /// Hands out one runner, or says why not. Goes on to its end when the caller hangs up.
    pub async fn provision(
        self: &Arc<Self>,
        caller: &Caller,
        ask: Ask,
        key: Option<Key>,
    ) -> Result<Provisioned, Error> {
        let (broker, caller) = (self.clone(), caller.clone());
        let method = ask.method;
        let outcome =
            self.to_the_end(async move { broker.provision_now(&caller, &ask, key.as_ref()).await }).await;
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
        let (runner, grant) = match self.intend(caller, ask, key, &placed).await? {
            Intent::Fresh(runner, grant) => (runner, grant),
            Intent::Repeat { former, runner, grant } => {
                self.replace_unstarted(caller, &former, &runner, deadline).await?;
                if grant.method() == Method::RegistrationToken {
                    return self.renew(caller, ask, &former, runner, grant, deadline).await;
                }
                (runner, grant)
            }
        };
        let (runner, made) = self.obtain(caller, ask, &grant, runner, deadline).await?;
        self.hand_out(caller, ask, grant, runner, made, deadline).await
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
        made: Made,
        deadline: Deadline,
    ) -> Result<Provisioned, Error> {
        let runner = self.settle(caller, &grant, &runner, &made, deadline).await?;
        let group_name = match grant.method() {
            Method::Jit => None,
            Method::RegistrationToken => self.group_name(&grant, deadline).await,
        };
        let system_labels = system_labels(ask.os, ask.arch).iter().map(ToString::to_string).collect();
        let Made { credential, expires_at, .. } = made;
        Ok(Provisioned { runner, grant, credential, expires_at, group_name, system_labels })
    }

    /// The permit with its runner group settled; GitHub is asked only for names that nobody knows yet.
    pub(super) async fn place(
        &self,
        caller: &Caller,
        ask: &Ask,
        deadline: Deadline,
    ) -> Result<Placed, Error> {
        let permit = policy::consider(&caller.memberships, ask)?;
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
        let event = self.refusal(caller, ask, &err);
        self.store.transaction::<_, Error, _>(async |conn| record(conn, event).await).await?;
        Ok(err)
    }

    fn refusal(&self, caller: &Caller, ask: &Ask, err: &Error) -> crate::store::audit::NewEvent {
        let kind = match err {
            Error::GitHub(_) => Kind::ProvisionFailed,
            _ => Kind::ProvisionRefused,
        };
        let mut event = self.event(kind, Actor::Caller(caller)).because(err).with(json!({
            "method": ask.method,
            "labels": ask.labels,
        }));
        // Only a team of the caller's own: its members may read this event.
        let memberships = &caller.memberships.teams;
        let membership = match (&ask.team, memberships.as_slice()) {
            (Some(name), all) => all.iter().find(|of| of.team.name().eq_ignore_ascii_case(name)),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        event.team = membership.map(|of| of.team.name().to_owned());
        event.policy_rule = membership.map(|of| of.rule.clone());
        event.target = ask.target.as_ref().map(ToString::to_string);
        event.runner_name = match &ask.name {
            NameAsk::Exact(name) => Some(name.to_string()),
            NameAsk::Prefix(_) => None,
        };
        event
    }

    /// The intent: quota, rate, name and idempotency key are decided under their locks, and the row and its
    /// event are written before GitHub hears of anything. A refusal commits its event, too.
    async fn intend(
        &self,
        caller: &Caller,
        ask: &Ask,
        key: Option<&Key>,
        placed: &Placed,
    ) -> Result<Intent, Error> {
        self.store
            .transaction::<_, Error, _>(async |conn| {
                let decided = self.decide(conn, caller, ask, key, placed).await?;
                if let Err(refusal) = &decided {
                    let mut event = self.refusal(caller, ask, refusal);
                    event.team = Some(placed.permit().team().to_owned());
                    event.target = Some(placed.permit().target().to_string());
                    event.policy_rule = Some(placed.permit().rule().to_owned());
                    record(conn, event).await?;
                }
                Ok(decided)
            })
            .await?
    }

    async fn decide(
        &self,
        conn: &mut Conn,
        caller: &Caller,
        ask: &Ask,
        key: Option<&Key>,
        placed: &Placed,
    ) -> Result<Result<Intent, Error>, Error> {
        let now = self.clock.now();
        let repeated = match key {
            None => None,
            Some(key) => match self.repeated(conn, caller, key, now).await? {
                Ok(repeated) => repeated,
                Err(refusal) => return Ok(Err(refusal)),
            },
        };
        let grant = match self.count_and_grant(conn, placed, repeated.is_some(), now).await? {
            Ok(grant) => grant,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(old) = repeated {
            return self.reclaim(conn, caller, old, grant, now).await;
        }
        let Some(runner) = self.claim(conn, caller, ask, &grant, now).await? else {
            let name = match &ask.name {
                NameAsk::Exact(name) => name.to_string(),
                NameAsk::Prefix(_) => "that prefix with three random suffixes".into(),
            };
            return Ok(Err(Error::NameTaken(name)));
        };
        if let Some(key) = key {
            idempotency::keep(conn, &caller.identity, key, runner.id, now).await?;
        }
        Ok(Ok(Intent::Fresh(runner, grant)))
    }

    async fn reclaim(
        &self,
        conn: &mut Conn,
        caller: &Caller,
        old: Runner,
        grant: Grant,
        now: DateTime<Utc>,
    ) -> Result<Result<Intent, Error>, Error> {
        if old.team != grant.team() || old.target != *grant.target() {
            return Ok(Err(Error::KeyReused));
        }
        let Some(runner) = runners::reclaim(conn, old.claim(), &grant, now).await? else {
            return Ok(Err(Error::KeySpent));
        };
        record(conn, self.intent_event(caller, &grant, &runner)).await?;
        Ok(Ok(Intent::Repeat { former: Box::new(old), runner, grant }))
    }

    /// Counts under the team's lock what its limits need, and grants.
    async fn count_and_grant(
        &self,
        conn: &mut Conn,
        placed: &Placed,
        is_repeat: bool,
        now: DateTime<Utc>,
    ) -> Result<Result<Grant, Error>, Error> {
        let permit = placed.permit();
        let mut usage = Usage::default();
        let mut oldest = None;
        if permit.max_runners().is_some() || permit.requests_per_minute().is_some() {
            if !policies::lock_team(conn, permit.team()).await? {
                return Ok(Err(Error::Denied(Denial::NoTeam { asked: None })));
            }
            if permit.requests_per_minute().is_some() {
                (usage.recent_requests, oldest) = policies::recent_requests(conn, permit.team(), now).await?;
            }
            if permit.max_runners().is_some() && !is_repeat {
                usage.live_runners = runners::count_for_quota(conn, permit.team(), now).await?;
            }
        }
        let grant = match placed.grant(usage) {
            Ok(grant) => grant,
            Err(Denial::RateLimited { .. }) => {
                let until = oldest.unwrap_or(now) + TimeDelta::minutes(1);
                return Ok(Err(Error::TooManyRequests { until }));
            }
            Err(denial) => return Ok(Err(denial.into())),
        };
        if permit.requests_per_minute().is_some() {
            policies::note_request(conn, permit.team(), now).await?;
        }
        Ok(Ok(grant))
    }

    /// Takes a name and writes the row with its event. `None`: the name is taken.
    async fn claim(
        &self,
        conn: &mut Conn,
        caller: &Caller,
        ask: &Ask,
        grant: &Grant,
        now: DateTime<Utc>,
    ) -> Result<Option<Runner>, Error> {
        let tries = if ask.name.is_generated() { SUFFIXES } else { 1 };
        for _ in 0..tries {
            let name = ask.name.name();
            let claimed = runners::claim(conn, Uuid::now_v7(), &name, grant, &caller.identity, now).await?;
            if let Some(runner) = claimed {
                record(conn, self.intent_event(caller, grant, &runner)).await?;
                return Ok(Some(runner));
            }
        }
        Ok(None)
    }

    fn intent_event(&self, caller: &Caller, grant: &Grant, runner: &Runner) -> crate::store::audit::NewEvent {
        let mut event =
            self.event(Kind::ProvisionRequested, Actor::Caller(caller)).about(runner).with(json!({
                "method": grant.method(),
                "labels": grant.labels(),
                "runner_group_id": grant.group_id(),
                "generation": runner.generation,
            }));
        event.policy_rule = Some(grant.rule().to_owned());
        event
    }

    /// Asks GitHub, at most once more after a lost answer, and leaves no orphan: a lost answer is resolved
    /// before the second time.
    async fn obtain(
        &self,
        caller: &Caller,
        ask: &Ask,
        grant: &Grant,
        mut runner: Runner,
        deadline: Deadline,
    ) -> Result<(Runner, Made), Error> {
        let mut renames = 0;
        let mut lost = false;
        loop {
            let err = match self.ask_github(grant, &runner, deadline).await {
                Ok(made) => return Ok((runner, made)),
                Err(err) => err,
            };
            let is_conflict = matches!(err, github::Error::Conflict { .. });
            let is_lost = err.lost_answer() && grant.method() == Method::Jit;
            // After a lost answer a conflict may be with what the first request made after all.
            let trace = match is_lost || (is_conflict && lost) {
                true => match self.resolve(&runner, deadline).await {
                    Ok(trace) => Some(trace),
                    Err(lookup) => {
                        // What cannot be looked up now stays `requested`: the sweep resolves it.
                        tracing::warn!(runner = %runner.id, error = %lookup, "a lost answer is left to the sweep");
                        self.wake.notify_one();
                        return Err(Error::AnswerLost(err));
                    }
                },
                false => None,
            };
            let has_time = deadline.remaining() >= self.github_timeout;
            let (why, again) = match trace {
                Some(Trace::Foreign) => (Error::NameTaken(runner.name.clone()), false),
                Some(_) => (Error::AnswerLost(err), !lost && has_time),
                None if is_conflict => (Error::NameTaken(runner.name.clone()), false),
                None => return Err(self.fail(caller, &runner, Error::GitHub(err)).await?),
            };
            lost |= is_lost;
            // A repeat keeps the name that its caller knows.
            if ask.name.is_generated() && runner.generation == 1 && has_time && renames < SUFFIXES {
                if again || matches!(why, Error::NameTaken(_)) {
                    renames += 1;
                    runner = self.rename(caller, ask, grant, &runner, why).await?;
                    continue;
                }
            } else if again {
                continue;
            }
            return Err(self.fail(caller, &runner, why).await?);
        }
    }

    async fn ask_github(
        &self,
        grant: &Grant,
        runner: &Runner,
        deadline: Deadline,
    ) -> Result<Made, github::Error> {
        match grant.method() {
            Method::Jit => {
                let jit = self.github.generate_jitconfig(grant, &runner.name, deadline).await?;
                let start =
                    TimeDelta::from_std(self.config.jit_start_deadline).unwrap_or(TimeDelta::hours(1));
                Ok(Made {
                    github_runner_id: Some(jit.runner.id),
                    credential: jit.encoded_jit_config,
                    expires_at: self.clock.now() + start,
                })
            }
            Method::RegistrationToken => {
                let issued = self.github.registration_token(grant, deadline).await?;
                Ok(Made { github_runner_id: None, credential: issued.token, expires_at: issued.expires_at })
            }
        }
    }

    /// Gives a generated name a new suffix: a new row, claimed before GitHub hears of it. The old row fails
    /// because of `why`; after a lost answer its name stays watched.
    async fn rename(
        &self,
        caller: &Caller,
        ask: &Ask,
        grant: &Grant,
        old: &Runner,
        why: Error,
    ) -> Result<Runner, Error> {
        let now = self.clock.now();
        let renamed = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                let Some(new) = self.claim(conn, caller, ask, grant, now).await? else {
                    return Ok(None);
                };
                idempotency::repoint(conn, old.id, new.id).await?;
                let reason = format!("renamed to {}: {why}", new.name);
                if !runners::fail(conn, old.claim(), &reason, may_appear(&why), now).await? {
                    return Err(Error::TooLate);
                }
                let event = self.event(Kind::ProvisionFailed, Actor::Caller(caller)).about(old).because(&why);
                record(conn, event.with(json!({ "renamed_to": new.id }))).await?;
                Ok(Some(new))
            })
            .await?;
        match renamed {
            Some(new) => Ok(new),
            None => Err(self.fail(caller, old, why).await?),
        }
    }

    /// `requested → failed` with its event; hands `err` back. Should even this fail, the sweep does it.
    async fn fail(&self, caller: &Caller, runner: &Runner, err: Error) -> Result<Error, Error> {
        let event = self.event(Kind::ProvisionFailed, Actor::Caller(caller)).about(runner).because(&err);
        let now = event.timestamp;
        let written = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                if runners::fail(conn, runner.claim(), &err.to_string(), may_appear(&err), now).await? {
                    record(conn, event).await?;
                }
                Ok(())
            })
            .await;
        if let Err(store) = written {
            tracing::warn!(runner = %runner.id, error = %store, "a failed provision is left to the sweep");
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
        made: &Made,
        deadline: Deadline,
    ) -> Result<Runner, Error> {
        let sha256 = hex::encode(digest(&SHA256, made.credential.expose_secret().as_bytes()));
        let mut event = self.event(Kind::Provisioned, Actor::Caller(caller)).about(runner).with(json!({
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
        };
        let written = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                if !runners::settle(conn, runner.claim(), issued, now).await? {
                    return Err(Error::TooLate);
                }
                record(conn, event).await
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
    /// past his deadline.
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

    /// What `config.sh --runnergroup` wants; a name that cannot be had now is left out rather than failing
    /// a token that was already issued.
    async fn group_name(&self, grant: &Grant, deadline: Deadline) -> Option<String> {
        match self.github.group_name(grant.target(), grant.group_id(), deadline).await {
            Ok(name) => name,
            Err(err) => {
                tracing::warn!(error = %err, "the runner group's name could not be looked up");
                None
            }
        }
    }
}

/// Whether a lost request may still make the runner of a provision that failed because of this.
fn may_appear(why: &Error) -> bool {
    matches!(why, Error::AnswerLost(_))
}
