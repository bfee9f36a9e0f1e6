//! One order of an administrator's for many things: each is done as if it were asked for alone, with its own event,
//! and one more says what came of all. Once begun it runs to its end.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};
use uuid::Uuid;

use super::remove::{self, IfBusy};
use super::transition::By;
use crate::broker::events::{About, Batch, Kind, record};
use crate::broker::people::caller::Caller;
use crate::broker::{Broker, Error};
use crate::github;
use crate::model::{Comment, RunnerName, Status};
use crate::policy::is_team_name;
use crate::store::policies::{self, TeamFilter};
use crate::store::runners::{self, Scope};
use crate::store::{Conn, identities};

/// How many things one order is about at most.
pub const MOST: usize = 500;

/// How many runners GitHub is asked to delete at the same time. It counts deletes against everybody.
const AT_ONCE: usize = 4;

/// A removal begins from these, unless a filter names another state.
const REMOVABLE: [Status; 3] = [Status::Pending, Status::Active, Status::Offline];

/// What an order is about.
#[derive(Clone, Debug)]
pub enum Choice<F> {
    /// Ids, or names.
    These(Vec<String>),
    /// Whatever matches; a filter that filters nothing is not for here.
    Matching(F),
}

/// How it is to be done.
#[derive(Clone, Debug)]
pub struct Order {
    pub comment: Comment,
    /// Only says what would be done.
    pub dry_run: bool,
}

/// What was done with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Removed(remove::Outcome),
    Deactivated,
    /// It was so before.
    Unchanged,
    /// A dry run: it would be done.
    Would,
}

/// One thing of an order.
#[derive(Debug)]
pub struct Item {
    /// As it was named, or the id that was found.
    pub id: String,
    /// For people, where it is known.
    pub name: Option<String>,
    pub result: Result<Done, Error>,
}

/// What came of an order.
#[derive(Debug)]
pub struct Report {
    /// Every event of it carries this; `None`: nothing was done.
    pub batch_id: Option<Uuid>,
    pub items: Vec<Item>,
    /// More match than one order may be about.
    pub more: bool,
}

/// What was chosen, before anything is done.
struct Chosen {
    things: Vec<(String, Option<String>)>,
    more: bool,
    /// For the log.
    criteria: Value,
}

impl Chosen {
    fn these(ids: Vec<String>) -> Chosen {
        let mut seen = HashSet::new();
        let things: Vec<_> =
            ids.into_iter().filter(|id| seen.insert(id.clone())).map(|id| (id, None)).collect();
        Chosen { criteria: json!({ "named": things.len() }), things, more: false }
    }

    fn found(mut things: Vec<(String, Option<String>)>, criteria: Value) -> Chosen {
        let more = things.len() > MOST;
        things.truncate(MOST);
        Chosen { things, more, criteria }
    }

    fn dry(self) -> Report {
        let item = |(id, name)| Item { id, name, result: Ok(Done::Would) };
        Report { batch_id: None, items: self.things.into_iter().map(item).collect(), more: self.more }
    }
}

