//! One change of the policy by an administrator: from the document as it stands to its next revision, with its
//! event, in one transaction, under the policy's lock.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::apply::BY_API;
use super::difference::difference;
use super::if_match::{IfMatch, version};
use super::tables::{entries, from_tables, sha256, to_tables};
use crate::broker::events::{About, Actor, Kind, record};
use crate::broker::people::caller::Caller;
use crate::broker::{Broker, Error};
use crate::model::{Comment, Role};
use crate::policy::{Document, Fault, Member, Rules, TeamEntry};
use crate::store::{identities, policies};

/// The policy while it is changed.
#[derive(Debug)]
pub(in crate::broker) struct Draft {
    pub document: Document,
    /// Teams that are deactivated, with the members that they had.
    pub inactive: Vec<TeamEntry>,
}

/// What a change is about and who makes it.
#[derive(Clone, Copy)]
pub(in crate::broker) struct Edit<'a> {
    pub admin: &'a Caller,
    /// The administrator, or their batch.
    pub actor: Actor<'a>,
    pub kind: Kind,
    pub comment: Option<&'a Comment>,
    /// Only says what would change.
    pub dry_run: bool,
}

impl<'a> Edit<'a> {
    pub fn by(admin: &'a Caller, kind: Kind) -> Edit<'a> {
        Edit { admin, actor: admin.actor(), kind, comment: None, dry_run: false }
    }
}

/// Changes the draft, unless it refuses. The name of the team that this is about, as the policy spells it.
pub(in crate::broker) type Change<'a> =
    &'a (dyn Fn(&mut Draft) -> Result<Option<String>, Error> + Send + Sync);

/// The result of an edit.
pub(in crate::broker) struct Edited {
    pub team: Option<String>,
    /// A line a change; empty: the policy said this already.
    pub changes: Vec<String>,
    /// The policy as it is, or would be.
    pub document: Document,
    pub rules: Rules,
}

impl Broker {
    /// Writes the change; it applies here once [`Broker::refresh_after_edit`] was called, elsewhere within
    /// [`POLICY_REFRESH`](crate::broker::POLICY_REFRESH).
    pub(in crate::broker) async fn edit_policy(
        &self,
        edit: Edit<'_>,
        change: Change<'_>,
    ) -> Result<Edited, Error> {
        if self.policy_is_managed_by_file() {
            return Err(Error::PolicyManagedByFile);
        }
        let defaults = self.defaults();
        self.store
            .transaction::<_, Error, _>(async |conn| {
                policies::lock(conn).await?;
                let old_tables = policies::load(conn).await?;
                let stored = policies::load_inactive(conn).await?;
                let old = from_tables(old_tables.clone())?;
                // By the tables and not by what this replica knows: of two who take the role from each other at the
                // same moment one keeps it.
                let own = &edit.admin.identity;
                if identities::is_inactive(conn, &own.issuer, &own.subject).await? {
                    return Err(Error::IdentityDeactivated);
                }
                let only_admins =
                    Document { admin: old.admin.clone(), deny: old.deny.clone(), ..Document::default() };
                let now = self.clock.now();
                match Rules::compile(&only_admins, &defaults) {
                    Ok(rules) if is_denied(&rules, edit.admin, now) => return Err(Error::AccessDenied),
                    Ok(rules) if is_admin(&rules, edit.admin) => {}
                    Ok(_) | Err(_) => return Err(Error::Forbidden),
                }
                let inactive = entries(stored.teams, stored.team_members)?;
                let mut draft = Draft { document: old.clone(), inactive };
                let team = change(&mut draft)?;
                let document = draft.document;
                let rules =
                    document.check(&defaults).map_err(|faults| Error::Faulty(in_words_of_the_api(faults)))?;
                if !is_admin(&rules, edit.admin) {
                    return Err(Error::OwnRole);
                }
                if is_denied(&rules, edit.admin, now) {
                    return Err(Error::OwnDenial);
                }
                let tables = to_tables(&document);
                let mut changes = Vec::new();
                if tables != old_tables {
                    changes = difference(&old, &document, &policies::team_names(conn).await?);
                }
                if changes.is_empty() || edit.dry_run {
                    return Ok(Edited { team, changes, document, rules });
                }
                let (sha256, mut event) = (sha256(&document), self.event(edit.kind, edit.actor));
                let now = event.timestamp;
                let revision = policies::replace(conn, &old_tables, &tables, &sha256, BY_API, now).await?;
                event.team.clone_from(&team);
                let mut event = event.with(json!({
                    "source": BY_API,
                    "sha256": sha256,
                    "revision": revision,
                    "changes": changes,
                }));
                if let Some(comment) = edit.comment {
                    event = event.with(json!({ "comment": comment }));
                }
                record(conn, event).await?;
                Ok(Edited { team, changes, document, rules })
            })
            .await
    }
}

fn is_admin(rules: &Rules, caller: &Caller) -> bool {
    rules.memberships(&caller.identity.issuer, &caller.claims.0).has(Role::Admin)
}

fn is_denied(rules: &Rules, caller: &Caller, now: DateTime<Utc>) -> bool {
    rules.denied(&caller.identity.issuer, &caller.claims.0, now).is_some()
}

/// `team.3.allowed_labels.2` is the field `allowed_labels[2]` of a request about that team. A change is about one
/// thing, and what was there before had no faults.
fn in_words_of_the_api(faults: Vec<Fault>) -> Vec<Fault> {
    let field = |place: &str| {
        let mut steps = place.split('.');
        // Past `team.3`, or `admin.3`; a claim may have dots of its own.
        let _ = (steps.next(), steps.next());
        let rest: Vec<&str> = steps.collect();
        match rest.as_slice() {
            ["member", n, of @ ..] => {
                [&format!("members[{n}]")[..]].iter().chain(of).copied().collect::<Vec<_>>().join(".")
            }
            [list, n] if n.parse::<usize>().is_ok() => format!("{list}[{n}]"),
            rest => rest.join("."),
        }
    };
    faults.into_iter().map(|fault| Fault { place: field(&fault.place), ..fault }).collect()
}

/// The version of a team, whatever its runners do.
pub(in crate::broker) fn team_version(entry: &TeamEntry, active: bool) -> String {
    version(&(active, entry))
}

/// The version of those who have a role.
pub(in crate::broker) fn role_version(members: &[Member]) -> String {
    version(&members)
}

/// Where this team stands, without regard to case.
pub(in crate::broker) fn place_of(teams: &[TeamEntry], name: &str) -> Option<usize> {
    teams.iter().position(|team| team.name.eq_ignore_ascii_case(name))
}

impl Draft {
    /// The team, if it is active and still as it was seen.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub fn active_team(&mut self, name: &str, seen: &IfMatch) -> Result<&mut TeamEntry, Error> {
        match place_of(&self.document.team, name) {
            Some(place) => {
                let team = &mut self.document.team[place];
                seen.check(&team_version(team, true))?;
                Ok(team)
            }
            None => {
                let team = &self.inactive[self.inactive_place(name, seen)?];
                Err(Error::TeamDeactivated(team.name.clone()))
            }
        }
    }

    /// Where the deactivated team stands, if it is still as it was seen.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub fn inactive_place(&self, name: &str, seen: &IfMatch) -> Result<usize, Error> {
        let place = place_of(&self.inactive, name).ok_or_else(|| Error::TeamNotFound(name.to_owned()))?;
        seen.check(&team_version(&self.inactive[place], false))?;
        Ok(place)
    }

    /// Those who have this role.
    pub fn role(&mut self, role: Role) -> &mut Vec<Member> {
        match role {
            Role::Admin => &mut self.document.admin,
            Role::Auditor => &mut self.document.auditor,
        }
    }
}
