//! Asking GitHub about one runner.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::facts::facts;
use super::transition::{Cause, gone};
use crate::broker::events::{About, Kind};
use crate::broker::people::caller::Caller;
use crate::broker::{Broker, Error};
use crate::github;
use crate::model::Status;
use crate::store::audit::Event;
use crate::store::runners::Runner;

impl Broker {
    /// Asks GitHub about one runner now, and moves its row by the answer.
    ///
    /// # Errors
    ///
    /// [`Error::RunnerNotFound`], [`Error::Forbidden`], [`Error::TooManyGitHubCalls`], [`Error::GitHub`] or [`Error::Store`].
    pub async fn refresh(&self, caller: &Caller, id_or_name: &str) -> Result<(Runner, Vec<Event>), Error> {
        let runner = self.find_to_change(caller, id_or_name).await?;
        let by = Cause { actor: caller.actor(), reason: "refresh", lease: None };
        if matches!(runner.status, Status::Pending | Status::Active | Status::Offline) {
            self.spend_github_call(caller)?;
            self.look(by, &runner).await?;
        }
        self.runner(caller, &runner.id.to_string()).await
    }

    /// One look at GitHub: the row takes the facts over, or is `deleted` when GitHub answers 404.
    pub(in crate::broker) async fn look(
        &self,
        by: Cause<'_>,
        runner: &Runner,
    ) -> Result<Option<github::Runner>, Error> {
        let (deadline, at) = (self.deadline(), self.clock.now());
        let found = match runner.github_runner_id {
            Some(id) => self.github.runner(&runner.target, id, deadline).await?,
            None => self.registered(runner, deadline).await?,
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
                self.follow_facts(by.lease, runner, &change, at, Some(event.with(data))).await?;
            }
        }
        Ok(found)
    }

    /// Takes over what GitHub said at `at`, unless the row knows something newer. `None`: the row has moved
    /// since it was read, or does know better.
    pub(in crate::broker) async fn take_facts(
        &self,
        by: Cause<'_>,
        runner: &Runner,
        found: &github::Runner,
        at: DateTime<Utc>,
    ) -> Result<Option<Runner>, Error> {
        let Some(facts) = facts(runner, found, at) else { return Ok(None) };
        let event = (facts.to != runner.status).then(|| {
            let data = json!({ "from": runner.status, "to": facts.to, "reason": by.reason });
            self.event(Kind::RunnerStateChanged, by.actor).about(runner).with(data)
        });
        let change = facts.change(at, self.clock.now());
        self.follow_facts(by.lease, runner, &change, at, event).await
    }
}
