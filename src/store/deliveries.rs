//! The tables `webhook_deliveries` and `webhook_redeliveries`: what GitHub delivered and is not processed yet, and what
//! it was asked to deliver again. Contents are opaque here.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Jsonb, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::schema::{webhook_deliveries as deliveries, webhook_listings, webhook_redeliveries};
use super::{Conn, Error};

/// A delivery to keep.
#[derive(Debug)]
pub struct NewDelivery<'a> {
    /// GitHub's GUID of the delivery (`X-GitHub-Delivery`).
    pub id: &'a str,
    /// `X-GitHub-Event`.
    pub event: &'a str,
    /// The queue that it goes into.
    pub lane: &'static str,
    /// What is kept of the payload.
    pub content: &'a Value,
    /// When it was received.
    pub now: DateTime<Utc>,
}

/// A delivery that is claimed.
#[derive(Clone, Debug, QueryableByName)]
#[diesel(check_for_backend(Pg))]
pub struct Delivery {
    /// GitHub's GUID of the delivery.
    #[diesel(sql_type = Text)]
    pub id: String,
    /// `X-GitHub-Event`.
    #[diesel(sql_type = Text)]
    pub event: String,
    /// As [`NewDelivery::content`].
    #[diesel(sql_type = Jsonb)]
    pub content: Value,
    /// When it was received.
    #[diesel(sql_type = Timestamptz)]
    pub received_at: DateTime<Utc>,
    /// This one included.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
}

/// Keeps a delivery. `false`: it is there already. A dead letter is
/// processed again: GitHub was asked to send it once more.
pub async fn keep(conn: &mut Conn, new: &NewDelivery<'_>) -> Result<bool, Error> {
    // A text that never changes, so that it is prepared once: a thousand of these come in a second.
    struct Keep<'a>(&'a NewDelivery<'a>);
    impl diesel::query_builder::QueryId for Keep<'_> {
        type QueryId = Keep<'static>;
        const HAS_STATIC_QUERY_ID: bool = true;
    }
    impl diesel::query_builder::QueryFragment<Pg> for Keep<'_> {
        fn walk_ast<'b>(&'b self, mut out: diesel::query_builder::AstPass<'_, 'b, Pg>) -> QueryResult<()> {
            let NewDelivery { id, event, lane, content, now } = self.0;
            out.push_sql("INSERT INTO webhook_deliveries (id, event, lane, content, received_at, next_attempt_at) VALUES (");
            out.push_bind_param::<Text, _>(*id)?;
            out.push_sql(", ");
            out.push_bind_param::<Text, _>(*event)?;
            out.push_sql(", ");
            out.push_bind_param::<Text, _>(*lane)?;
            out.push_sql(", ");
            out.push_bind_param::<Jsonb, _>(*content)?;
            out.push_sql(", ");
            out.push_bind_param::<Timestamptz, _>(now)?;
            out.push_sql(", ");
            out.push_bind_param::<Timestamptz, _>(now)?;
            out.push_sql(
                ") ON CONFLICT (id) DO UPDATE SET finished_at = NULL, failure = NULL, attempts = 0, \
                 next_attempt_at = excluded.next_attempt_at \
                 WHERE webhook_deliveries.finished_at IS NOT NULL AND webhook_deliveries.failure IS NOT NULL",
            );
            Ok(())
        }
    }
    Ok(Keep(new).execute(conn).await? == 1)
}

