//! Applying a policy document: one transaction, and one event with the difference. It takes effect on every replica
//! within [`POLICY_REFRESH`](crate::broker::POLICY_REFRESH).

use serde_json::json;

use super::difference::difference;
use super::refresh::listed;
use super::tables::{from_tables, sha256, to_tables};
use crate::broker::events::{About, Actor, Kind, event_at, record};
use crate::broker::{Broker, Error};
use crate::clock::Clock;
use crate::policy::Document;
use crate::store::Store;
use crate::store::policies;

/// The source of a change by an administrator, as `policy_versions` remembers it.
pub const BY_API: &str = "api";

/// What applying a document did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The new revision, and the difference, a line a change.
    Changed(Vec<String>),
    /// The policy already says this.
    Unchanged,
    /// This document was applied before and a newer one replaced it: an old replica's file.
    Superseded,
}

/// Applies a document. With `only_if_new` one that was applied before is left alone (a replica's
/// `POLICY_FILE` at start); `dry_run` only says what would change.
///
/// # Errors
///
/// [`Error::Policy`] or [`Error::Store`].
pub async fn apply(
    store: &Store,
    clock: &Clock,
    document: &Document,
    source: &str,
    only_if_new: bool,
    dry_run: bool,
) -> Result<Applied, Error> {
    let new = to_tables(document);
    let sha256 = sha256(document);
    store
        .transaction::<_, Error, _>(async |conn| {
            policies::lock(conn).await?;
            let old = policies::load(conn).await?;
            if old == new {
                return Ok(Applied::Unchanged);
            }
            if only_if_new && policies::was_applied(conn, &sha256).await? {
                return Ok(Applied::Superseded);
            }
            let known = policies::team_names(conn).await?;
            check_spelling(document, &known)?;
            let changes = difference(&from_tables(old.clone())?, document, &known);
            if dry_run {
                return Ok(Applied::Changed(changes));
            }
            let now = clock.now();
            let revision = policies::replace(conn, &old, &new, &sha256, source, now).await?;
            let event = event_at(now, Kind::PolicyApplied, Actor::System("policy"));
            let data =
                json!({ "source": source, "sha256": sha256, "revision": revision, "changes": changes });
            record(conn, event.with(data)).await?;
            Ok(Applied::Changed(changes))
        })
        .await
}

/// Where the policies that this database ever had came from.
///
/// # Errors
///
/// [`Error::Store`].
pub async fn sources(store: &Store) -> Result<Vec<String>, Error> {
    let mut conn = store.conn().await?;
    Ok(policies::sources(&mut conn).await?)
}

/// The policy as it stands, as the document that `policy apply` takes.
///
/// # Errors
///
/// [`Error::Policy`] or [`Error::Store`].
pub async fn current(store: &Store) -> Result<Document, Error> {
    let tables = store.transaction::<_, Error, _>(async |conn| {
        policies::repeatable_read(conn).await?;
        Ok(policies::load(conn).await?)
    });
    from_tables(tables.await?)
}

impl Broker {
    /// Applies a document and uses it here at once.
    ///
    /// # Errors
    ///
    /// [`Error::Policy`] or [`Error::Store`].
    pub async fn apply_policy(
        &self,
        document: &Document,
        source: &str,
        only_if_new: bool,
    ) -> Result<Applied, Error> {
        document.check(&self.defaults()).map_err(|faults| Error::Policy(listed(&faults)))?;
        let applied = apply(&self.store, &self.clock, document, source, only_if_new, false).await?;
        self.refresh_policy().await?;
        Ok(applied)
    }
}

/// Teams are told apart without case, and a team's runners and events keep its name as it was first written.
fn check_spelling(document: &Document, known: &[String]) -> Result<(), Error> {
    let misspelt = document.team.iter().filter_map(|team| {
        let known = known.iter().find(|known| known.eq_ignore_ascii_case(&team.name))?;
        let fault = format!("team '{}': this team exists as '{known}'; write its name so", team.name);
        (*known != team.name).then_some(fault)
    });
    let faults: Vec<String> = misspelt.collect();
    if faults.is_empty() { Ok(()) } else { Err(Error::Policy(faults.join("\n"))) }
}
