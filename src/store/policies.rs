//! The policy's tables: `teams`, `team_members`, `role_members`, `policy_versions`, `team_requests`.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::schema::{policy_versions, role_members, team_members, team_requests, teams};
use super::{Conn, Error};

/// A team as the document has it.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = teams, check_for_backend(Pg), treat_none_as_null = true)]
pub struct Team {
    pub name: String,
    pub description: String,
    pub required_labels: Vec<String>,
    pub allowed_labels: Vec<String>,
    pub methods: Vec<String>,
    pub targets: Option<Vec<String>>,
    pub runner_groups: Option<Value>,
    pub max_runners: Option<i64>,
    pub requests_per_minute: Option<i64>,
    pub active: bool,
    pub position: i32,
}

/// One rule that lets callers into a team; `claims` is an object of patterns.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = team_members, check_for_backend(Pg))]
pub struct TeamMember {
    pub team: String,
    pub position: i32,
    pub issuer: String,
    pub claims: Value,
}

/// One rule that gives callers a role.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = role_members, check_for_backend(Pg))]
pub struct RoleMember {
    pub role: String,
    pub position: i32,
    pub issuer: String,
    pub claims: Value,
}

/// The whole policy. Inactive teams are in the table but not in here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables {
    pub teams: Vec<Team>,
    pub team_members: Vec<TeamMember>,
    pub role_members: Vec<RoleMember>,
}

impl Tables {
    /// Sorts members by whom they are about: here and not in SQL, since a database has an order of its own.
    pub fn sort(&mut self) {
        self.team_members.sort_by(|a, b| (&a.team, a.position).cmp(&(&b.team, b.position)));
        self.role_members.sort_by(|a, b| (&a.role, a.position).cmp(&(&b.role, b.position)));
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

/// Lets all that this transaction reads be of one moment; its first statement.
pub async fn freeze(conn: &mut Conn) -> Result<(), Error> {
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
    let teams = teams::table.filter(teams::active).order(teams::position).select(Team::as_select());
    let members = team_members::table.select(TeamMember::as_select());
    let roles = role_members::table.select(RoleMember::as_select());
    let mut tables = Tables {
        teams: teams.load(conn).await?,
        team_members: members.load(conn).await?,
        role_members: roles.load(conn).await?,
    };
    tables.sort();
    Ok(tables)
}

/// Makes the tables say `new`. Teams that are not in it are deactivated, never deleted.
pub async fn replace(
    conn: &mut Conn,
    new: &Tables,
    sha256: &str,
    source: &str,
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    diesel::delete(team_members::table).execute(conn).await?;
    diesel::delete(role_members::table).execute(conn).await?;
    diesel::update(teams::table.filter(teams::active))
        .set((teams::active.eq(false), teams::updated_at.eq(now)))
        .execute(conn)
        .await?;
    for team in &new.teams {
        diesel::insert_into(teams::table)
            .values((team, teams::created_at.eq(now), teams::updated_at.eq(now)))
            .on_conflict(teams::name)
            .do_update()
            .set((team, teams::updated_at.eq(now)))
            .execute(conn)
            .await?;
    }
    diesel::insert_into(team_members::table).values(&new.team_members).execute(conn).await?;
    diesel::insert_into(role_members::table).values(&new.role_members).execute(conn).await?;
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