/// Claims at most `limit` deliveries that are due in a lane, the longest waiting first. No other replica claims them
/// before `until`; those that another replica is claiming now are skipped.
pub async fn claim(
    conn: &mut Conn,
    lane: &str,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Delivery>, Error> {
    Ok(diesel::sql_query(
        "UPDATE webhook_deliveries SET next_attempt_at = $3, attempts = attempts + 1
         WHERE id IN (SELECT id FROM webhook_deliveries
             WHERE finished_at IS NULL AND lane = $1 AND next_attempt_at <= $2
             ORDER BY next_attempt_at LIMIT $4 FOR UPDATE SKIP LOCKED)
         RETURNING id, event, content, received_at, attempts",
    )
    .bind::<Text, _>(lane)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(until)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// Marks these as processed; how many were not before.
pub async fn finish(conn: &mut Conn, ids: &[&str], now: DateTime<Utc>) -> Result<usize, Error> {
    Ok(diesel::update(
        deliveries::table.filter(deliveries::id.eq_any(ids)).filter(deliveries::finished_at.is_null()),
    )
    .set((deliveries::finished_at.eq(now), deliveries::failure.eq(None::<String>)))
    .execute(conn)
    .await?)
}

/// Whether a delivery is due in a lane.
pub async fn is_due(conn: &mut Conn, lane: &str, now: DateTime<Utc>) -> Result<bool, Error> {
    let due = deliveries::table
        .filter(deliveries::finished_at.is_null())
        .filter(deliveries::lane.eq(lane))
        .filter(deliveries::next_attempt_at.le(now));
    Ok(diesel::select(diesel::dsl::exists(due)).get_result(conn).await?)
}

/// Moves these to another lane, as if they had just been received.
pub async fn move_to_lane(
    conn: &mut Conn,
    ids: &[&str],
    lane: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    diesel::update(
        deliveries::table.filter(deliveries::id.eq_any(ids)).filter(deliveries::finished_at.is_null()),
    )
    .set((deliveries::lane.eq(lane), deliveries::attempts.eq(0), deliveries::next_attempt_at.eq(now)))
    .execute(conn)
    .await?;
    Ok(())
}

/// Puts a delivery off until `next` because it could not be tried. Does not count as an attempt.
pub async fn defer(conn: &mut Conn, id: &str, why: &str, next: DateTime<Utc>) -> Result<(), Error> {
    diesel::update(deliveries::table.filter(deliveries::id.eq(id)).filter(deliveries::finished_at.is_null()))
        .set((
            deliveries::next_attempt_at.eq(next),
            deliveries::failure.eq(why),
            deliveries::attempts.eq(deliveries::attempts - 1),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes a failed attempt; the next one is at `next`.
pub async fn retry_at(conn: &mut Conn, id: &str, why: &str, next: DateTime<Utc>) -> Result<(), Error> {
    diesel::update(deliveries::table.filter(deliveries::id.eq(id)).filter(deliveries::finished_at.is_null()))
        .set((deliveries::next_attempt_at.eq(next), deliveries::failure.eq(why)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Makes the delivery a dead letter, which is not tried again. `false`: another replica has finished it meanwhile.
pub async fn dead_letter(conn: &mut Conn, id: &str, why: &str, now: DateTime<Utc>) -> Result<bool, Error> {
    let changed = diesel::update(
        deliveries::table.filter(deliveries::id.eq(id)).filter(deliveries::finished_at.is_null()),
    )
    .set((deliveries::finished_at.eq(now), deliveries::failure.eq(why)))
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// How many wait to be processed, counted to `most` and no further.
pub async fn backlog(conn: &mut Conn, most: i64) -> Result<i64, Error> {
    let ids: Vec<String> = deliveries::table
        .filter(deliveries::finished_at.is_null())
        .select(deliveries::id)
        .limit(most)
        .load(conn)
        .await?;
    Ok(ids.len() as i64)
}

/// A delivery that was processed.
#[derive(Clone, Debug, QueryableByName)]
#[diesel(check_for_backend(Pg))]
pub struct Finished {
    /// `X-GitHub-Event`.
    #[diesel(sql_type = Text)]
    pub event: String,
    /// When it was received.
    #[diesel(sql_type = Timestamptz)]
    pub received_at: DateTime<Utc>,
}

/// The one that was finished last.
pub async fn latest(conn: &mut Conn) -> Result<Option<Finished>, Error> {
    let query = "SELECT event, received_at FROM webhook_deliveries
                 WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT 1";
    Ok(diesel::sql_query(query).get_result(conn).await.optional()?)
}

/// Forgets what was finished before, at most `limit`; how many.
pub async fn forget(conn: &mut Conn, before: DateTime<Utc>, limit: i64) -> Result<usize, Error> {
    diesel::delete(webhook_redeliveries::table.filter(webhook_redeliveries::requested_at.lt(before)))
        .execute(conn)
        .await?;
    Ok(diesel::sql_query(
        "DELETE FROM webhook_deliveries WHERE id IN
            (SELECT id FROM webhook_deliveries WHERE finished_at < $1 ORDER BY finished_at LIMIT $2)",
    )
    .bind::<Timestamptz, _>(before)
    .bind::<BigInt, _>(limit)
    .execute(conn)
    .await?)
}

/// Those of these ids that were received.
pub async fn known(conn: &mut Conn, ids: &[&str]) -> Result<Vec<String>, Error> {
    Ok(deliveries::table.filter(deliveries::id.eq_any(ids)).select(deliveries::id).load(conn).await?)
}

/// Whether to ask GitHub now to send a failed delivery again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redelivery {
    /// Yes: we claimed it.
    Claimed,
    /// No: it was asked for not long ago.
    NotYet,
    /// No: it was asked for often enough. It is given up now.
    GaveUp,
    /// No: it was given up earlier.
    GivenUp,
}

/// Takes it on to have a failed delivery sent again. A failure is answered after growing pauses: the
/// `pauses[n - 1]` minutes after the n-th request; as many requests as there are pauses, and not one more.
pub async fn claim_redelivery(
    conn: &mut Conn,
    guid: &str,
    delivery_id: i64,
    pauses: &[i32],
    now: DateTime<Utc>,
) -> Result<Redelivery, Error> {
    let claimed = diesel::sql_query(
        "INSERT INTO webhook_redeliveries AS r (guid, delivery_id, attempts, requested_at) VALUES ($1, $2, 1, $3)
         ON CONFLICT (guid) DO UPDATE SET delivery_id = excluded.delivery_id, requested_at = excluded.requested_at,
             attempts = r.attempts + 1
         WHERE r.attempts < cardinality($4) AND (r.delivery_id = 0
             OR r.requested_at + ($4)[r.attempts] * interval '1 minute' <= excluded.requested_at)",
    )
    .bind::<Text, _>(guid)
    .bind::<BigInt, _>(delivery_id)
    .bind::<Timestamptz, _>(now)
    .bind::<Array<Integer>, _>(pauses)
    .execute(conn)
    .await?;
    if claimed == 1 {
        return Ok(Redelivery::Claimed);
    }
    let gave_up = diesel::sql_query(
        "UPDATE webhook_redeliveries SET given_up_at = $2
         WHERE guid = $1 AND given_up_at IS NULL AND attempts >= cardinality($3)
           AND requested_at + ($3)[cardinality($3)] * interval '1 minute' <= $2",
    )
    .bind::<Text, _>(guid)
    .bind::<Timestamptz, _>(now)
    .bind::<Array<Integer>, _>(pauses)
    .execute(conn)
    .await?;
    if gave_up == 1 {
        return Ok(Redelivery::GaveUp);
    }
    let given_up: Option<DateTime<Utc>> =
        webhook_redeliveries::table.find(guid).select(webhook_redeliveries::given_up_at).first(conn).await?;
    Ok(if given_up.is_some() { Redelivery::GivenUp } else { Redelivery::NotYet })
}

/// Gives the claim back, if the request was not made: the next listing may claim it again.
pub async fn release_redelivery(conn: &mut Conn, guid: &str) -> Result<(), Error> {
    diesel::update(webhook_redeliveries::table.filter(webhook_redeliveries::guid.eq(guid)))
        .set((
            webhook_redeliveries::delivery_id.eq(0),
            webhook_redeliveries::attempts.eq(webhook_redeliveries::attempts - 1),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

const FAILED: &str = "failed";

/// Up to when failed deliveries have been listed and answered.
pub async fn listed_until(conn: &mut Conn) -> Result<Option<DateTime<Utc>>, Error> {
    Ok(webhook_listings::table
        .find(FAILED)
        .select(webhook_listings::listed_until)
        .first(conn)
        .await
        .optional()?)
}

/// Notes that failed deliveries up to this time were listed and answered.
pub async fn note_listing(conn: &mut Conn, until: DateTime<Utc>) -> Result<(), Error> {
    diesel::insert_into(webhook_listings::table)
        .values((webhook_listings::name.eq(FAILED), webhook_listings::listed_until.eq(until)))
        .on_conflict(webhook_listings::name)
        .do_update()
        .set(webhook_listings::listed_until.eq(until))
        .execute(conn)
        .await?;
    Ok(())
}
