//! The table `github_runners_cache`: what the last sweep saw of each target, a row a page, with its ETag.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::schema::github_runners_cache as cache;
use super::{Conn, Error};
use crate::model::Target;

/// One page of GitHub's list; `runners` is opaque here.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = cache)]
pub struct Page {
    pub page: i32,
    pub etag: Option<String>,
    pub has_next: bool,
    pub runners: Value,
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

/// Replaces the pages of a target.
pub async fn replace(
    conn: &mut Conn,
    target: &Target,
    pages: &[Page],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    diesel::delete(cache::table.filter(cache::target.eq(target.to_string()))).execute(conn).await?;
    let target = target.to_string();
    let rows: Vec<_> =
        pages.iter().map(|page| (cache::target.eq(&target), cache::fetched_at.eq(now), page)).collect();
    diesel::insert_into(cache::table).values(rows).execute(conn).await?;
    Ok(())
}