impl Broker {
    /// Removes runners as `remove` does, a few at a time. When GitHub wants no more calls, the rest is left alone.
    pub async fn delete_runners(
        self: &Arc<Self>,
        admin: &Caller,
        choice: Choice<runners::Filter>,
        force_when_idle: bool,
        order: Order,
    ) -> Result<Report, Error> {
        let chosen = match choice {
            Choice::These(ids) => Chosen::these(ids),
            Choice::Matching(filter) => self.matching_runners(filter).await?,
        };
        if order.dry_run {
            return self.dry_runners(admin, chosen).await;
        }
        let (broker, admin) = (self.clone(), admin.clone());
        let if_busy = if force_when_idle { IfBusy::KeepDeleting } else { IfBusy::Refuse };
        self.to_the_end(async move {
            let batch = Arc::new(Batch { id: Uuid::now_v7(), comment: order.comment });
            let limited = Arc::new(Mutex::new(None));
            let work = |(id, name): (String, Option<String>)| {
                let (broker, admin) = (broker.clone(), admin.clone());
                let (batch, limited) = (batch.clone(), limited.clone());
                async move {
                    let result = broker.delete_one(&admin, &batch, &id, if_busy, &limited).await;
                    Item { id, name, result: result.map(Done::Removed) }
                }
            };
            let items = stream::iter(chosen.things).map(work).buffered(AT_ONCE).collect().await;
            let said = Said { action: "delete_runners", criteria: chosen.criteria, more: chosen.more };
            broker.executed(&admin, &batch, said, items).await
        })
        .await
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
        let by = By { actor: admin.actor_in(batch), reason: "asked for", lease: None };
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
                        item.result = Ok(Done::Unchanged);
                    }
                }
                Err(err @ Error::RunnerNotFound(_)) => item.result = Err(err),
                Err(err) => return Err(err),
            }
        }
        Ok(report)
    }

    /// Deactivates identities, each as `deactivate` does.
    pub async fn deactivate_identities(
        self: &Arc<Self>,
        admin: &Caller,
        choice: Choice<identities::Filter>,
        order: Order,
    ) -> Result<Report, Error> {
        let chosen = self.chosen_identities(choice).await?;
        if order.dry_run {
            return self.dry_identities(admin, chosen).await;
        }
        let (broker, admin) = (self.clone(), admin.clone());
        self.to_the_end(async move {
            let batch = Batch { id: Uuid::now_v7(), comment: order.comment };
            let mut items = Vec::new();
            for (id, name) in chosen.things {
                let result = broker.deactivate_one(&admin, &batch, &id).await;
                items.push(Item { id, name, result });
            }
            broker.use_inactive().await;
            let said = Said { action: "deactivate_identities", criteria: chosen.criteria, more: chosen.more };
            broker.executed(&admin, &batch, said, items).await
        })
        .await
    }

    async fn deactivate_one(&self, admin: &Caller, batch: &Batch, id: &str) -> Result<Done, Error> {
        let id: Uuid = id.parse().map_err(|_| Error::IdentityNotFound(Uuid::nil()))?;
        let mut conn = self.store.conn().await?;
        let was_active = identities::by_ids(&mut conn, &[id]).await?.iter().any(|identity| identity.active);
        drop(conn);
        let actor = admin.actor_in(batch);
        self.write_active(admin, actor, id, false, batch.comment.as_str()).await?;
        Ok(if was_active { Done::Deactivated } else { Done::Unchanged })
    }

    async fn chosen_identities(&self, choice: Choice<identities::Filter>) -> Result<Chosen, Error> {
        let filter = match choice {
            Choice::These(ids) => return Ok(Chosen::these(ids)),
            Choice::Matching(filter) => identities::Filter { active: Some(true), ..filter },
        };
        let criteria = json!({ "q": filter.q, "issuer": filter.issuer, "unseen_since": filter.unseen_since });
        let mut conn = self.store.conn().await?;
        let found = identities::up_to(&mut conn, &filter, MOST as i64 + 1).await?;
        let things = found.into_iter().map(|one| (one.id.to_string(), Some(one.display_name))).collect();
        Ok(Chosen::found(things, criteria))
    }

    async fn dry_identities(&self, admin: &Caller, chosen: Chosen) -> Result<Report, Error> {
        let mut report = chosen.dry();
        let ids: Vec<Uuid> = report.items.iter().filter_map(|item| item.id.parse().ok()).collect();
        let found = identities::by_ids(&mut *self.store.conn().await?, &ids).await?;
        for item in &mut report.items {
            let id = item.id.parse().unwrap_or_default();
            let Some(known) = found.iter().find(|one| one.id == id) else {
                item.result = Err(Error::IdentityNotFound(id));
                continue;
            };
            item.name = Some(known.display_name.clone());
            let own = (&known.issuer, &known.subject) == (&admin.identity.issuer, &admin.identity.subject);
            item.result = match (known.active, own) {
                (true, true) => Err(Error::OwnIdentity),
                (true, false) => Ok(Done::Would),
                (false, _) => Ok(Done::Unchanged),
            };
        }
        Ok(report)
    }

    /// Deactivates teams, each as `deactivate_team` does, whatever its version.
    pub async fn deactivate_teams(
        self: &Arc<Self>,
        admin: &Caller,
        choice: Choice<TeamFilter>,
        order: Order,
    ) -> Result<Report, Error> {
        if self.policy_is_managed_by_file() {
            return Err(Error::PolicyIsOfFile);
        }
        let chosen = self.chosen_teams(choice).await?;
        if order.dry_run {
            let mut report = chosen.dry();
            let mut conn = self.store.conn().await?;
            for item in &mut report.items {
                item.result = would_deactivate(&mut conn, &item.id).await;
            }
            return Ok(report);
        }
        let (broker, admin) = (self.clone(), admin.clone());
        self.to_the_end(async move {
            let batch = Batch { id: Uuid::now_v7(), comment: order.comment };
            let mut items = Vec::new();
            for (id, name) in chosen.things {
                let changed = match is_team_name(&id) {
                    true => broker.deactivate_team_in(&admin, &batch, &id).await,
                    false => Err(Error::TeamNotFound(id.clone())),
                };
                let done = |changed| if changed { Done::Deactivated } else { Done::Unchanged };
                items.push(Item { id, name, result: changed.map(done) });
            }
            broker.use_policy().await;
            let said = Said { action: "deactivate_teams", criteria: chosen.criteria, more: chosen.more };
            broker.executed(&admin, &batch, said, items).await
        })
        .await
    }

    async fn chosen_teams(&self, choice: Choice<TeamFilter>) -> Result<Chosen, Error> {
        let filter = match choice {
            Choice::These(names) => return Ok(Chosen::these(names)),
            Choice::Matching(filter) => TeamFilter { active: Some(true), ..filter },
        };
        let mut conn = self.store.conn().await?;
        let found = policies::team_page(&mut conn, &filter, None, MOST as i64 + 1).await?;
        let things = found.into_iter().map(|row| (row.team.name.clone(), Some(row.team.name))).collect();
        Ok(Chosen::found(things, json!({ "q": filter.q })))
    }

    /// The event about the whole batch.
    async fn executed(
        &self,
        admin: &Caller,
        batch: &Batch,
        said: Said,
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
struct Said {
    action: &'static str,
    criteria: Value,
    more: bool,
}

async fn would_deactivate(conn: &mut Conn, name: &str) -> Result<Done, Error> {
    let found = match is_team_name(name) {
        true => policies::team(conn, name).await?,
        false => None,
    };
    match found {
        None => Err(Error::TeamNotFound(name.to_owned())),
        Some(row) if row.team.active => Ok(Done::Would),
        Some(_) => Ok(Done::Unchanged),
    }
}
