//! Batches that deactivate identities or teams.

use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use super::batch::{BatchRequest, BatchSummary, Choice, Chosen, Item, ItemOutcome, MOST, Report};
use crate::broker::events::Batch;
use crate::broker::people::caller::Caller;
use crate::broker::{Broker, Error};
use crate::policy::is_team_name;
use crate::store::policies::{self, TeamFilter};
use crate::store::{Conn, identities};

impl Broker {
    /// Deactivates identities, each as `deactivate` does.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] or [`Error::Panicked`].
    pub async fn deactivate_identities(
        self: &Arc<Self>,
        admin: &Caller,
        choice: Choice<identities::Filter>,
        request: BatchRequest,
    ) -> Result<Report, Error> {
        let chosen = self.chosen_identities(choice).await?;
        if request.dry_run {
            return self.dry_identities(admin, chosen).await;
        }
        let (broker, admin) = (self.clone(), admin.clone());
        self.run_detached(async move {
            let batch = Batch { id: Uuid::now_v7(), comment: request.comment };
            let mut items = Vec::new();
            for (id, name) in chosen.things {
                let result = broker.deactivate_one(&admin, &batch, &id).await;
                items.push(Item { id, name, result });
            }
            broker.refresh_inactive_after_edit().await;
            let said = BatchSummary {
                action: "deactivate_identities",
                criteria: chosen.criteria,
                more: chosen.more,
            };
            broker.executed(&admin, &batch, said, items).await
        })
        .await
    }

    async fn deactivate_one(&self, admin: &Caller, batch: &Batch, id: &str) -> Result<ItemOutcome, Error> {
        let id: Uuid = id.parse().map_err(|_| Error::IdentityNotFound(Uuid::nil()))?;
        let mut conn = self.store.conn().await?;
        let was_active = identities::by_ids(&mut conn, &[id]).await?.iter().any(|identity| identity.active);
        drop(conn);
        let actor = admin.actor_in(batch);
        self.write_active(admin, actor, id, false, batch.comment.as_str()).await?;
        Ok(if was_active { ItemOutcome::Deactivated } else { ItemOutcome::Unchanged })
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
                (true, false) => Ok(ItemOutcome::Would),
                (false, _) => Ok(ItemOutcome::Unchanged),
            };
        }
        Ok(report)
    }

    /// Deactivates teams, each as `deactivate_team` does, whatever its version.
    ///
    /// # Errors
    ///
    /// [`Error::PolicyManagedByFile`], [`Error::TeamNotFound`], [`Error::Store`] or [`Error::Panicked`].
    pub async fn deactivate_teams(
        self: &Arc<Self>,
        admin: &Caller,
        choice: Choice<TeamFilter>,
        request: BatchRequest,
    ) -> Result<Report, Error> {
        if self.policy_is_managed_by_file() {
            return Err(Error::PolicyManagedByFile);
        }
        let chosen = self.chosen_teams(choice).await?;
        if request.dry_run {
            let mut report = chosen.dry();
            let mut conn = self.store.conn().await?;
            for item in &mut report.items {
                item.result = would_deactivate(&mut conn, &item.id).await;
            }
            return Ok(report);
        }
        let (broker, admin) = (self.clone(), admin.clone());
        self.run_detached(async move {
            let batch = Batch { id: Uuid::now_v7(), comment: request.comment };
            let mut items = Vec::new();
            for (id, name) in chosen.things {
                let changed = match is_team_name(&id) {
                    true => broker.deactivate_team_in(&admin, &batch, &id).await,
                    false => Err(Error::TeamNotFound(id.clone())),
                };
                let done = |changed| if changed { ItemOutcome::Deactivated } else { ItemOutcome::Unchanged };
                items.push(Item { id, name, result: changed.map(done) });
            }
            broker.refresh_after_edit().await;
            let said =
                BatchSummary { action: "deactivate_teams", criteria: chosen.criteria, more: chosen.more };
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
}

async fn would_deactivate(conn: &mut Conn, name: &str) -> Result<ItemOutcome, Error> {
    let found = match is_team_name(name) {
        true => policies::team(conn, name).await?,
        false => None,
    };
    match found {
        None => Err(Error::TeamNotFound(name.to_owned())),
        Some(row) if row.team.active => Ok(ItemOutcome::Would),
        Some(_) => Ok(ItemOutcome::Unchanged),
    }
}
