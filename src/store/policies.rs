//! The policy's tables: `teams`, `team_members`, `role_members`, `deny_rules`, `policy_versions`, `team_requests`.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Integer, Text};
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::schema::{deny_rules, policy_versions, role_members, team_members, team_requests, teams};
use super::{Conn, Error};

/// A team as the document has it.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = teams, check_for_backend(Pg), treat_none_as_null = true)]
pub struct Team {
    /// Unique without regard to case.
    pub name: String,
    /// For people.
    pub description: String,
    /// Labels of all its runners.
    pub required_labels: Vec<String>,
    /// Patterns.
    pub allowed_labels: Vec<String>,
    /// Texts of [`Method`](crate::model::Method).
    pub methods: Vec<String>,
    /// Patterns; `None`: the default target.
    pub targets: Option<Vec<String>>,
    /// A list of ids and names; `None`: the default group.
    pub runner_groups: Option<Value>,
    /// `None`: no limit.
    pub max_runners: Option<i64>,
    /// `None`: no limit.
    pub requests_per_minute: Option<i64>,
    /// An inactive team has no effect.
    pub active: bool,
    /// Its place in the document.
    pub position: i32,
}

/// One rule that lets callers into a team; `claims` is an object of patterns.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = team_members, check_for_backend(Pg))]
pub struct TeamMember {
    /// The team's name.
    pub team: String,
    /// Its place among the members of the team.
    pub position: i32,
    /// Of the tokens that it is about.
    pub issuer: String,
    /// Claim to pattern.
    pub claims: Value,
}

/// One rule that gives callers a role.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = role_members, check_for_backend(Pg))]
pub struct RoleMember {
    /// The text of a [`Role`](crate::model::Role).
    pub role: String,
    /// Its place among the members of the role.
    pub position: i32,
    /// Of the tokens that it is about.
    pub issuer: String,
    /// Claim to pattern.
    pub claims: Value,
}

/// One rule that refuses callers.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = deny_rules, check_for_backend(Pg))]
pub struct DenyRule {
    /// Its place in the document.
    pub position: i32,
    /// Of the tokens that it is about.
    pub issuer: String,
    /// Claim to pattern.
    pub claims: Value,
    /// For people.
    pub comment: String,
    /// When it ends; `None`: never.
    pub until: Option<DateTime<Utc>>,
}

/// The whole policy. Inactive teams are in the table but not in here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables {
    /// In the order of the document.
    pub teams: Vec<Team>,
    /// Of these teams.
    pub team_members: Vec<TeamMember>,
    /// Of all roles.
    pub role_members: Vec<RoleMember>,
    /// In the order of the document.
    pub deny_rules: Vec<DenyRule>,
}

impl Tables {
    /// Sorts members by whom they are about: here and not in SQL, since a database has an order of its own.
    pub fn sort(&mut self) {
        self.team_members.sort_by(|a, b| (&a.team, a.position).cmp(&(&b.team, b.position)));
        self.role_members.sort_by(|a, b| (&a.role, a.position).cmp(&(&b.role, b.position)));
    }

    fn members_by_team(&self) -> HashMap<&str, Vec<&TeamMember>> {
        let mut by_team: HashMap<&str, Vec<&TeamMember>> = HashMap::new();
        for member in &self.team_members {
            by_team.entry(&member.team).or_default().push(member);
        }
        by_team
    }
}

/// The names of all teams there ever were, inactive ones too.
pub async fn team_names(conn: &mut Conn) -> Result<Vec<String>, Error> {
    Ok(teams::table.select(teams::name).load(conn).await?)
}

/// The newest version's id; 0 before the first. Grows with each change of the policy.
pub async fn revision(conn: &mut Conn) -> Result<i64, Error> {
    let newest = policy_versions::table.select(diesel::dsl::max(policy_versions::id));
    Ok(newest.first::<Option<i64>>(conn).await?.unwrap_or(0))
}

/// Makes the transaction read one snapshot (`REPEATABLE READ`). Must be its first statement.
pub async fn repeatable_read(conn: &mut Conn) -> Result<(), Error> {
    diesel::sql_query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(conn).await?;
    Ok(())
}

/// Keeps others from changing the policy until the transaction ends.
pub async fn lock(conn: &mut Conn) -> Result<(), Error> {
    diesel::sql_query("LOCK TABLE policy_versions IN SHARE ROW EXCLUSIVE MODE").execute(conn).await?;
    Ok(())
}

/// Where the documents that were applied came from.
pub async fn sources(conn: &mut Conn) -> Result<Vec<String>, Error> {
    Ok(policy_versions::table.select(policy_versions::source).distinct().load(conn).await?)
}

