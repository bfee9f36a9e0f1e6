//! Batches: one call of an administrator about many things. Each is done as if it were called for alone, with its own
//! event; one more event sums up the batch. A batch runs to its end even if the caller hangs up.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};
use uuid::Uuid;

use super::remove::{self, IfBusy};
use super::transition::Cause;
use crate::broker::events::{About, Batch, Kind, record};
use crate::broker::people::caller::Caller;
use crate::broker::{Broker, Error};
use crate::github;
use crate::model::{Comment, RunnerName, Status};
use crate::store::runners::{self, Scope};

/// How many things one batch is about at most.
pub const MOST: usize = 500;

/// How many runners GitHub is asked to delete at the same time. It counts deletes against everybody.
const AT_ONCE: usize = 4;

/// A removal begins from these, unless a filter names another state.
const REMOVABLE: [Status; 3] = [Status::Pending, Status::Active, Status::Offline];

/// What a batch is about.
#[derive(Clone, Debug)]
pub enum Choice<F> {
    /// Ids, or names.
    These(Vec<String>),
    /// Whatever matches; a filter that filters nothing is not for here.
    Matching(F),
}

/// How a batch is run.
#[derive(Clone, Debug)]
pub struct BatchRequest {
    /// The administrator's reason, for the audit log.
    pub comment: Comment,
    /// Only says what would be done.
    pub dry_run: bool,
}

/// What was done with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemOutcome {
    /// A runner was removed, with this outcome.
    Removed(remove::Outcome),
    /// An identity or a team was deactivated.
    Deactivated,
    /// It was so before.
    Unchanged,
    /// A dry run: it would be done.
    Would,
}

/// One thing of an request.
#[derive(Debug)]
pub struct Item {
    /// As it was named, or the id that was found.
    pub id: String,
    /// For people, where it is known.
    pub name: Option<String>,
    /// What was done, or why not.
    pub result: Result<ItemOutcome, Error>,
}

/// The result of a batch.
#[derive(Debug)]
pub struct Report {
    /// Every event of it carries this; `None`: nothing was done.
    pub batch_id: Option<Uuid>,
    /// One entry for each thing, in their order.
    pub items: Vec<Item>,
    /// More match than one batch may be about.
    pub more: bool,
}

/// What was chosen, before anything is done.
pub(super) struct Chosen {
    pub things: Vec<(String, Option<String>)>,
    pub more: bool,
    /// For the log.
    pub criteria: Value,
}

impl Chosen {
    pub fn these(ids: Vec<String>) -> Chosen {
        let mut seen = HashSet::new();
        let things: Vec<_> =
            ids.into_iter().filter(|id| seen.insert(id.clone())).map(|id| (id, None)).collect();
        Chosen { criteria: json!({ "named": things.len() }), things, more: false }
    }

    pub fn found(mut things: Vec<(String, Option<String>)>, criteria: Value) -> Chosen {
        let more = things.len() > MOST;
        things.truncate(MOST);
        Chosen { things, more, criteria }
    }

    pub fn dry(self) -> Report {
        let item = |(id, name)| Item { id, name, result: Ok(ItemOutcome::Would) };
        Report { batch_id: None, items: self.things.into_iter().map(item).collect(), more: self.more }
    }
}

impl Broker {
    /// Removes runners as `remove` does, a few at a time. When GitHub wants no more calls, the rest is left alone.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] or [`Error::Panicked`].
    pub async fn delete_runners(
        self: &Arc<Self>,
        admin: &Caller,
        choice: Choice<runners::Filter>,
        force_when_idle: bool,
        request: BatchRequest,
    ) -> Result<Report, Error> {
        let chosen = match choice {
            Choice::These(ids) => Chosen::these(ids),
            Choice::Matching(filter) => self.matching_runners(filter).await?,
        };
        if request.dry_run {
            return self.dry_runners(admin, chosen).await;
        }
        let (broker, admin) = (self.clone(), admin.clone());
        let if_busy = if force_when_idle { IfBusy::KeepDeleting } else { IfBusy::Refuse };
        self.run_detached(async move {
            let batch = Arc::new(Batch { id: Uuid::now_v7(), comment: request.comment });
            let limited = Arc::new(Mutex::new(None));
            let work = |(id, name): (String, Option<String>)| {
                let (broker, admin) = (broker.clone(), admin.clone());
                let (batch, limited) = (batch.clone(), limited.clone());
                async move {
                    let result = broker.delete_one(&admin, &batch, &id, if_busy, &limited).await;
                    Item { id, name, result: result.map(ItemOutcome::Removed) }
                }
            };
            let items = stream::iter(chosen.things).map(work).buffered(AT_ONCE).collect().await;
            let said =
                BatchSummary { action: "delete_runners", criteria: chosen.criteria, more: chosen.more };
            broker.executed(&admin, &batch, said, items).await
        })
        .await
    }

