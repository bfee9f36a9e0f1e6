//! Teams as administrators see and change them: each change is one of the policy's document.

use chrono::{DateTime, Utc};
use serde_json::json;

pub use super::preview::Preview;

use super::difference::team_changes;
use super::edit::{Change, Draft, Edit, place_of, team_version};
use super::if_match::IfMatch;
use super::tables::entries;
use crate::broker::events::{Batch, Kind};
use crate::broker::people::caller::Caller;
use crate::broker::{Broker, Error};
use crate::model::{Comment, GroupRef, Method, sha256};
use crate::policy::{Fault, Member, TeamEntry};
use crate::store::policies::{self, TeamFilter, TeamRow};
use crate::store::{Conn, stats};

/// A team with how it stands.
#[derive(Clone, Debug)]
pub struct Team {
    /// With its members.
    pub entry: TeamEntry,
    /// Whether its members get runners.
    pub active: bool,
    /// As they count in the quota.
    pub live_runners: i64,
    /// When it was first written.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

impl Team {
    /// Of what can be edited, for `IfMatch`: runners that come and go change nothing.
    pub fn version(&self) -> String {
        team_version(&self.entry, self.active)
    }
}

/// One page of teams, by name.
#[derive(Debug)]
pub struct TeamPage {
    /// The teams of this page.
    pub teams: Vec<Team>,
    /// The name after which the next page begins; `None`: this is the last.
    pub next: Option<String>,
}

/// What to change of a team; `None` leaves it. `Some(None)` is the default or no limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TeamPatch {
    /// What people read about it.
    pub description: Option<String>,
    /// Labels that every runner of the team gets.
    pub required_labels: Option<Vec<String>>,
    /// Patterns of labels that its members may ask for.
    pub allowed_labels: Option<Vec<String>>,
    /// How its runners may get their credentials.
    pub methods: Option<Vec<Method>>,
    /// Patterns of organizations and repositories; the default is the configured organization.
    pub targets: Option<Option<Vec<String>>>,
    /// Runner groups that may be asked for.
    pub runner_groups: Option<Option<Vec<GroupRef>>>,
    /// The most live runners at a time.
    pub max_runners: Option<Option<i64>>,
    /// The most provisions a minute.
    pub requests_per_minute: Option<Option<i64>>,
    /// All members, by issuer and claims.
    pub members: Option<Vec<Member>>,
}

impl TeamPatch {
    /// Changes the fields of `entry` that the patch has.
    pub fn apply(&self, entry: &mut TeamEntry) {
        fn set<T: Clone>(field: &mut T, wanted: &Option<T>) {
            if let Some(wanted) = wanted {
                field.clone_from(wanted);
            }
        }
        set(&mut entry.description, &self.description);
        set(&mut entry.required_labels, &self.required_labels);
        set(&mut entry.allowed_labels, &self.allowed_labels);
        set(&mut entry.methods, &self.methods);
        set(&mut entry.targets, &self.targets);
        set(&mut entry.runner_groups, &self.runner_groups);
        set(&mut entry.max_runners, &self.max_runners);
        set(&mut entry.requests_per_minute, &self.requests_per_minute);
        set(&mut entry.member, &self.members);
    }
}

/// What makes one of these the other, a line a change.
pub fn changes(was: &TeamEntry, is: &TeamEntry) -> Vec<String> {
    team_changes(was, is)
}

/// What a member is called by: the same for the same issuer and claims.
pub fn member_id(member: &Member) -> String {
    let text = json!([member.issuer, member.claims]).to_string();
    let mut hash = sha256(&text);
    hash.truncate(16);
    hash
}

