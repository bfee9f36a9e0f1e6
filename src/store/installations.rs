//! The table `installations`: why a target is blocked, and how often the tokens for it were to be dropped.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use super::schema::installations;
use super::{Conn, Error};
use crate::model::Target;

/// What is known of a target. An owner's row is about the owner and all its repositories.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = installations, check_for_backend(Pg))]
pub struct Known {
    /// An owner, or a repository that is blocked by itself.
    pub target: Target,
    /// GitHub's id of the installation, if known.
    pub installation_id: Option<i64>,
    /// Why GitHub would refuse; `None`: nothing is known against it.
    pub blocked: Option<String>,
    /// Grows each time that its tokens and look-ups must be dropped.
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
        "INSERT INTO installations AS i (target, installation_id, blocked, changed_at, token_epoch, next_check_at)
         VALUES ($1, $2, $3, $4, 1, $4::timestamptz + interval '1 minute')
         ON CONFLICT (target) DO UPDATE SET blocked = excluded.blocked, changed_at = excluded.changed_at,
             installation_id = coalesce(excluded.installation_id, i.installation_id), token_epoch = i.token_epoch + 1,
             checks = 0, next_check_at = excluded.next_check_at
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

/// Takes at most `limit` blocked targets that are due to be checked with GitHub again, and sets their next check: 1, 2,
/// 4 … 60 minutes after this one.
pub async fn to_be_checked(conn: &mut Conn, now: DateTime<Utc>, limit: i64) -> Result<Vec<Known>, Error> {
    let taken: Vec<Taken> = diesel::sql_query(
        "UPDATE installations SET checks = checks + 1,
             next_check_at = $1 + least(60, 2 ^ least(checks + 1, 6)) * interval '1 minute'
         WHERE target IN (SELECT target FROM installations WHERE blocked IS NOT NULL AND next_check_at <= $1
             ORDER BY next_check_at LIMIT $2)
         RETURNING target",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    let targets: Vec<String> = taken.into_iter().map(|row| row.target).collect();
    let taken = installations::table.filter(installations::target.eq_any(targets));
    Ok(taken.order(installations::target).select(Known::as_select()).load(conn).await?)
}

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = Text)]
    target: String,
}

/// Forgets repositories that were blocked before: if somebody asks for one, GitHub refuses it itself.
pub async fn forget_repositories(conn: &mut Conn, before: DateTime<Utc>) -> Result<usize, Error> {
    Ok(diesel::delete(
        installations::table
            .filter(installations::target.like("%/%"))
            .filter(installations::blocked.is_not_null())
            .filter(installations::changed_at.lt(before)),
    )
    .execute(conn)
    .await?)
}
