//! Installations that are suspended, gone, or without a repository: believed when GitHub says so itself, since a
//! body can be replayed. A blocked target's provisions are refused on every replica, without asking GitHub.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::json;

use crate::broker::events::{About, Actor, Kind, record};
use crate::broker::lease::fence;
use crate::broker::{Broker, Error};
use crate::github::webhook::{Installation, Repositories};
use crate::github::{self, InstallationState};
use crate::model::Target;
use crate::store::deliveries;
use crate::store::installations::{self, Known};
use crate::store::leases::Lease;

/// So many blocked targets are asked about in a round.
const MOST_CHECKS: i64 = 20;

/// After so long a blocked repository is none of ours.
const FORGOTTEN: TimeDelta = TimeDelta::days(7);

/// What this replica knows of the table `installations`.
#[derive(Debug, Default)]
pub(super) struct Installations(HashMap<Target, Known>);

impl Installations {
    /// Why GitHub would refuse this target. If the owner's installation is suspended, so are its repositories.
    fn blocked(&self, target: &Target) -> Option<&str> {
        let owner = Target::Organization(target.owner().to_owned());
        let known = [&owner, target].into_iter().filter_map(|target| self.0.get(target));
        known.filter_map(|known| known.blocked.as_deref()).next()
    }

    fn epoch(&self, target: &Target) -> i64 {
        self.0.get(target).map_or(0, |known| known.token_epoch)
    }
}

impl Broker {
    /// A target that GitHub is known to refuse is refused without asking.
    pub(in crate::broker) fn check_installation(&self, target: &Target) -> Result<(), Error> {
        match self.webhooks.installations.load().blocked(target) {
            Some(why) => Err(github::Error::Refused { status: 403, message: why.to_owned() }.into()),
            None => Ok(()),
        }
    }

