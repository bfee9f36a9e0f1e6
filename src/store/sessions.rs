//! The table `sessions`: who is signed in to the console.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::identities::sha256;
use super::schema::sessions;
use super::{Conn, Error};

/// A row.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = sessions, check_for_backend(Pg))]
pub struct Session {
    pub token_sha256: String,
    identity_sha256: String,
    pub provider: String,
    pub issuer: String,
    pub subject: String,
    pub display_name: String,
    pub claims: Value,
    pub created_at: DateTime<Utc>,
    pub last_seen_at: DateTime<Utc>,
}

/// Who signed in, by which provider, and what it said of him.
#[derive(Clone, Debug)]
pub struct SignedIn {
    pub provider: String,
    pub issuer: String,
    pub subject: String,
    pub display_name: String,
    pub claims: Value,
}

pub async fn add(
    conn: &mut Conn,
    token_sha256: String,
    who: SignedIn,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let session = Session {
        token_sha256,
        identity_sha256: sha256(&who.issuer, &who.subject),
        provider: who.provider,
        issuer: who.issuer,
        subject: who.subject,
        display_name: who.display_name,
        claims: who.claims,
        created_at: now,
        last_seen_at: now,
    };
    diesel::insert_into(sessions::table).values(session).execute(conn).await?;
    Ok(())
}

pub async fn find(conn: &mut Conn, token_sha256: &str) -> Result<Option<Session>, Error> {
    let session = sessions::table.find(token_sha256).select(Session::as_select());
    Ok(session.first(conn).await.optional()?)
}

/// Those of these that there are.
pub async fn some(conn: &mut Conn, token_sha256s: &[String]) -> Result<Vec<Session>, Error> {
    let some = sessions::table.filter(sessions::token_sha256.eq_any(token_sha256s));
    Ok(some.select(Session::as_select()).load(conn).await?)
}

/// Notes that a session is in use.
pub async fn touch(conn: &mut Conn, token_sha256: &str, now: DateTime<Utc>) -> Result<(), Error> {
    let session = sessions::table.find(token_sha256).filter(sessions::last_seen_at.lt(now));
    diesel::update(session).set(sessions::last_seen_at.eq(now)).execute(conn).await?;
    Ok(())
}

/// Ends one session; whether there was one.
pub async fn remove(conn: &mut Conn, token_sha256: &str) -> Result<bool, Error> {
    Ok(diesel::delete(sessions::table.find(token_sha256)).execute(conn).await? > 0)
}

/// Ends all but so many of somebody's sessions, the oldest first. Two who sign in as him at once take turns until
/// their transactions end.
pub async fn keep_newest(conn: &mut Conn, issuer: &str, subject: &str, most: i64) -> Result<(), Error> {
    let key = sha256(issuer, subject);
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended($1, 1))")
        .bind::<diesel::sql_types::Text, _>(&key)
        .execute(conn)
        .await?;
    let kept = sessions::table
        .filter(sessions::identity_sha256.eq(&key))
        .order((sessions::created_at.desc(), sessions::token_sha256))
        .limit(most)
        .select(sessions::token_sha256)
        .load::<String>(conn)
        .await?;
    let others = sessions::identity_sha256.eq(&key).and(sessions::token_sha256.ne_all(kept));
    diesel::delete(sessions::table.filter(others)).execute(conn).await?;
    Ok(())
}

/// Ends all sessions of somebody.
pub async fn remove_all_of(conn: &mut Conn, issuer: &str, subject: &str) -> Result<usize, Error> {
    let all = sessions::table.filter(sessions::identity_sha256.eq(sha256(issuer, subject)));
    Ok(diesel::delete(all).execute(conn).await?)
}

/// Forgets those that began or were used too long ago.
pub async fn purge(
    conn: &mut Conn,
    created_before: DateTime<Utc>,
    seen_before: DateTime<Utc>,
) -> Result<usize, Error> {
    let old = sessions::created_at.lt(created_before).or(sessions::last_seen_at.lt(seen_before));
    Ok(diesel::delete(sessions::table.filter(old)).execute(conn).await?)
}
