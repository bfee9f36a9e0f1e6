//! Many rows at once, in one statement: what a whole list of GitHub's shows of them.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Runner, allowed};
use crate::model::{Status, Target};
use crate::store::schema::runners;
use crate::store::{Conn, Error};

/// What a list shows of one row.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The row as it was read.
    pub seen: &'a Runner,
    /// The state that follows from the list.
    pub to: Status,
    /// Whether it runs a job.
    pub busy: bool,
    /// `None`: the row keeps the one it has.
    pub github_runner_id: Option<i64>,
    /// Whether it is connected.
    pub online: bool,
    /// Whether no list showed it before.
    pub first_seen: bool,
}

impl<'a> Observation<'a> {
    /// The list does not have the runner any more.
    pub fn gone(seen: &'a Runner) -> Observation<'a> {
        let to = Status::Deleted;
        Observation { seen, to, busy: false, github_runner_id: None, online: false, first_seen: false }
    }
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// As [`follow`](super::follow), for many rows in one statement. Changes rows that still have the status and generation
/// that were read and no facts newer than `at`; answers with their ids.
pub async fn follow_all(
    conn: &mut Conn,
    observations: &[Observation<'_>],
    at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<HashSet<Uuid>, Error> {
    for observation in observations {
        allowed(observation.seen, Some(observation.to.as_str()))?;
    }
    let changed: Vec<Id> = diesel::sql_query(
        "UPDATE runners SET
             status = observed.status, busy = observed.busy, updated_at = $2,
             github_runner_id = coalesce(observed.github_runner_id, runners.github_runner_id),
             missed_sweeps = CASE WHEN observed.status = 'deleted' THEN runners.missed_sweeps ELSE 0 END,
             facts_at = CASE WHEN observed.status = 'deleted' THEN $2 ELSE $1 END,
             deleted_at = CASE WHEN observed.status = 'deleted' THEN $2 END,
             registered_at = CASE WHEN observed.first_seen THEN $1 ELSE runners.registered_at END,
             last_seen_at = CASE WHEN observed.online THEN $1 ELSE runners.last_seen_at END
         FROM unnest($3, $4, $5, $6, $7, $8, $9, $10)
             AS observed (id, seen, generation, status, busy, github_runner_id, online, first_seen)
         WHERE runners.id = observed.id AND runners.status = observed.seen AND runners.generation = observed.generation
             AND (runners.facts_at IS NULL OR runners.facts_at < $1)
         RETURNING runners.id",
    )
    .bind::<Timestamptz, _>(at)
    .bind::<Timestamptz, _>(now)
    .bind::<Array<SqlUuid>, _>(observations.iter().map(|one| one.seen.id).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(observations.iter().map(|one| one.seen.status.as_str()).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(observations.iter().map(|one| one.seen.generation).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(observations.iter().map(|one| one.to.as_str()).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(observations.iter().map(|one| one.busy).collect::<Vec<_>>())
    .bind::<Array<Nullable<BigInt>>, _>(observations.iter().map(|one| one.github_runner_id).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(observations.iter().map(|one| one.online).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(observations.iter().map(|one| one.first_seen).collect::<Vec<_>>())
    .load(conn)
    .await?;
    Ok(changed.into_iter().map(|row| row.id).collect())
}

/// Notes that a whole list showed these online.
pub async fn seen(conn: &mut Conn, ids: &[Uuid], at: DateTime<Utc>) -> Result<usize, Error> {
    Ok(diesel::update(runners::table)
        .filter(runners::id.eq_any(ids))
        .filter(runners::facts_at.is_null().or(runners::facts_at.lt(at)))
        .set((runners::last_seen_at.eq(at), runners::facts_at.eq(at), runners::missed_sweeps.eq(0)))
        .execute(conn)
        .await?)
}

/// Notes that a whole list, begun at `at`, did not show these.
pub async fn missed(conn: &mut Conn, ids: &[Uuid], at: DateTime<Utc>) -> Result<usize, Error> {
    Ok(diesel::update(runners::table)
        .filter(runners::id.eq_any(ids))
        .filter(runners::facts_at.is_null().or(runners::facts_at.lt(at)))
        .set((runners::missed_sweeps.eq(runners::missed_sweeps + 1), runners::facts_at.eq(at)))
        .execute(conn)
        .await?)
}

/// Notes that these have the labels again that were asked for.
pub async fn undrifted(conn: &mut Conn, ids: &[Uuid]) -> Result<usize, Error> {
    Ok(diesel::update(runners::table)
        .filter(runners::id.eq_any(ids))
        .set(runners::drifted_labels.eq(None::<Vec<String>>))
        .execute(conn)
        .await?)
}

/// A row that has ended.
#[derive(Clone, Debug, Queryable)]
pub struct Ended {
    /// The row.
    pub id: Uuid,
    /// The runner's name.
    pub name: String,
    /// GitHub's id, if it ever had one.
    pub github_runner_id: Option<i64>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// Rows of a target that have ended and were one of these runners of GitHub's, by id or by name (lower-cased).
pub async fn ended(
    conn: &mut Conn,
    target: &Target,
    github_runner_ids: &[i64],
    names: &[String],
) -> Result<Vec<Ended>, Error> {
    use diesel::dsl::sql;
    let columns = (runners::id, runners::name, runners::github_runner_id, runners::deleted_at);
    let has_ended = || runners::status.eq_any([Status::Deleted.as_str(), Status::Failed.as_str()]);
    // Two queries, each by an index of its own.
    let mut rows: Vec<Ended> = runners::table
        .filter(runners::target.eq(target.to_string()))
        .filter(runners::github_runner_id.eq_any(github_runner_ids))
        .filter(has_ended())
        .select(columns)
        .load(conn)
        .await?;
    let by_name: Vec<Ended> = runners::table
        .filter(runners::target.eq(target.to_string()))
        .filter(sql::<Bool>("lower(name) = ANY(").bind::<Array<Text>, _>(names).sql(")"))
        .filter(has_ended())
        .select(columns)
        .load(conn)
        .await?;
    rows.extend(by_name);
    Ok(rows)
}

/// A row whose registration token was good at some time since.
#[derive(Clone, Debug, Queryable)]
pub struct TokenHolder {
    /// The row.
    pub id: Uuid,
    /// The runner's name.
    pub name: String,
    /// The team's name.
    pub team: String,
    /// The display name of the caller who got the token.
    pub provisioned_by: String,
    /// When the token ends.
    pub token_expires_at: Option<DateTime<Utc>>,
}

/// Rows of a target whose registration token was still good after `since`, the newest first; a token works
/// for anybody who has it, even if its row has ended.
pub async fn tokens_since(
    conn: &mut Conn,
    target: &Target,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<TokenHolder>, Error> {
    Ok(runners::table
        .filter(runners::target.eq(target.to_string()))
        .filter(runners::method.eq(crate::model::Method::RegistrationToken.as_str()))
        .filter(runners::expires_at.gt(since))
        .order((runners::expires_at.desc(), runners::id.desc()))
        .limit(limit)
        .select((runners::id, runners::name, runners::team, runners::provisioned_by, runners::expires_at))
        .load(conn)
        .await?)
}