    /// Takes over what another replica confirmed: blocked targets, and tokens to be dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn refresh_installations(&self) -> Result<(), Error> {
        let mut conn = self.store.conn().await?;
        let all = installations::all(&mut conn).await?;
        drop(conn);
        let new = Installations(all.into_iter().map(|known| (known.target.clone(), known)).collect());
        let old = self.webhooks.installations.load();
        for (target, known) in new.0.iter().filter(|(target, known)| known.token_epoch > old.epoch(target)) {
            let id = known.installation_id.and_then(|id| u64::try_from(id).ok());
            self.github.forget_owner(target.owner(), id);
        }
        self.webhooks.installations.store(Arc::new(new));
        Ok(())
    }

    pub(super) async fn confirm_installation(
        &self,
        delivery: &str,
        what: &Installation,
    ) -> Result<(), Error> {
        let Some(owner) = owner_of(&what.owner) else { return Ok(()) };
        if what.action == "new_permissions_accepted" {
            let event = self.event(Kind::InstallationChanged, Actor::System("webhooks"));
            let data = json!({ "installation_id": what.id, "action": what.action });
            let event = installation_event(event.with(data), &owner, None);
            let now = event.timestamp;
            self.store
                .transaction::<_, Error, _>(async |conn| {
                    // The delivery may be taken up twice: the one that finishes it writes the event.
                    if deliveries::finish(conn, &[delivery], now).await? == 0 {
                        return Ok(());
                    }
                    installations::drop_tokens(conn, &owner, now).await?;
                    record(conn, event).await
                })
                .await?;
            self.refresh_soon().await;
            return Ok(());
        }
        self.settle_owner(None, &owner, Some(what.id), &what.action).await?;
        self.want_sweep(&owner).await
    }

    /// What is written is true whether or not it is read here at once: the next look is in two seconds.
    async fn refresh_soon(&self) {
        if let Err(err) = self.refresh_installations().await {
            tracing::warn!(error = %err, "what is known of installations is read again later");
        }
    }

    pub(super) async fn confirm_repositories(&self, what: &Repositories) -> Result<(), Error> {
        let targets = |names: &[String]| -> Vec<Target> {
            let repositories = names.iter().filter_map(|name| name.parse().ok());
            repositories.filter(|target| matches!(target, Target::Repository { .. })).collect()
        };
        let rules = self.policy.load_full();
        let used = |target: &Target| rules.rules.teams().iter().any(|team| team.covers(target));
        // GitHub is asked only about those that somebody may use, and those that come back.
        let removed = targets(&what.removed).into_iter().filter(used);
        let known = self.webhooks.installations.load_full();
        let added = targets(&what.added).into_iter().filter(|target| known.0.contains_key(target));
        for (target, action) in
            removed.map(|target| (target, "removed")).chain(added.map(|target| (target, "added")))
        {
            self.settle_repository(None, &target, action).await?;
            self.want_sweep(&target).await?;
        }
        Ok(())
    }

    /// Asks GitHub again about what is blocked, after growing pauses and a few at a time, since provisions live off
    /// the same budget: a webhook that says better may have been lost.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] or [`Error::Store`].
    pub async fn recheck_installations(&self, lease: &Lease) -> Result<(), Error> {
        let now = self.clock.now();
        let blocked = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                installations::forget_repositories(conn, now - FORGOTTEN).await?;
                Ok(installations::to_be_checked(conn, now, MOST_CHECKS).await?)
            })
            .await?;
        for known in blocked {
            let settled = match &known.target {
                owner @ Target::Organization(_) => {
                    let id = known.installation_id.and_then(|id| u64::try_from(id).ok());
                    self.settle_owner(Some(lease), owner, id, "recheck").await
                }
                repository => self.settle_repository(Some(lease), repository, "recheck").await,
            };
            match settled {
                Err(Error::GitHub(err @ github::Error::RateLimited { .. })) => {
                    tracing::warn!(error = %err, "blocked targets are looked at later");
                    return Ok(());
                }
                Err(Error::GitHub(err)) => {
                    tracing::warn!(target = %known.target, error = %err, "a blocked target stays blocked");
                }
                settled => settled?,
            }
        }
        Ok(())
    }

    /// Makes what is known of an owner's installation what GitHub says of it. `id` may be that of a former
    /// installation: the owner may have a new one by now.
    async fn settle_owner(
        &self,
        lease: Option<&Lease>,
        owner: &Target,
        id: Option<u64>,
        action: &str,
    ) -> Result<(), Error> {
        let by_id = match id {
            Some(id) => self.github.installation_state(id, self.deadline()).await?,
            None => None,
        };
        let is_his = |found: &InstallationState| found.owner.eq_ignore_ascii_case(owner.owner());
        let found = match by_id.filter(is_his) {
            Some(found) => Some(found),
            None => self.github.installation_of_owner(owner.owner(), self.deadline()).await?,
        };
        let reason = match &found {
            None => Some(format!("the GitHub App is not installed on '{owner}' any more")),
            Some(found) if found.suspended => {
                Some(format!("the GitHub App's installation on '{owner}' is suspended"))
            }
            Some(_) => None,
        };
        self.note_installation(lease, owner, found.map(|found| found.id), reason, action).await
    }

    async fn settle_repository(
        &self,
        lease: Option<&Lease>,
        repository: &Target,
        action: &str,
    ) -> Result<(), Error> {
        let found = self.github.installation_of(repository, self.deadline()).await?;
        let reason = match &found {
            None => Some(format!("the GitHub App has no access to '{repository}' any more")),
            Some(_) => None,
        };
        self.note_installation(lease, repository, found.map(|found| found.id), reason, action).await
    }

    /// Writes it down with its event if it is news, for every replica, and knows it here at once.
    async fn note_installation(
        &self,
        lease: Option<&Lease>,
        target: &Target,
        id: Option<u64>,
        reason: Option<String>,
        action: &str,
    ) -> Result<(), Error> {
        let actor = Actor::System(if lease.is_some() { "sync" } else { "webhooks" });
        let data = json!({ "installation_id": id, "action": action, "blocked": reason });
        let event = self.event(Kind::InstallationChanged, actor).with(data);
        let event = installation_event(event, target, reason.as_deref());
        let (id, now) = (id.and_then(|id| i64::try_from(id).ok()), event.timestamp);
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, lease).await?;
                match installations::block(conn, target, id, reason.as_deref(), now).await? {
                    true => record(conn, event).await,
                    false => Ok(()),
                }
            })
            .await?;
        self.refresh_soon().await;
        Ok(())
    }
}

fn owner_of(login: &str) -> Option<Target> {
    login.parse().ok().filter(|target| matches!(target, Target::Organization(_)))
}

/// What blocks is a warning; what unblocks is news.
fn installation_event(
    mut event: crate::store::audit::NewEvent,
    target: &Target,
    blocked: Option<&str>,
) -> crate::store::audit::NewEvent {
    event.target = Some(target.to_string());
    event.severity = if blocked.is_some() { "warning" } else { "info" };
    event.success = blocked.is_none();
    event.error_message = blocked.map(str::to_owned);
    event
}