    /// Removes them; the result of each, in the order of `ids`. Unlike an administrator's batch this is no event of its own.
    pub async fn remove_own(
        self: &Arc<Self>,
        caller: &Caller,
        ids: Vec<String>,
        force_when_idle: bool,
    ) -> Vec<Item> {
        let work = |id: String| async move {
            let removed = self.remove(caller, &id, force_when_idle).await;
            Item { id, name: None, result: removed.map(|(_, outcome)| ItemOutcome::Removed(outcome)) }
        };
        stream::iter(ids).map(work).buffered(AT_ONCE).collect().await
    }

    async fn delete_one(
        &self,
        admin: &Caller,
        batch: &Batch,
        id_or_name: &str,
        if_busy: IfBusy,
        limited: &Mutex<Option<DateTime<Utc>>>,
    ) -> Result<remove::Outcome, Error> {
        if let Some(until) = *limited.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(Error::GitHub(github::Error::RateLimited { until }));
        }
        let runner = self.runner_to_remove(admin, id_or_name).await?;
        let by = Cause { actor: admin.actor_in(batch), reason: "asked for", lease: None };
        let removed = self.remove_runner(by, runner, if_busy).await;
        if let Err(Error::GitHub(github::Error::RateLimited { until })) = &removed {
            *limited.lock().unwrap_or_else(PoisonError::into_inner) = Some(*until);
        }
        Ok(removed?.1)
    }

    async fn runner_to_remove(&self, admin: &Caller, id_or_name: &str) -> Result<runners::Runner, Error> {
        // Postgres would not take every text.
        if id_or_name.parse::<Uuid>().is_err() && id_or_name.parse::<RunnerName>().is_err() {
            return Err(Error::RunnerNotFound(id_or_name.to_owned()));
        }
        self.find_to_change(admin, id_or_name).await
    }

    async fn matching_runners(&self, filter: runners::Filter) -> Result<Chosen, Error> {
        let statuses = filter.status.map_or(REMOVABLE.to_vec(), |status| vec![status]);
        let criteria = json!({
            "status": filter.status, "team": filter.team, "label": filter.label,
            "ephemeral": filter.ephemeral, "q": filter.q,
        });
        let mut conn = self.store.conn().await?;
        let mut found = Vec::new();
        for status in statuses {
            let filter = runners::Filter { status: Some(status), ..filter.clone() };
            let most = (MOST + 1 - found.len()) as i64;
            let some = runners::up_to(&mut conn, &Scope::All, &filter, most).await?;
            found.extend(some.into_iter().map(|runner| (runner.id.to_string(), Some(runner.name))));
        }
        Ok(Chosen::found(found, criteria))
    }

    async fn dry_runners(&self, admin: &Caller, chosen: Chosen) -> Result<Report, Error> {
        let mut report = chosen.dry();
        for item in report.items.iter_mut().filter(|item| item.name.is_none()) {
            match self.runner_to_remove(admin, &item.id).await {
                Ok(runner) => {
                    item.name = Some(runner.name);
                    if !runner.status.is_live() {
                        item.result = Ok(ItemOutcome::Unchanged);
                    }
                }
                Err(err @ Error::RunnerNotFound(_)) => item.result = Err(err),
                Err(err) => return Err(err),
            }
        }
        Ok(report)
    }

    /// The event about the whole batch.
    pub(super) async fn executed(
        &self,
        admin: &Caller,
        batch: &Batch,
        said: BatchSummary,
        items: Vec<Item>,
    ) -> Result<Report, Error> {
        let failed = items.iter().filter(|item| item.result.is_err()).count();
        let event = self.event(Kind::BatchExecuted, admin.actor_in(batch)).with(json!({
            "action": said.action,
            "chosen_by": said.criteria,
            "items": items.len(),
            "failed": failed,
            "more": said.more,
        }));
        self.store.transaction::<_, Error, _>(async |conn| record(conn, event).await).await?;
        Ok(Report { batch_id: Some(batch.id), items, more: said.more })
    }
}

/// What the event about a batch says of it.
pub(super) struct BatchSummary {
    pub action: &'static str,
    pub criteria: Value,
    pub more: bool,
}
