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
    /// The key: a hash of the cookie.
    pub token_sha256: String,
    identity_sha256: String,
    /// The id of the provider.
    pub provider: String,
    /// The issuer of the caller's token.
    pub issuer: String,
    /// The subject of the caller's token.
    pub subject: String,
    /// A name for people.
    pub display_name: String,
    /// A JSON object: the claims that the provider sent.
    pub claims: Value,
    /// When they signed in.
    pub created_at: DateTime<Utc>,
    /// The last use that was noted.
    pub last_seen_at: DateTime<Utc>,
}

/// A sign-in: who, by which provider, and with which claims.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The id of the provider.
    pub provider: String,
    /// The issuer of the caller's token.
    pub issuer: String,
    /// The subject of the caller's token.
    pub subject: String,
    /// A name for people.
    pub display_name: String,
    /// A JSON object: the claims that the provider sent.
    pub claims: Value,
}

/// Begins a session.
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

/// The session with this hash.
pub async fn find(conn: &mut Conn, token_sha256: &str) -> Result<Option<Session>, Error> {
    let session = sessions::table.find(token_sha256).select(Session::as_select());
    Ok(session.first(conn).await.optional()?)
}

/// The sessions with these hashes.
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

/// Ends all but the newest `most` sessions of an identity. Transactions that do so for the same identity take turns.
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

/// Ends all sessions of an identity.
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
