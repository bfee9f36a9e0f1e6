//! The tables `alerts` and `alert_posts`: security events that were not posted yet, and the posts about them.
//! Transactions that record events only add rows here, so they never wait for each other; one replica at a time makes
//! the posts, one for all events that are alike.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::schema::{alert_posts, alerts};
use super::{Conn, Error};

/// The key of the advisory lock under which posts are made.
const GATHER_LOCK: i64 = 0x72_62_61_6c_65_72_74;

/// How many events become posts in one transaction; the next goes on.
const MAX_EVENTS: i64 = 50_000;

/// An event that must be posted.
#[derive(Clone, Debug, PartialEq, Eq, Insertable)]
#[diesel(table_name = alerts)]
pub struct NewAlert {
    /// The event in `audit_log`.
    pub event_id: i64,
    /// Its security type.
    pub kind: &'static str,
    /// The caller, team or address that it is about. Events of the same kind and `who` are alike.
    pub who: String,
    /// Higher values are posted first.
    pub urgency: i32,
    /// What the broker did about it.
    pub action_taken: Option<String>,
}

/// A post that was claimed: `attempts` counts this claim, too.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
#[diesel(table_name = alert_posts, check_for_backend(diesel::pg::Pg))]
pub struct Post {
    /// The id of the post, the same for each attempt.
    pub id: Uuid,
    /// How many events it is about.
    pub events: i64,
    /// The first of them.
    pub first_event_id: i64,
    /// The last of them.
    pub last_event_id: i64,
    /// What was done about every one of the events; `None` if that is not known, or not the same.
    pub action_taken: Option<String>,
    /// How often it was claimed.
    pub attempts: i32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// Adds these, in the transaction of their events.
pub async fn add(mut conn: &Conn, waiting: &[NewAlert]) -> Result<(), Error> {
    diesel::insert_into(alerts::table).values(waiting).execute(&mut conn).await?;
    Ok(())
}

/// Makes posts of the events that wait, due at once: one for all that are alike, and none for those of which one was
/// made after `quiet_since`. Call it in a transaction; does nothing while somebody else is at it.
pub async fn gather(conn: &mut Conn, now: DateTime<Utc>, quiet_since: DateTime<Utc>) -> Result<usize, Error> {
    #[derive(QueryableByName)]
    struct Lock {
        #[diesel(sql_type = Bool)]
        ours: bool,
    }
    // A statement of its own, so that those below see what its last holder committed.
    let lock =
        diesel::sql_query("SELECT pg_try_advisory_xact_lock($1) AS ours").bind::<BigInt, _>(GATHER_LOCK);
    if !lock.get_result::<Lock>(conn).await?.ours {
        return Ok(0);
    }
    let over = alert_posts::due_at.is_null().and(alert_posts::created_at.le(quiet_since));
    diesel::delete(alert_posts::table.filter(over)).execute(conn).await?;
    let ready: Vec<Alike> = diesel::sql_query(
        "SELECT kind, who FROM alerts AS a GROUP BY kind, who HAVING NOT EXISTS (
             SELECT FROM alert_posts AS p WHERE p.kind = a.kind AND p.who = a.who AND p.created_at > $1)",
    )
    .bind::<Timestamptz, _>(quiet_since)
    .load(conn)
    .await?;
    if ready.is_empty() {
        return Ok(0);
    }
    Ok(diesel::sql_query(
        "WITH taken AS (
             DELETE FROM alerts WHERE event_id IN (
                 SELECT event_id FROM alerts JOIN unnest($1, $2) AS ready (kind, who) USING (kind, who)
                 ORDER BY urgency DESC, event_id LIMIT $4)
             RETURNING *)
         INSERT INTO alert_posts (id, kind, who, urgency, events, first_event_id, last_event_id, action_taken,
             attempts, due_at, created_at)
         SELECT gen_random_uuid(), kind, who, max(urgency), count(*), min(event_id), max(event_id),
             CASE WHEN count(DISTINCT coalesce(action_taken, '')) = 1 THEN min(action_taken) END, 0, $3, $3
         FROM taken GROUP BY kind, who",
    )
    .bind::<Array<Text>, _>(ready.iter().map(|alike| alike.kind.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(ready.iter().map(|alike| alike.who.as_str()).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .bind::<BigInt, _>(MAX_EVENTS)
    .execute(conn)
    .await?)
}

#[derive(QueryableByName)]
struct Alike {
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    who: String,
}

/// Takes posts that are due: the most urgent first, and of those the longest waiting. Nobody else gets them until
/// `held_until`, without a connection or a lock being held so long.
pub async fn claim(
    conn: &mut Conn,
    now: DateTime<Utc>,
    held_until: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Post>, Error> {
    Ok(diesel::sql_query(
        "UPDATE alert_posts SET attempts = attempts + 1, due_at = $2 WHERE id IN (
             SELECT id FROM alert_posts WHERE due_at <= $1
             ORDER BY urgency DESC, due_at LIMIT $3 FOR UPDATE SKIP LOCKED)
         RETURNING id, events, first_event_id, last_event_id, action_taken, attempts, created_at",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(held_until)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// It is posted, or given up. The row stays for a while: it keeps the next of its kind from coming too soon.
pub async fn finish(conn: &mut Conn, id: Uuid) -> Result<(), Error> {
    let none: Option<DateTime<Utc>> = None;
    diesel::update(alert_posts::table.find(id)).set(alert_posts::due_at.eq(none)).execute(conn).await?;
    Ok(())
}

/// Tries again at `due_at`, unless somebody else has claimed it since, or is done with it.
pub async fn retry_at(conn: &mut Conn, post: &Post, due_at: DateTime<Utc>) -> Result<(), Error> {
    let same = alert_posts::table
        .find(post.id)
        .filter(alert_posts::attempts.eq(post.attempts))
        .filter(alert_posts::due_at.is_not_null());
    diesel::update(same).set(alert_posts::due_at.eq(due_at)).execute(conn).await?;
    Ok(())
}

/// How many posts wait, and how many events for a post to be made of them; each counted to 10,000 and no further.
pub async fn waiting(conn: &mut Conn) -> Result<(i64, i64), Error> {
    #[derive(QueryableByName)]
    struct Counts {
        #[diesel(sql_type = BigInt)]
        posts: i64,
        #[diesel(sql_type = BigInt)]
        events: i64,
    }
    let query = "SELECT
        (SELECT count(*) FROM (SELECT FROM alert_posts WHERE due_at IS NOT NULL LIMIT 10000) AS p) AS posts,
        (SELECT count(*) FROM (SELECT FROM alerts LIMIT 10000) AS a) AS events";
    let counts: Counts = diesel::sql_query(query).get_result(conn).await?;
    Ok((counts.posts, counts.events))
}
