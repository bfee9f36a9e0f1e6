//! The table `idempotency_keys`: which runner a caller's key stands for.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::schema::idempotency_keys;
use super::{Conn, Error};
use crate::model::Identity;

/// A key as its caller sent it, with the fingerprint of the request.
#[derive(Clone, Debug)]
pub struct Key {
    /// The caller's `Idempotency-Key`.
    pub key: String,
    /// A hash of the request.
    pub fingerprint: String,
    /// The fingerprint of the same request in the form of the release before; rows of up to 24 hours ago, and those of
    /// older replicas, have it.
    pub former_fingerprint: Option<String>,
}

impl Key {
    /// Whether the key was used for the same request.
    pub fn was_used_for(&self, used: &Used) -> bool {
        used.fingerprint == self.fingerprint || Some(&used.fingerprint) == self.former_fingerprint.as_ref()
    }
}

/// What a key was first used for.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = idempotency_keys)]
pub struct Used {
    /// Of the request that used it first.
    pub fingerprint: String,
    /// The runner that was made for it.
    pub runner_id: Uuid,
    /// When it was used first.
    pub created_at: DateTime<Utc>,
}

/// Waits until no other transaction uses the same key, so that this one sees its row.
pub async fn lock(conn: &mut Conn, caller: &Identity, key: &Key) -> Result<(), Error> {
    use diesel::sql_types::Text;
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind::<Text, _>(format!("{}\n{}\n{}", caller.issuer, caller.subject, key.key))
        .execute(conn)
        .await?;
    Ok(())
}

/// What the key stands for, if it was used after `since`.
pub async fn find(
    conn: &mut Conn,
    caller: &Identity,
    key: &Key,
    since: DateTime<Utc>,
) -> Result<Option<Used>, Error> {
    Ok(idempotency_keys::table
        .find((&caller.issuer, &caller.subject, &key.key))
        .filter(idempotency_keys::created_at.gt(since))
        .select(Used::as_select())
        .first(conn)
        .await
        .optional()?)
}

/// Lets the key stand for this runner; an older use of it is forgotten.
pub async fn keep(
    conn: &mut Conn,
    caller: &Identity,
    key: &Key,
    runner_id: Uuid,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let row = (
        idempotency_keys::fingerprint.eq(&key.fingerprint),
        idempotency_keys::runner_id.eq(runner_id),
        idempotency_keys::created_at.eq(now),
    );
    diesel::insert_into(idempotency_keys::table)
        .values((
            idempotency_keys::issuer.eq(&caller.issuer),
            idempotency_keys::subject.eq(&caller.subject),
            idempotency_keys::key.eq(&key.key),
            row,
        ))
        .on_conflict((idempotency_keys::issuer, idempotency_keys::subject, idempotency_keys::key))
        .do_update()
        .set(row)
        .execute(conn)
        .await?;
    Ok(())
}

/// Lets the key stand for the runner that replaces `old` in the same request.
pub async fn repoint(conn: &mut Conn, old: Uuid, new: Uuid) -> Result<(), Error> {
    diesel::update(idempotency_keys::table.filter(idempotency_keys::runner_id.eq(old)))
        .set(idempotency_keys::runner_id.eq(new))
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets keys that were used before `before`.
pub async fn forget(conn: &mut Conn, before: DateTime<Utc>) -> Result<usize, Error> {
    Ok(diesel::delete(idempotency_keys::table.filter(idempotency_keys::created_at.lt(before)))
        .execute(conn)
        .await?)
}
