//! The table `sync_targets`: the targets that are swept, who wants one swept out of turn, and what became of
//! each one's last sweep.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use super::schema::{github_runners_cache, sync_targets, unmanaged_runners};
use super::{Conn, Error};
use crate::model::Target;

/// How a target's last sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepResult {
    /// The whole list was read and the table follows it.
    Complete,
    /// The list could not be read to its end: nothing was changed.
    Incomplete,
    /// GitHub's budget did not bear it.
    Postponed,
}

impl SweepResult {
    /// As the table has it.
    pub fn as_str(self) -> &'static str {
        match self {
            SweepResult::Complete => "complete",
            SweepResult::Incomplete => "incomplete",
            SweepResult::Postponed => "postponed",
        }
    }
}

/// A target as the table has it.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = sync_targets, check_for_backend(diesel::pg::Pg))]
pub struct SyncTarget {
    /// The organisation or repository.
    pub target: Target,
    /// When it became known.
    pub created_at: DateTime<Utc>,
    /// When a sweep out of turn was asked for, or is due.
    pub wanted_at: Option<DateTime<Utc>>,
    /// When the last sweep began.
    pub started_at: Option<DateTime<Utc>>,
    /// When the last sweep ended, in whatever way.
    pub finished_at: Option<DateTime<Utc>>,
    /// When a sweep last read the whole list.
    pub completed_at: Option<DateTime<Utc>>,
    /// The text of a [`SweepResult`].
    pub result: Option<String>,
    /// Why the last sweep was not complete.
    pub error: Option<String>,
    /// How many runners GitHub's list had.
    pub runners_seen: Option<i64>,
}

/// Somebody wants this target swept. A wish that is there already is enough, since it ends only when a sweep
/// begins: then nothing is written, so that many wishes at once don't wait for each other.
pub async fn want(conn: &mut Conn, target: &Target, at: DateTime<Utc>) -> Result<(), Error> {
    diesel::sql_query(
        "INSERT INTO sync_targets (target, created_at, wanted_at)
         SELECT $1, $2, $2
         WHERE NOT EXISTS (SELECT FROM sync_targets WHERE target = $1 AND wanted_at <= $2)
         ON CONFLICT (target) DO UPDATE SET wanted_at = least(sync_targets.wanted_at, excluded.wanted_at)",
    )
    .bind::<Text, _>(target.to_string())
    .bind::<Timestamptz, _>(at)
    .execute(conn)
    .await?;
    Ok(())
}

/// The targets that somebody wants swept by `now`, the longest wish first. A list of many pages is not read
/// again and again: of a target one page a second is read at most.
pub async fn wanted(conn: &mut Conn, now: DateTime<Utc>) -> Result<Vec<Target>, Error> {
    Ok(sync_targets::table
        .filter(sync_targets::wanted_at.le(now))
        .filter(
            sql::<Bool>("coalesce(started_at + make_interval(secs => runners_seen / 100) <= ")
                .bind::<Timestamptz, _>(now)
                .sql(", true)"),
        )
        .order(sync_targets::wanted_at)
        .select(sync_targets::target)
        .load(conn)
        .await?)
}

/// How long the list of a target that nobody has runners on any more is kept, and which of its runners were
/// reported: a repository may have a runner only now and then.
const REMEMBERED: TimeDelta = TimeDelta::days(30);

/// Makes these the targets that are swept: knows the new ones, forgets the others, and in time what was kept of
/// their lists.
pub async fn replace(conn: &mut Conn, targets: &[Target], now: DateTime<Utc>) -> Result<(), Error> {
    let names: Vec<String> = targets.iter().map(ToString::to_string).collect();
    let rows: Vec<_> =
        names.iter().map(|name| (sync_targets::target.eq(name), sync_targets::created_at.eq(now))).collect();
    diesel::insert_into(sync_targets::table).values(rows).on_conflict_do_nothing().execute(conn).await?;
    diesel::delete(sync_targets::table.filter(sync_targets::target.ne_all(&names))).execute(conn).await?;
    let long_ago = now - REMEMBERED;
    let cached = github_runners_cache::table
        .filter(github_runners_cache::target.ne_all(&names))
        .filter(github_runners_cache::fetched_at.lt(long_ago));
    diesel::delete(cached).execute(conn).await?;
    let unmanaged = unmanaged_runners::table
        .filter(unmanaged_runners::target.ne_all(&names))
        .filter(unmanaged_runners::first_seen_at.lt(long_ago));
    diesel::delete(unmanaged).execute(conn).await?;
    Ok(())
}

/// A sweep of this target begins: what was wished for until now is taken.
pub async fn begin(conn: &mut Conn, target: &Target, at: DateTime<Utc>) -> Result<(), Error> {
    let none = None::<DateTime<Utc>>;
    diesel::insert_into(sync_targets::table)
        .values((
            sync_targets::target.eq(target.to_string()),
            sync_targets::created_at.eq(at),
            sync_targets::started_at.eq(at),
        ))
        .on_conflict(sync_targets::target)
        .do_update()
        .set((sync_targets::started_at.eq(at), sync_targets::wanted_at.eq(none)))
        .execute(conn)
        .await?;
    Ok(())
}

/// It has read the whole list.
pub async fn complete(
    conn: &mut Conn,
    target: &Target,
    at: DateTime<Utc>,
    runners_seen: i64,
) -> Result<(), Error> {
    diesel::update(sync_targets::table.find(target.to_string()))
        .set((
            sync_targets::finished_at.eq(at),
            sync_targets::completed_at.eq(at),
            sync_targets::result.eq(SweepResult::Complete.as_str()),
            sync_targets::error.eq(None::<String>),
            sync_targets::runners_seen.eq(runners_seen),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// It broke off; `again_at`: when to try again out of turn.
pub async fn break_off(
    conn: &mut Conn,
    target: &Target,
    at: DateTime<Utc>,
    result: SweepResult,
    error: &str,
    again_at: Option<DateTime<Utc>>,
) -> Result<(), Error> {
    diesel::update(sync_targets::table.find(target.to_string()))
        .set((
            sync_targets::finished_at.eq(at),
            sync_targets::result.eq(result.as_str()),
            sync_targets::error.eq(error),
        ))
        .execute(conn)
        .await?;
    match again_at {
        Some(again_at) => want(conn, target, again_at).await,
        None => Ok(()),
    }
}

/// Puts the sweep off: it is not begun before `until`, even if it is asked for.
pub async fn postpone(
    conn: &mut Conn,
    target: &Target,
    error: &str,
    until: DateTime<Utc>,
) -> Result<(), Error> {
    diesel::update(sync_targets::table.find(target.to_string()))
        .set((
            sync_targets::wanted_at.eq(until),
            sync_targets::result.eq(SweepResult::Postponed.as_str()),
            sync_targets::error.eq(error),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// One target.
pub async fn get(conn: &mut Conn, target: &Target) -> Result<Option<SyncTarget>, Error> {
    let row = sync_targets::table.find(target.to_string()).select(SyncTarget::as_select());
    Ok(row.first(conn).await.optional()?)
}

/// All of them, by name.
pub async fn all(conn: &mut Conn) -> Result<Vec<SyncTarget>, Error> {
    Ok(sync_targets::table.order(sync_targets::target).select(SyncTarget::as_select()).load(conn).await?)
}