/// Whether a document with this hash was ever applied.
pub async fn was_applied(conn: &mut Conn, sha256: &str) -> Result<bool, Error> {
    let found = policy_versions::table.filter(policy_versions::sha256.eq(sha256));
    Ok(diesel::select(diesel::dsl::exists(found)).get_result(conn).await?)
}

/// The policy as it stands.
pub async fn load(conn: &mut Conn) -> Result<Tables, Error> {
    let roles = role_members::table.select(RoleMember::as_select()).load(conn).await?;
    let deny_rules = denials(conn).await?;
    let mut tables = Tables { role_members: roles, deny_rules, ..load_teams(conn, true).await? };
    tables.sort();
    Ok(tables)
}

/// Teams that are deactivated, with the members that they had, and no roles.
pub async fn load_inactive(conn: &mut Conn) -> Result<Tables, Error> {
    let mut tables = load_teams(conn, false).await?;
    tables.sort();
    Ok(tables)
}

async fn load_teams(conn: &mut Conn, active: bool) -> Result<Tables, Error> {
    let found = teams::table.filter(teams::active.eq(active)).order(teams::position);
    let found: Vec<Team> = found.select(Team::as_select()).load(conn).await?;
    let names: Vec<&str> = found.iter().map(|team| team.name.as_str()).collect();
    let members = team_members::table.filter(team_members::team.eq_any(names));
    let team_members = members.select(TeamMember::as_select()).load(conn).await?;
    Ok(Tables { teams: found, team_members, ..Tables::default() })
}

/// Makes the tables, which say `old`, say `new`; only what differs is written. Teams that are not in it are
/// deactivated, never deleted, and keep their members for the day on which they are wanted again.
pub async fn replace(
    conn: &mut Conn,
    old: &Tables,
    new: &Tables,
    sha256: &str,
    source: &str,
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    let kept: HashMap<&str, &Team> = old.teams.iter().map(|team| (team.name.as_str(), team)).collect();
    let (had, has) = (old.members_by_team(), new.members_by_team());
    let mut remaining: HashSet<&str> = kept.keys().copied().collect();
    let mut other_members = Vec::new();
    for team in &new.teams {
        let name = team.name.as_str();
        remaining.remove(name);
        let was = kept.get(name);
        let same_members = was.is_some() && had.get(name) == has.get(name);
        if !same_members {
            other_members.push(name);
        }
        if same_members && was.is_some_and(|was| Team { position: team.position, ..(*was).clone() } == *team)
        {
            continue;
        }
        diesel::insert_into(teams::table)
            .values((team, teams::created_at.eq(now), teams::updated_at.eq(now)))
            .on_conflict(teams::name)
            .do_update()
            .set((team, teams::updated_at.eq(now)))
            .execute(conn)
            .await?;
    }
    diesel::update(teams::table.filter(teams::name.eq_any(remaining)))
        .set((teams::active.eq(false), teams::updated_at.eq(now)))
        .execute(conn)
        .await?;
    reorder(conn, &new.teams).await?;
    let of_others = team_members::table.filter(team_members::team.eq_any(&other_members));
    diesel::delete(of_others).execute(conn).await?;
    let members: Vec<&TeamMember> =
        other_members.iter().filter_map(|name| has.get(name)).flatten().copied().collect();
    diesel::insert_into(team_members::table).values(members).execute(conn).await?;
    if old.role_members != new.role_members {
        diesel::delete(role_members::table).execute(conn).await?;
        diesel::insert_into(role_members::table).values(&new.role_members).execute(conn).await?;
    }
    if old.deny_rules != new.deny_rules {
        diesel::delete(deny_rules::table).execute(conn).await?;
        diesel::insert_into(deny_rules::table).values(&new.deny_rules).execute(conn).await?;
    }
    Ok(diesel::insert_into(policy_versions::table)
        .values((
            policy_versions::sha256.eq(sha256),
            policy_versions::source.eq(source),
            policy_versions::applied_at.eq(now),
        ))
        .returning(policy_versions::id)
        .get_result(conn)
        .await?)
}

