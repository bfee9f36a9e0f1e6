//! The table `unmanaged_runners`: runners on GitHub that nobody asked for, so that each is reported once.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::schema::unmanaged_runners as unmanaged;
use super::{Conn, Error};
use crate::model::Target;

/// One that was reported.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = unmanaged, check_for_backend(diesel::pg::Pg))]
pub struct Known {
    /// GitHub's id.
    pub github_runner_id: i64,
    /// How many whole lists of GitHub's in a row did not have it.
    pub missed_sweeps: i32,
    /// When its removal began.
    pub removing_at: Option<DateTime<Utc>>,
}

/// One to be reported.
#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = unmanaged)]
pub struct New<'a> {
    /// The organisation or repository.
    pub target: String,
    /// GitHub's id.
    pub github_runner_id: i64,
    /// As GitHub has it.
    pub name: &'a str,
    /// When a list first had it.
    pub first_seen_at: DateTime<Utc>,
    /// When its removal began.
    pub removing_at: Option<DateTime<Utc>>,
}

/// Those of a target that were reported.
pub async fn known(conn: &mut Conn, target: &Target) -> Result<Vec<Known>, Error> {
    Ok(unmanaged::table
        .filter(unmanaged::target.eq(target.to_string()))
        .select(Known::as_select())
        .load(conn)
        .await?)
}

/// Remembers these; the ids of those that nobody remembered before.
pub async fn remember(conn: &mut Conn, new: &[New<'_>]) -> Result<HashSet<i64>, Error> {
    let ids: Vec<i64> = diesel::insert_into(unmanaged::table)
        .values(new)
        .on_conflict_do_nothing()
        .returning(unmanaged::github_runner_id)
        .get_results(conn)
        .await?;
    Ok(ids.into_iter().collect())
}

/// This one is about to be removed. `false`: it was already, or is not remembered.
pub async fn remove(conn: &mut Conn, target: &Target, id: i64, at: DateTime<Utc>) -> Result<bool, Error> {
    let changed = diesel::update(unmanaged::table.find((target.to_string(), id)))
        .filter(unmanaged::removing_at.is_null())
        .set(unmanaged::removing_at.eq(at))
        .execute(conn)
        .await?;
    Ok(changed == 1)
}

/// What a whole list says of those that are remembered: `shown` again after they were missed, `missed`, or
/// `gone` for good.
pub async fn follow(
    conn: &mut Conn,
    target: &Target,
    shown: &[i64],
    missed: &[i64],
    gone: &[i64],
) -> Result<(), Error> {
    let of = |ids: &[i64]| {
        unmanaged::table
            .filter(unmanaged::target.eq(target.to_string()))
            .filter(unmanaged::github_runner_id.eq_any(ids.to_vec()))
    };
    if !shown.is_empty() {
        diesel::update(of(shown)).set(unmanaged::missed_sweeps.eq(0)).execute(conn).await?;
    }
    if !missed.is_empty() {
        let more = unmanaged::missed_sweeps.eq(unmanaged::missed_sweeps + 1);
        diesel::update(of(missed)).set(more).execute(conn).await?;
    }
    if !gone.is_empty() {
        diesel::delete(of(gone)).execute(conn).await?;
    }
    Ok(())
}