impl Broker {
    /// All teams, those that are deactivated too.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn team_list(
        &self,
        filter: &TeamFilter,
        after: Option<&str>,
        limit: i64,
    ) -> Result<TeamPage, Error> {
        let now = self.clock.now();
        let mut teams = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                policies::repeatable_read(conn).await?;
                let rows = policies::team_page(conn, filter, after, limit + 1).await?;
                with_members_and_runners(conn, rows, now).await
            })
            .await?;
        let more = teams.len() as i64 > limit;
        teams.truncate(limit as usize);
        let next = teams.last().filter(|_| more).map(|team| team.entry.name.clone());
        Ok(TeamPage { teams, next })
    }

    /// By its name, without regard to case.
    ///
    /// # Errors
    ///
    /// [`Error::TeamNotFound`] or [`Error::Store`].
    pub async fn team(&self, name: &str) -> Result<Team, Error> {
        let now = self.clock.now();
        let found = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                policies::repeatable_read(conn).await?;
                let row = policies::team(conn, name).await?;
                with_members_and_runners(conn, row.into_iter().collect(), now).await
            })
            .await?;
        found.into_iter().next().ok_or_else(|| Error::TeamNotFound(name.to_owned()))
    }

    /// How the policy spells this name, which may be that of a deactivated team.
    ///
    /// # Errors
    ///
    /// [`Error::TeamNotFound`] or [`Error::Store`].
    pub async fn team_name(&self, name: &str) -> Result<String, Error> {
        let mut conn = self.store.conn().await?;
        let found = policies::team(&mut conn, name).await?;
        found.map(|row| row.team.name).ok_or_else(|| Error::TeamNotFound(name.to_owned()))
    }

    /// Creates a team.
    ///
    /// # Errors
    ///
    /// [`Error::TeamExists`], [`Error::TeamExistsDeactivated`], [`Error::Faulty`], [`Error::PolicyManagedByFile`],
    /// [`Error::Forbidden`], [`Error::IdentityDeactivated`], [`Error::OwnRole`] or [`Error::Store`].
    pub async fn create_team(&self, admin: &Caller, entry: TeamEntry) -> Result<Team, Error> {
        self.change_team_by(Edit::by(admin, Kind::TeamCreated), &|draft| created(draft, &entry)).await
    }

    /// What creating this team would do.
    ///
    /// # Errors
    ///
    /// [`Error::TeamExists`], [`Error::TeamExistsDeactivated`], [`Error::Faulty`], [`Error::PolicyManagedByFile`],
    /// [`Error::Forbidden`], [`Error::IdentityDeactivated`], [`Error::OwnRole`] or [`Error::Store`].
    pub async fn preview_team(&self, admin: &Caller, entry: TeamEntry) -> Result<Preview, Error> {
        let edit = Edit { dry_run: true, ..Edit::by(admin, Kind::TeamCreated) };
        self.preview(edit, &|draft| created(draft, &entry)).await
    }

    /// Changes the fields of a team that the patch has.
    ///
    /// # Errors
    ///
    /// [`Error::TeamNotFound`], [`Error::TeamDeactivated`], [`Error::PreconditionRequired`],
    /// [`Error::PreconditionFailed`], [`Error::Faulty`], [`Error::PolicyManagedByFile`], [`Error::Forbidden`],
    /// [`Error::IdentityDeactivated`], [`Error::OwnRole`] or [`Error::Store`].
    pub async fn change_team(
        &self,
        admin: &Caller,
        name: &str,
        seen: &IfMatch,
        patch: &TeamPatch,
    ) -> Result<Team, Error> {
        let change = |draft: &mut Draft| patched(draft, name, seen, patch);
        self.change_team_by(Edit::by(admin, Kind::TeamUpdated), &change).await
    }

    /// What `change_team` would do, and to whom.
    ///
    /// # Errors
    ///
    /// [`Error::TeamNotFound`], [`Error::TeamDeactivated`], [`Error::PreconditionRequired`],
    /// [`Error::PreconditionFailed`], [`Error::Faulty`], [`Error::PolicyManagedByFile`], [`Error::Forbidden`],
    /// [`Error::IdentityDeactivated`], [`Error::OwnRole`] or [`Error::Store`].
    pub async fn preview_change(
        &self,
        admin: &Caller,
        name: &str,
        seen: &IfMatch,
        patch: &TeamPatch,
    ) -> Result<Preview, Error> {
        let edit = Edit { dry_run: true, ..Edit::by(admin, Kind::TeamUpdated) };
        self.preview(edit, &|draft| patched(draft, name, seen, patch)).await
    }

    /// Its members get no runners any more; those that it has stay, and are managed. Done again, it changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`Error::TeamNotFound`], [`Error::PreconditionRequired`], [`Error::PreconditionFailed`],
    /// [`Error::PolicyManagedByFile`], [`Error::Forbidden`], [`Error::IdentityDeactivated`], [`Error::OwnRole`] or
    /// [`Error::Store`].
    pub async fn deactivate_team(
        &self,
        admin: &Caller,
        name: &str,
        seen: &IfMatch,
        comment: &Comment,
    ) -> Result<Team, Error> {
        let edit = Edit { comment: Some(comment), ..Edit::by(admin, Kind::TeamDeactivated) };
        self.change_team_by(edit, &|draft| deactivated(draft, name, seen)).await
    }

    /// As `deactivate_team`, as a part of a batch; whether anything changed.
    pub(in crate::broker) async fn deactivate_team_in(
        &self,
        admin: &Caller,
        batch: &Batch,
        name: &str,
    ) -> Result<bool, Error> {
        let actor = admin.actor_in(batch);
        let edit = Edit { actor, ..Edit::by(admin, Kind::TeamDeactivated) };
        let edited = self.edit_policy(edit, &|draft| deactivated(draft, name, &IfMatch::Any)).await?;
        Ok(!edited.changes.is_empty())
    }

    /// With the rules and the members that it had; done again, it changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::TeamNotFound`], [`Error::PreconditionRequired`], [`Error::PreconditionFailed`],
    /// [`Error::PolicyManagedByFile`], [`Error::Forbidden`], [`Error::IdentityDeactivated`], [`Error::OwnRole`] or
    /// [`Error::Store`].
    pub async fn reactivate_team(
        &self,
        admin: &Caller,
        name: &str,
        seen: &IfMatch,
        comment: &Comment,
    ) -> Result<Team, Error> {
        let edit = Edit { comment: Some(comment), ..Edit::by(admin, Kind::TeamReactivated) };
        let change = |draft: &mut Draft| {
            if let Some(place) = place_of(&draft.document.team, name) {
                let team = &draft.document.team[place];
                seen.check(&team_version(team, true))?;
                return Ok(Some(team.name.clone()));
            }
            let team = draft.inactive.remove(draft.inactive_place(name, seen)?);
            let name = team.name.clone();
            draft.document.team.push(team);
            Ok(Some(name))
        };
        self.change_team_by(edit, &change).await
    }

    /// Adds a member; a repeated call changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::TeamNotFound`], [`Error::TeamDeactivated`], [`Error::PreconditionRequired`],
    /// [`Error::PreconditionFailed`], [`Error::Faulty`], [`Error::PolicyManagedByFile`], [`Error::Forbidden`],
    /// [`Error::IdentityDeactivated`], [`Error::OwnRole`] or [`Error::Store`].
    pub async fn add_member(
        &self,
        admin: &Caller,
        name: &str,
        seen: &IfMatch,
        added: Member,
    ) -> Result<Team, Error> {
        let change = |draft: &mut Draft| {
            let team = draft.active_team(name, seen)?;
            if !team.member.contains(&added) {
                team.member.push(added.clone());
            }
            Ok(Some(team.name.clone()))
        };
        let changed = self.change_team_by(Edit::by(admin, Kind::TeamUpdated), &change).await;
        changed.map_err(in_words_of_a_member)
    }

    /// Removes a member by its [`member_id`].
    ///
    /// # Errors
    ///
    /// [`Error::MemberNotFound`], [`Error::TeamNotFound`], [`Error::TeamDeactivated`],
    /// [`Error::PreconditionRequired`], [`Error::PreconditionFailed`], [`Error::Faulty`],
    /// [`Error::PolicyManagedByFile`], [`Error::Forbidden`], [`Error::IdentityDeactivated`], [`Error::OwnRole`] or
    /// [`Error::Store`].
    pub async fn remove_member(
        &self,
        admin: &Caller,
        name: &str,
        seen: &IfMatch,
        id: &str,
    ) -> Result<Team, Error> {
        let change = |draft: &mut Draft| {
            let team = draft.active_team(name, seen)?;
            let before = team.member.len();
            team.member.retain(|member| member_id(member) != id);
            if team.member.len() == before {
                return Err(Error::MemberNotFound);
            }
            Ok(Some(team.name.clone()))
        };
        self.change_team_by(Edit::by(admin, Kind::TeamUpdated), &change).await
    }

    async fn change_team_by(&self, edit: Edit<'_>, change: Change<'_>) -> Result<Team, Error> {
        let edited = self.edit_policy(edit, change).await?;
        self.refresh_after_edit().await;
        self.team(edited.team.as_deref().unwrap_or_default()).await
    }
}

