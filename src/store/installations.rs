//! The table `installations`: why a target is blocked, and how often the tokens for it were to be dropped.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use super::schema::installations;
use super::{Conn, Error};
use crate::model::Target;

/// What is known of a target; an owner stands for himself and all his repositories.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = installations, check_for_backend(Pg))]
pub struct Known {
    pub target: Target,
    pub installation_id: Option<i64>,
    /// Why GitHub would refuse; `None`: nothing is known against it.
    pub blocked: Option<String>,
    /// Grows each time that tokens and look-ups for it are to be forgotten.
    pub token_epoch: i64,
}

/// All of them: one for each owner whose installation ever changed.
pub async fn all(conn: &mut Conn) -> Result<Vec<Known>, Error> {
    Ok(installations::table.order(installations::target).select(Known::as_select()).load(conn).await?)
}

/// Blocks or unblocks a target, and has its tokens dropped everywhere. `false`: it stands so already, and nothing
/// changed.
pub async fn block(
    conn: &mut Conn,
    target: &Target,
    installation_id: Option<i64>,
    reason: Option<&str>,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let changed = diesel::sql_query(
        "INSERT INTO installations AS i (target, installation_id, blocked, changed_at, token_epoch)
         VALUES ($1, $2, $3, $4, 1)
         ON CONFLICT (target) DO UPDATE SET blocked = excluded.blocked, changed_at = excluded.changed_at,
             installation_id = coalesce(excluded.installation_id, i.installation_id), token_epoch = i.token_epoch + 1
         WHERE i.blocked IS DISTINCT FROM excluded.blocked
            OR i.installation_id IS DISTINCT FROM coalesce(excluded.installation_id, i.installation_id)",
    )
    .bind::<Text, _>(target.to_string())
    .bind::<Nullable<BigInt>, _>(installation_id)
    .bind::<Nullable<Text>, _>(reason)
    .bind::<Timestamptz, _>(now)
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Has the tokens for an owner dropped everywhere.
pub async fn drop_tokens(conn: &mut Conn, owner: &Target, now: DateTime<Utc>) -> Result<(), Error> {
    diesel::sql_query(
        "INSERT INTO installations AS i (target, changed_at, token_epoch) VALUES ($1, $2, 1)
         ON CONFLICT (target) DO UPDATE SET changed_at = excluded.changed_at, token_epoch = i.token_epoch + 1",
    )
    .bind::<Text, _>(owner.to_string())
    .bind::<Timestamptz, _>(now)
    .execute(conn)
    .await?;
    Ok(())
}
