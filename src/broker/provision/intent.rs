//! The intent: what a provision is allowed and which row it gets, decided under locks and written before GitHub
//! hears of anything.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::try_join;
use serde_json::json;
use tracing::Instrument;
use uuid::Uuid;

use crate::broker::events::{About, Kind, record};
use crate::broker::people::caller::Caller;
use crate::broker::{Broker, Error};
use crate::model::NameAsk;
use crate::policy::{Ask, Denial, Grant, Placed, Usage};
use crate::store::audit::NewEvent;
use crate::store::idempotency::Key;
use crate::store::runners::{self, Runner};
use crate::store::{Conn, idempotency, policies};
use crate::telemetry::{self, SPANS};

/// How many suffixes are tried for a generated name before its prefix counts as taken.
pub(in crate::broker) const SUFFIXES: usize = 3;

/// A row's generation until a repeat replaces its runner.
const FIRST: i32 = 1;

/// What the intent's transaction decided to do.
pub(in crate::broker) enum Intent {
    Fresh(Runner, Grant),
    /// The runner of the idempotency key will be replaced by the same row's next generation.
    Repeat {
        former: Box<Runner>,
        runner: Runner,
        grant: Grant,
    },
}

impl Broker {
    /// The intent: quota, rate, name and idempotency key are decided under their locks, and the row and its
    /// event are written before GitHub hears of anything. A refusal commits its event, too.
    pub(in crate::broker) async fn intend(
        &self,
        caller: &Caller,
        ask: &Ask,
        key: Option<&Key>,
        placed: &Placed,
    ) -> Result<Intent, Error> {
        if let Some(intent) = self.intend_at_once(caller, ask, key, placed).await? {
            return Ok(intent);
        }
        self.store
            .transaction::<_, Error, _>(async |conn| {
                let span = telemetry::step(|| tracing::info_span!(target: SPANS, "decision"));
                let decided = self.decide(conn, caller, ask, key, placed).instrument(span).await?;
                if let Err(refusal) = &decided {
                    let (kind, mut event) = self.refusal(caller, ask, refusal);
                    if !self.has_own_event(caller, kind, refusal.code()) {
                        return Ok(decided);
                    }
                    event.team = Some(placed.permit().team().to_owned());
                    event.target = Some(placed.permit().target().to_string());
                    event.policy_rule = Some(placed.permit().rule().to_owned());
                    record(conn, event).await?;
                }
                Ok(decided)
            })
            .await?
    }

    /// The same, half as many ways to Postgres: for a caller whom nothing needs to be looked up about, if the first
    /// name is free. `None`: that is not so, and nothing was written.
    async fn intend_at_once(
        &self,
        caller: &Caller,
        ask: &Ask,
        key: Option<&Key>,
        placed: &Placed,
    ) -> Result<Option<Intent>, Error> {
        let permit = placed.permit();
        if key.is_some() || permit.is_limited() || self.shut_out(caller).is_some() {
            return Ok(None);
        }
        let Ok(grant) = placed.grant(Usage::default()) else { return Ok(None) };
        let (id, name, now) = (Uuid::now_v7(), ask.name.name(), self.clock.now());
        let event = self.intent_event(caller, &grant, (id, name.as_str(), FIRST));
        let written = self
            .store
            .pipeline::<_, Error, _>(async |conn| {
                let claimed =
                    async { Ok(runners::claim(conn, id, &name, &grant, &caller.identity, now).await?) };
                let (claimed, ()) = try_join(claimed, record(conn, event)).await?;
                // Only an error takes the event back.
                claimed.ok_or_else(|| Error::NameTaken(name.to_string()))
            })
            .await;
        match written {
            Ok(runner) => Ok(Some(Intent::Fresh(runner, grant))),
            Err(Error::NameTaken(_)) => Ok(None),
            Err(err) => Err(err),
        }
    }

    pub(in crate::broker) async fn decide(
        &self,
        conn: &mut Conn,
        caller: &Caller,
        ask: &Ask,
        key: Option<&Key>,
        placed: &Placed,
    ) -> Result<Result<Intent, Error>, Error> {
        // Since the call began the caller may have been deactivated, or denied access: GitHub may have been slow to
        // answer about a group.
        if let Some(refusal) = self.shut_out(caller) {
            return Ok(Err(refusal));
        }
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

    pub(in crate::broker) async fn reclaim(
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
        let told = (runner.id, runner.name.as_str(), runner.generation);
        record(conn, self.intent_event(caller, &grant, told)).await?;
        Ok(Ok(Intent::Repeat { former: Box::new(old), runner, grant }))
    }

    /// Counts under the team's lock what its limits need, and grants.
    pub(in crate::broker) async fn count_and_grant(
        &self,
        conn: &mut Conn,
        placed: &Placed,
        is_repeat: bool,
        now: DateTime<Utc>,
    ) -> Result<Result<Grant, Error>, Error> {
        let permit = placed.permit();
        let mut usage = Usage::default();
        let mut oldest = None;
        if permit.is_limited() {
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
    pub(in crate::broker) async fn claim(
        &self,
        conn: &mut Conn,
        caller: &Caller,
        ask: &Ask,
        grant: &Grant,
        now: DateTime<Utc>,
    ) -> Result<Option<Runner>, Error> {
        let tries = if ask.name.is_generated() { SUFFIXES } else { 1 };
        for _ in 0..tries {
            let (id, name) = (Uuid::now_v7(), ask.name.name());
            if let Some(runner) = runners::claim(conn, id, &name, grant, &caller.identity, now).await? {
                let told = (id, name.as_str(), runner.generation);
                record(conn, self.intent_event(caller, grant, told)).await?;
                return Ok(Some(runner));
            }
        }
        Ok(None)
    }

    fn intent_event(
        &self,
        caller: &Caller,
        grant: &Grant,
        (id, name, generation): (Uuid, &str, i32),
    ) -> NewEvent {
        let mut event =
            self.event(Kind::ProvisionRequested, caller.actor()).about_new(id, name).with(json!({
                "method": grant.method(),
                "runner_group_id": grant.group_id(),
                "generation": generation,
            }));
        event = event.labelled(grant.labels());
        event.team = Some(grant.team().to_owned());
        event.target = Some(grant.target().to_string());
        event.policy_rule = Some(grant.rule().to_owned());
        event
    }

    pub(in crate::broker) fn refusal(&self, caller: &Caller, ask: &Ask, err: &Error) -> (Kind, NewEvent) {
        let kind = match err {
            Error::GitHub(_) => Kind::ProvisionFailed,
            _ => Kind::ProvisionRefused,
        };
        let mut event = self.event(kind, caller.actor()).because(err).with(json!({ "method": ask.method }));
        event = event.labelled(&ask.labels);
        // Only a team of the caller's own: its members may read this event.
        let membership = caller.membership(ask.team.as_deref());
        event.team = membership.map(|of| of.team.name().to_owned());
        event.policy_rule = membership.map(|of| of.rule.clone());
        event.target = ask.target.as_ref().map(ToString::to_string);
        event.runner_name = match &ask.name {
            NameAsk::Exact(name) => Some(name.to_string()),
            NameAsk::Prefix(_) => None,
        };
        (kind, event)
    }
}
