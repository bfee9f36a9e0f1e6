//! Who was ever let in, and who is not to be any more. A request pays for neither: sightings are written by a
//! loop, and every replica keeps the deactivated identities in memory.
//!
//! Sightings are kept in memory (at most 20,000, each again after 5 minutes or under a new display name) and written
//! every 2 s in one statement: a request pays nothing, and an unavailable Postgres refuses nobody. The replica that
//! deactivates knows at once, the others with their next poll. `Broker::admit` looks into memory at every call, and
//! the intent of a provision into the table, since GitHub may have taken its time in between. Both rows, the admin's
//! and the other's, are locked in one order: of two who deactivate each other one stays.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use super::caller::Caller;
use crate::broker::events::{About, Actor, Kind, record};
use crate::broker::{Broker, Error};
use crate::model;
use crate::store::identities::{self, Filter, Identity, Sighting};
use crate::store::sessions;

/// How long somebody who was written down is not written down again.
const REWRITE_AFTER: TimeDelta = TimeDelta::minutes(5);

/// How many a replica keeps in mind, and how many wait to be written at most.
const MOST: usize = 20_000;

/// How many are written in one statement.
const BATCH: usize = 1_000;

/// One page of identities, newest first.
#[derive(Debug)]
pub struct IdentityPage {
    /// The identities of this page.
    pub identities: Vec<Identity>,
    /// Where the next page begins; `None`: this is the last.
    pub next: Option<Uuid>,
}

/// What this replica knows of identities.
#[derive(Debug, Default)]
pub struct Identities {
    seen: Mutex<Seen>,
    /// Subjects that are not to be let in, by issuer.
    inactive: ArcSwap<HashMap<String, HashSet<String>>>,
    /// One reads at a time, so that what was read earlier never replaces what was read later.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Seen {
    /// When each was last put down for writing. With the display name: a new one is written at once.
    noted: HashMap<model::Identity, DateTime<Utc>>,
    /// By (issuer, subject): what is still to be written.
    waiting: BTreeMap<(String, String), Sighting>,
}

impl Identities {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a caller down, to be written later.
    pub(in crate::broker) fn note(&self, identity: &model::Identity, now: DateTime<Utc>) {
        let mut seen = self.seen();
        if seen.noted.get(identity).is_some_and(|at| now - *at < REWRITE_AFTER) {
            return;
        }
        // Postgres is away, and more come than memory is for: they are put down when they come again.
        if seen.waiting.len() >= MOST {
            return;
        }
        if seen.noted.len() >= MOST {
            seen.noted.retain(|_, at| now - *at < REWRITE_AFTER);
            if seen.noted.len() >= MOST {
                // Some are written once more than they need be.
                seen.noted.clear();
            }
        }
        seen.noted.insert(identity.clone(), now);
        let model::Identity { issuer, subject, display_name } = identity.clone();
        let sighting = Sighting { issuer: issuer.clone(), subject: subject.clone(), display_name, at: now };
        seen.waiting.insert((issuer, subject), sighting);
    }

    /// Some of those that wait.
    fn take(&self) -> Vec<Sighting> {
        let mut seen = self.seen();
        std::iter::from_fn(|| seen.waiting.pop_first()).take(BATCH).map(|(_, sighting)| sighting).collect()
    }

    /// What could not be written waits again, unless there is something newer.
    fn put_back(&self, sightings: Vec<Sighting>) {
        let mut seen = self.seen();
        for sighting in sightings {
            let key = (sighting.issuer.clone(), sighting.subject.clone());
            seen.waiting.entry(key).or_insert(sighting);
        }
    }
}

impl Broker {
    /// Whether an administrator has deactivated this identity, as this replica knows it.
    pub(in crate::broker) fn is_inactive(&self, identity: &model::Identity) -> bool {
        let inactive = self.identities.inactive.load();
        inactive.get(&identity.issuer).is_some_and(|subjects| subjects.contains(&identity.subject))
    }

    /// Takes over who is deactivated.
    pub(in crate::broker) async fn refresh_inactive(&self) -> Result<(), Error> {
        let _alone = self.identities.reading.lock().await;
        let mut conn = self.store.conn().await?;
        let mut inactive: HashMap<String, HashSet<String>> = HashMap::new();
        for (issuer, subject) in identities::inactive(&mut conn).await? {
            inactive.entry(issuer).or_default().insert(subject);
        }
        self.identities.inactive.store(std::sync::Arc::new(inactive));
        Ok(())
    }