/// `members[3].claims.x` is the field `claims.x` of a request about one member.
fn in_words_of_a_member(err: Error) -> Error {
    let Error::Faulty(faults) = err else { return err };
    let field = |place: String| match place.split_once("].") {
        Some((list, field)) if list.starts_with("members[") => field.to_owned(),
        _ => place,
    };
    Error::Faulty(faults.into_iter().map(|fault| Fault { place: field(fault.place), ..fault }).collect())
}

fn created(draft: &mut Draft, entry: &TeamEntry) -> Result<Option<String>, Error> {
    if let Some(place) = place_of(&draft.document.team, &entry.name) {
        return Err(Error::TeamExists(draft.document.team[place].name.clone()));
    }
    if let Some(place) = place_of(&draft.inactive, &entry.name) {
        return Err(Error::TeamExistsDeactivated(draft.inactive[place].name.clone()));
    }
    draft.document.team.push(entry.clone());
    Ok(Some(entry.name.clone()))
}

fn patched(
    draft: &mut Draft,
    name: &str,
    seen: &IfMatch,
    patch: &TeamPatch,
) -> Result<Option<String>, Error> {
    let team = draft.active_team(name, seen)?;
    patch.apply(team);
    Ok(Some(team.name.clone()))
}

fn deactivated(draft: &mut Draft, name: &str, seen: &IfMatch) -> Result<Option<String>, Error> {
    let name = match draft.active_team(name, seen) {
        Ok(team) => team.name.clone(),
        Err(Error::TeamDeactivated(name)) => return Ok(Some(name)),
        Err(err) => return Err(err),
    };
    draft.document.team.retain(|team| team.name != name);
    Ok(Some(name))
}

async fn with_members_and_runners(
    conn: &mut Conn,
    rows: Vec<TeamRow>,
    now: DateTime<Utc>,
) -> Result<Vec<Team>, Error> {
    let names: Vec<String> = rows.iter().map(|row| row.team.name.clone()).collect();
    let members = policies::members_of(conn, &names).await?;
    let live = stats::counted_for_quota(conn, &names, now).await?;
    let teams = rows.iter().map(|row| row.team.clone()).collect();
    let entries = entries(teams, members)?;
    let team = |(row, entry): (TeamRow, TeamEntry)| Team {
        active: row.team.active,
        live_runners: live.get(&entry.name).copied().unwrap_or(0),
        created_at: row.created_at,
        updated_at: row.updated_at,
        entry,
    };
    Ok(rows.into_iter().zip(entries).map(team).collect())
}
