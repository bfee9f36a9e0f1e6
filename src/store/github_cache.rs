//! The table `github_runners_cache`: what the last sweep saw of each target, a row a page, with its ETag.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::schema::github_runners_cache as cache;
use super::{Conn, Error};
use crate::model::Target;

/// A page of a hundred runners is some 30 kB.
const PAGES_AT_ONCE: usize = 20;

/// One page of GitHub's list; `runners` is opaque here.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = cache)]
pub struct Page {
    /// From 1.
    pub page: i32,
    /// As GitHub sent it.
    pub etag: Option<String>,
    /// Whether there is a page after it.
    pub has_next: bool,
    /// GitHub's JSON.
    pub runners: Value,
    /// On all pages.
    pub total: Option<i64>,
}

/// The pages of a target in order.
pub async fn pages(conn: &mut Conn, target: &Target) -> Result<Vec<Page>, Error> {
    Ok(cache::table
        .filter(cache::target.eq(target.to_string()))
        .order(cache::page)
        .select(Page::as_select())
        .load(conn)
        .await?)
}

/// Writes these pages of a target, and forgets those after its last one, which is `last`.
pub async fn write(
    conn: &mut Conn,
    target: &Target,
    changed: &[Page],
    last: i32,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let name = target.to_string();
    let after = cache::table.filter(cache::target.eq(&name)).filter(cache::page.gt(last));
    diesel::delete(after).execute(conn).await?;
    for some in changed.chunks(PAGES_AT_ONCE) {
        let rows: Vec<_> =
            some.iter().map(|page| (cache::target.eq(&name), cache::fetched_at.eq(now), page)).collect();
        diesel::insert_into(cache::table)
            .values(rows)
            .on_conflict((cache::target, cache::page))
            .do_update()
            .set((
                cache::etag.eq(excluded(cache::etag)),
                cache::has_next.eq(excluded(cache::has_next)),
                cache::runners.eq(excluded(cache::runners)),
                cache::fetched_at.eq(excluded(cache::fetched_at)),
                cache::total.eq(excluded(cache::total)),
            ))
            .execute(conn)
            .await?;
    }
    Ok(())
}
