//! Asking GitHub for what was intended: at most once more after a lost answer, and never leaving an orphan.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use serde_json::json;

use super::intent::SUFFIXES;
use super::lost_answer::Trace;
use crate::broker::events::{About, Kind, record};
use crate::broker::people::caller::Caller;
use crate::broker::{Broker, Error};
use crate::github::{self, Deadline};
use crate::model::Method;
use crate::policy::{Ask, Grant};
use crate::store::idempotency;
use crate::store::runners::{self, Runner};

/// What GitHub made for a claim.
pub(in crate::broker) struct Issuance {
    pub github_runner_id: Option<i64>,
    pub credential: SecretString,
    pub expires_at: DateTime<Utc>,
    /// Whether an earlier request for the same row was lost, and may still make a runner.
    pub may_appear: bool,
}

impl Broker {
    /// Asks GitHub, at most once more after a lost answer, and leaves no orphan: a lost answer is resolved
    /// before the second time.
    pub(in crate::broker) async fn obtain(
        &self,
        caller: &Caller,
        ask: &Ask,
        grant: &Grant,
        mut runner: Runner,
        deadline: Deadline,
    ) -> Result<(Runner, Issuance), Error> {
        let mut renames = 0;
        // The last row whose answer was lost.
        let mut lost = None;
        let mut freed = false;
        loop {
            let may_appear = lost == Some(runner.id);
            let err = match self.ask_github(grant, &runner, deadline).await {
                Ok(made) => return Ok((runner, Issuance { may_appear, ..made })),
                Err(err) => err,
            };
            let is_conflict = matches!(err, github::Error::Conflict { .. });
            let is_lost = err.lost_answer() && grant.method() == Method::Jit;
            // After a lost answer a conflict may be with what the first request made after all.
            let trace = match is_lost || (is_conflict && may_appear) {
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
            // A repeat keeps the name that its caller knows.
            let is_renamed =
                ask.name.is_generated() && runner.generation == 1 && has_time && renames < SUFFIXES;
            let (why, again) = match trace {
                Some(Trace::Foreign) => (Error::NameTaken(runner.name.clone()), false),
                Some(_) => (Error::AnswerLost(err), lost.is_none() && !freed && has_time),
                None if is_conflict => {
                    // Perhaps by what a lost request of a row that has ended since made late.
                    freed = !is_renamed
                        && !freed
                        && has_time
                        && self.free_name(caller.actor(), &runner, deadline).await;
                    (Error::NameTaken(runner.name.clone()), freed)
                }
                None => return Err(self.fail(caller, &runner, Error::GitHub(err), may_appear).await?),
            };
            lost = if is_lost { Some(runner.id) } else { lost };
            let may_appear = lost == Some(runner.id);
            if is_renamed {
                if again || matches!(why, Error::NameTaken(_)) {
                    renames += 1;
                    runner = self.rename(caller, ask, grant, &runner, why, may_appear).await?;
                    continue;
                }
            } else if again {
                continue;
            }
            return Err(self.fail(caller, &runner, why, may_appear).await?);
        }
    }

    pub(in crate::broker) async fn ask_github(
        &self,
        grant: &Grant,
        runner: &Runner,
        deadline: Deadline,
    ) -> Result<Issuance, github::Error> {
        match grant.method() {
            Method::Jit => {
                let jit = self.github.generate_jitconfig(grant, &runner.name, deadline).await?;
                let start =
                    TimeDelta::from_std(self.config.jit_start_deadline).unwrap_or(TimeDelta::hours(1));
                Ok(Issuance {
                    github_runner_id: Some(jit.runner.id),
                    credential: jit.encoded_jit_config,
                    expires_at: self.clock.now() + start,
                    may_appear: false,
                })
            }
            Method::RegistrationToken => {
                // A runner that is there already is somebody else's. The sweep would take it for the one that
                // this token makes, and the team could remove it.
                if runner.generation == 1
                    && self.github.runner_named(&runner.target, &runner.name, deadline).await?.is_some()
                {
                    return Err(github::Error::Conflict { message: "the name is taken".into() });
                }
                let issued = self.github.registration_token(grant, deadline).await?;
                Ok(Issuance {
                    github_runner_id: None,
                    credential: issued.token,
                    expires_at: issued.expires_at,
                    may_appear: false,
                })
            }
        }
    }

    /// Gives a generated name a new suffix: a new row, claimed before GitHub hears of it. The old row fails
    /// because of `why`; if a lost request may still make its runner, its name stays watched.
    pub(in crate::broker) async fn rename(
        &self,
        caller: &Caller,
        ask: &Ask,
        grant: &Grant,
        old: &Runner,
        why: Error,
        may_appear: bool,
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
                if !runners::fail(conn, old.claim(), &reason, may_appear, now).await? {
                    return Err(Error::TooLate);
                }
                let event = self.event(Kind::ProvisionFailed, caller.actor()).about(old).because(&why);
                record(conn, event.with(json!({ "renamed_to": new.id }))).await?;
                Ok(Some(new))
            })
            .await?;
        match renamed {
            Some(new) => Ok(new),
            None => Err(self.fail(caller, old, why, may_appear).await?),
        }
    }

    /// `requested → failed` with its event; hands `err` back. `may_appear`: a lost request may still make its
    /// runner, so the name stays watched. Should even this fail, the sweep does it.
    pub(in crate::broker) async fn fail(
        &self,
        caller: &Caller,
        runner: &Runner,
        err: Error,
        may_appear: bool,
    ) -> Result<Error, Error> {
        let event = self.event(Kind::ProvisionFailed, caller.actor()).about(runner).because(&err);
        let now = event.timestamp;
        let written = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                if runners::fail(conn, runner.claim(), &err.to_string(), may_appear, now).await? {
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
}