/// Writes the order of the teams. A new position alone does not count as a change of a team.
async fn reorder(conn: &mut Conn, ordered: &[Team]) -> Result<(), Error> {
    diesel::sql_query(
        "UPDATE teams SET position = wanted.position FROM unnest($1, $2) AS wanted (name, position)
         WHERE teams.name = wanted.name AND teams.position <> wanted.position",
    )
    .bind::<Array<Text>, _>(ordered.iter().map(|team| team.name.as_str()).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(ordered.iter().map(|team| team.position).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// A team with what the table knows of it beyond the document.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = teams, check_for_backend(Pg))]
pub struct TeamRow {
    /// The team.
    #[diesel(embed)]
    pub team: Team,
    /// When the row was written.
    pub created_at: DateTime<Utc>,
    /// When the row was last changed.
    pub updated_at: DateTime<Utc>,
}

/// Which teams to list; `None` filters nothing.
#[derive(Clone, Debug, Default)]
pub struct TeamFilter {
    /// Part of the name or the description, without case.
    pub q: Option<String>,
    /// Active or inactive ones.
    pub active: Option<bool>,
}

/// By name without case, those after `after`. There are few teams: they are not indexed in this order.
pub async fn team_page(
    conn: &mut Conn,
    filter: &TeamFilter,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<TeamRow>, Error> {
    const BY_NAME: &str = "lower(name) COLLATE \"C\"";
    let mut query = teams::table.into_boxed();
    if let Some(q) = &filter.q {
        let holds = |column: &str| {
            let within = format!(") in lower({column})) > 0");
            sql::<Bool>("position(lower(").bind::<Text, _>(q.clone()).sql(&within)
        };
        query = query.filter(holds("name").or(holds("description")));
    }
    if let Some(active) = filter.active {
        query = query.filter(teams::active.eq(active));
    }
    if let Some(after) = after {
        let later = sql::<Bool>(BY_NAME).sql(" > lower(").bind::<Text, _>(after.to_owned()).sql(")");
        query = query.filter(later);
    }
    Ok(query.order(sql::<Text>(BY_NAME)).limit(limit).select(TeamRow::as_select()).load(conn).await?)
}

/// The team of this name, without case.
pub async fn team(conn: &mut Conn, name: &str) -> Result<Option<TeamRow>, Error> {
    let named = sql::<Bool>("lower(name) = lower(").bind::<Text, _>(name.to_owned()).sql(")");
    Ok(teams::table.filter(named).select(TeamRow::as_select()).first(conn).await.optional()?)
}

/// The members of these teams, each team's in their order.
pub async fn members_of(conn: &mut Conn, names: &[String]) -> Result<Vec<TeamMember>, Error> {
    let members = team_members::table.filter(team_members::team.eq_any(names));
    Ok(members
        .order((team_members::team, team_members::position))
        .select(TeamMember::as_select())
        .load(conn)
        .await?)
}

/// Those who have a role, in their order.
pub async fn with_role(conn: &mut Conn, role: &str) -> Result<Vec<RoleMember>, Error> {
    let members = role_members::table.filter(role_members::role.eq(role));
    Ok(members.order(role_members::position).select(RoleMember::as_select()).load(conn).await?)
}

/// Who is refused, in the order of the document.
pub async fn denials(conn: &mut Conn) -> Result<Vec<DenyRule>, Error> {
    let rules = deny_rules::table.order(deny_rules::position);
    Ok(rules.select(DenyRule::as_select()).load(conn).await?)
}

/// Locks the team's row until the transaction ends, so that quota and rate are counted by one at a time.
/// `false`: there is no such active team any more.
pub async fn lock_team(conn: &mut Conn, team: &str) -> Result<bool, Error> {
    let locked = teams::table
        .filter(teams::name.eq(team))
        .filter(teams::active)
        .select(teams::name)
        .for_no_key_update()
        .first::<String>(conn)
        .await
        .optional()?;
    Ok(locked.is_some())
}

/// How many provisions the team asked for in the minute before `now`, and when the oldest of them was.
pub async fn recent_requests(
    conn: &mut Conn,
    team: &str,
    now: DateTime<Utc>,
) -> Result<(i64, Option<DateTime<Utc>>), Error> {
    Ok(team_requests::table
        .filter(team_requests::team.eq(team))
        .filter(team_requests::at.gt(now - TimeDelta::minutes(1)))
        .select((diesel::dsl::count_star(), diesel::dsl::min(team_requests::at)))
        .first(conn)
        .await?)
}

/// Counts one more, and forgets those that no longer matter.
pub async fn note_request(conn: &mut Conn, team: &str, now: DateTime<Utc>) -> Result<(), Error> {
    let old = team_requests::table
        .filter(team_requests::team.eq(team))
        .filter(team_requests::at.le(now - TimeDelta::minutes(1)));
    diesel::delete(old).execute(conn).await?;
    diesel::insert_into(team_requests::table)
        .values((team_requests::team.eq(team), team_requests::at.eq(now)))
        .execute(conn)
        .await?;
    Ok(())
}