    /// Writes down who was seen since the last time; called every few seconds and at the end. What fails is
    /// tried again the next time.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn flush_identities(&self) -> Result<(), Error> {
        loop {
            let sightings = self.identities.take();
            if sightings.is_empty() {
                return Ok(());
            }
            let written = self
                .store
                .transaction::<_, Error, _>(async |conn| Ok(identities::remember(conn, &sightings).await?))
                .await;
            if let Err(err) = written {
                self.identities.put_back(sightings);
                return Err(err);
            }
        }
    }

    /// A page of identities, the newest first.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn identities(
        &self,
        filter: &Filter,
        before: Option<Uuid>,
        limit: i64,
    ) -> Result<IdentityPage, Error> {
        let mut conn = self.store.conn().await?;
        let (identities, next) = identities::page(&mut conn, filter, before, limit).await?;
        Ok(IdentityPage { identities, next })
    }

    /// One identity.
    ///
    /// # Errors
    ///
    /// [`Error::IdentityNotFound`] or [`Error::Store`].
    pub async fn identity(&self, id: Uuid) -> Result<Identity, Error> {
        let mut conn = self.store.conn().await?;
        identities::by_ids(&mut conn, &[id]).await?.pop().ok_or(Error::IdentityNotFound(id))
    }

    /// Refuses this identity from now on, here at once and on every other replica within `POLICY_REFRESH`.
    /// Done again, it changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::IdentityNotFound`], [`Error::OwnIdentity`], [`Error::IdentityDeactivated`] or [`Error::Store`].
    pub async fn deactivate(&self, admin: &Caller, id: Uuid, comment: &str) -> Result<Identity, Error> {
        self.set_active(admin, id, false, comment).await
    }

    /// Lets this identity in again. Done again, it changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::IdentityNotFound`], [`Error::IdentityDeactivated`] or [`Error::Store`].
    pub async fn activate(&self, admin: &Caller, id: Uuid, comment: &str) -> Result<Identity, Error> {
        self.set_active(admin, id, true, comment).await
    }

    async fn set_active(
        &self,
        admin: &Caller,
        id: Uuid,
        active: bool,
        comment: &str,
    ) -> Result<Identity, Error> {
        let identity = self.write_active(admin, admin.actor(), id, active, comment).await?;
        self.refresh_inactive_after_edit().await;
        Ok(identity)
    }

    /// It is decided; if it cannot be read back now, the next poll does that.
    pub(in crate::broker) async fn refresh_inactive_after_edit(&self) {
        if let Err(err) = self.refresh_inactive().await {
            tracing::warn!(error = %err, "a changed identity takes effect here with the next poll");
        }
    }

    /// Writes it with its event; `actor` is the administrator, or their batch.
    pub(in crate::broker) async fn write_active(
        &self,
        admin: &Caller,
        actor: Actor<'_>,
        id: Uuid,
        active: bool,
        comment: &str,
    ) -> Result<Identity, Error> {
        let own = &admin.identity;
        self.store
            .transaction::<_, Error, _>(async |conn| {
                let (found, admin_row) = identities::lock(conn, id, &own.issuer, &own.subject).await?;
                // By the table and not by what this replica knows: of two who deactivate each other at the
                // same moment one stays.
                if admin_row.is_some_and(|row| !row.active) {
                    return Err(Error::IdentityDeactivated);
                }
                let found = found.ok_or(Error::IdentityNotFound(id))?;
                if found.active == active {
                    return Ok(found);
                }
                if !active && (&found.issuer, &found.subject) == (&own.issuer, &own.subject) {
                    return Err(Error::OwnIdentity);
                }
                let kind = if active { Kind::IdentityActivated } else { Kind::IdentityDeactivated };
                let event = self.event(kind, actor).with(json!({
                    "identity_id": found.id,
                    "issuer": found.issuer,
                    "subject": found.subject,
                    "display_name": found.display_name,
                    "comment": comment,
                }));
                let now = event.timestamp;
                record(conn, event).await?;
                if !active {
                    // They must not come back if the identity is activated again.
                    sessions::remove_all_of(conn, &found.issuer, &found.subject).await?;
                }
                Ok(identities::set_active(conn, id, active, comment, now).await?)
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(subject: String) -> model::Identity {
        model::Identity { issuer: "https://idp".into(), display_name: subject.clone(), subject }
    }

    #[test]
    fn a_caller_is_put_down_again_only_after_a_while_or_with_another_name() {
        let (identities, now) = (Identities::default(), Utc::now());
        let blue = identity("blue".into());
        let waiting = |at: DateTime<Utc>, identity: &model::Identity| {
            identities.note(identity, at);
            identities.take().len()
        };
        assert_eq!(waiting(now, &blue), 1);
        assert_eq!(waiting(now + REWRITE_AFTER - TimeDelta::seconds(1), &blue), 0);
        let renamed = model::Identity { display_name: "new name".into(), ..blue.clone() };
        assert_eq!(waiting(now + TimeDelta::seconds(1), &renamed), 1);
        assert_eq!(waiting(now + REWRITE_AFTER, &blue), 1);
    }

    #[test]
    fn memory_is_bounded_however_many_come() {
        let (identities, now) = (Identities::default(), Utc::now());
        for number in 0..3 * MOST {
            identities.note(&identity(number.to_string()), now);
        }
        let noted = identities.seen().noted.len();
        let waiting = identities.seen().waiting.len();
        assert!(noted <= MOST && waiting <= MOST, "{noted} {waiting}");
        while !identities.take().is_empty() {}
        for number in 0..3 * MOST {
            identities.note(&identity(format!("later {number}")), now);
            identities.take();
        }
        assert!(identities.seen().noted.len() <= MOST);
    }

    #[test]
    fn what_could_not_be_written_waits_but_gives_way_to_what_is_newer() {
        let (identities, now) = (Identities::default(), Utc::now());
        identities.note(&identity("a".into()), now);
        let failed = identities.take();
        identities.note(&identity("a".into()), now + REWRITE_AFTER);
        identities.put_back(failed.clone());
        assert_eq!(identities.take().iter().map(|one| one.at).collect::<Vec<_>>(), [now + REWRITE_AFTER]);
        identities.put_back(failed);
        assert_eq!(identities.take().len(), 1);
    }
}
