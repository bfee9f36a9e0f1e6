//! What the sweep takes up: rows to compare with GitHub's list, to watch, and those whose time has come.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Timestamptz};
use diesel_async::RunQueryDsl;

use super::{LIVE, Runner, WATCHED};
use crate::model::{Method, Status, Target};
use crate::store::schema::runners;
use crate::store::{Conn, Error};

/// Live runners of a target, read after the list of GitHub's that they are compared with.
pub async fn live_on(conn: &mut Conn, target: &Target) -> Result<Vec<Runner>, Error> {
    Ok(runners::table
        .filter(runners::target.eq(target.to_string()))
        .filter(sql::<Bool>(LIVE))
        .select(Runner::as_select())
        .load(conn)
        .await?)
}

/// Targets with live rows, or with ended ones that are still watched.
pub async fn targets(conn: &mut Conn, watched_since: DateTime<Utc>) -> Result<Vec<Target>, Error> {
    let live: Vec<Target> =
        runners::table.filter(sql::<Bool>(LIVE)).select(runners::target).distinct().load(conn).await?;
    let watched: Vec<Target> = runners::table
        .filter(sql::<Bool>(WATCHED))
        .filter(runners::updated_at.gt(watched_since))
        .select(runners::target)
        .distinct()
        .load(conn)
        .await?;
    let all: std::collections::BTreeSet<Target> = live.into_iter().chain(watched).collect();
    Ok(all.into_iter().collect())
}

/// JIT rows of a target that ended after `since` and under whose name a lost request may still make a runner; the oldest
/// first.
pub async fn watched_on(
    conn: &mut Conn,
    target: &Target,
    since: DateTime<Utc>,
) -> Result<Vec<Runner>, Error> {
    Ok(runners::table
        .filter(sql::<Bool>(WATCHED))
        .filter(runners::target.eq(target.to_string()))
        .filter(runners::method.eq(Method::Jit.as_str()))
        .filter(runners::updated_at.gt(since))
        .order(runners::id)
        .select(Runner::as_select())
        .load(conn)
        .await?)
}

/// Whether any row, of whatever state, already knows this runner of GitHub's as `id`.
pub async fn knows(conn: &mut Conn, target: &Target, github_runner_id: i64) -> Result<Option<Runner>, Error> {
    Ok(runners::table
        .filter(runners::target.eq(target.to_string()))
        .filter(runners::github_runner_id.eq(github_runner_id))
        .order(runners::id.desc())
        .select(Runner::as_select())
        .first(conn)
        .await
        .optional()?)
}

/// Rows whose request can no longer be running.
pub async fn interrupted(conn: &mut Conn, before: DateTime<Utc>, limit: i64) -> Result<Vec<Runner>, Error> {
    Ok(runners::table
        .filter(runners::status.eq(Status::Requested.as_str()))
        .filter(runners::requested_at.lt(before))
        .order(runners::id)
        .limit(limit)
        .select(Runner::as_select())
        .load(conn)
        .await?)
}

/// Rows in `deleting` whose next attempt is due; what was tried last comes last, so that a row which always
/// fails keeps nobody waiting.
pub async fn deleting(conn: &mut Conn, now: DateTime<Utc>, limit: i64) -> Result<Vec<Runner>, Error> {
    Ok(runners::table
        .filter(runners::status.eq(Status::Deleting.as_str()))
        .filter(runners::delete_after.is_null().or(runners::delete_after.le(now)))
        .order((runners::delete_after.asc().nulls_first(), runners::id))
        .limit(limit)
        .select(Runner::as_select())
        .load(conn)
        .await?)
}

/// Pending rows past their start deadline (JIT) or past the end of their token (registration), unless the
/// last attempt demands a pause; what was tried last comes last.
pub async fn overdue(conn: &mut Conn, now: DateTime<Utc>, limit: i64) -> Result<Vec<Runner>, Error> {
    Ok(runners::table
        .filter(runners::status.eq(Status::Pending.as_str()))
        .filter(runners::expires_at.le(now))
        .filter(runners::delete_after.is_null().or(runners::delete_after.le(now)))
        .order((runners::delete_after.asc().nulls_first(), runners::id))
        .limit(limit)
        .select(Runner::as_select())
        .load(conn)
        .await?)
}

/// Rows offline since before `since`: not seen since, and not found offline only now, as after a time in which
/// nobody looked.
pub async fn stale(conn: &mut Conn, since: DateTime<Utc>, limit: i64) -> Result<Vec<Runner>, Error> {
    Ok(runners::table
        .filter(runners::status.eq(Status::Offline.as_str()))
        .filter(sql::<Timestamptz>("greatest(last_seen_at, updated_at)").lt(since))
        .order(runners::id)
        .limit(limit)
        .select(Runner::as_select())
        .load(conn)
        .await?)
}

/// How much waits to be done.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Backlog {
    /// Provisions whose request can no longer be at work.
    #[diesel(sql_type = BigInt)]
    pub interrupted: i64,
    /// Rows that wait to be deleted, for an idle runner or for GitHub.
    #[diesel(sql_type = BigInt)]
    pub deleting: i64,
    /// Runners that should have started by now, and registration tokens that ended unused.
    #[diesel(sql_type = BigInt)]
    pub unstarted: i64,
}

/// What is overdue at `now`; `before`: as in `interrupted`.
pub async fn backlog(conn: &mut Conn, now: DateTime<Utc>, before: DateTime<Utc>) -> Result<Backlog, Error> {
    Ok(diesel::sql_query(
        "SELECT (SELECT count(*) FROM runners WHERE status = 'requested' AND requested_at < $2) AS interrupted,
             (SELECT count(*) FROM runners WHERE status = 'deleting') AS deleting,
             (SELECT count(*) FROM runners WHERE status = 'pending' AND expires_at <= $1) AS unstarted",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(before)
    .get_result(conn)
    .await?)
}
