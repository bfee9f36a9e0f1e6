//! The table `alerts`: what is still to be posted. A row lives from the transaction of its event until it is
//! posted or given up.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Timestamptz};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::schema::alerts;
use super::{Conn, Error};

/// One that was claimed: `attempts` counts this claim, too.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
#[diesel(table_name = alerts, check_for_backend(diesel::pg::Pg))]
pub struct Alert {
    pub id: Uuid,
    pub event_id: i64,
    pub attempts: i32,
    pub created_at: DateTime<Utc>,
}

/// Adds one for each of these events, due at once.
pub async fn add(conn: &mut Conn, events: &[i64], now: DateTime<Utc>) -> Result<(), Error> {
    let rows: Vec<_> = events
        .iter()
        .map(|event| {
            (
                alerts::id.eq(Uuid::now_v7()),
                alerts::event_id.eq(event),
                alerts::attempts.eq(0),
                alerts::due_at.eq(now),
                alerts::created_at.eq(now),
            )
        })
        .collect();
    diesel::insert_into(alerts::table).values(rows).execute(conn).await?;
    Ok(())
}

/// Takes what is due, the longest waiting first. Nobody else gets it until `held_until`, without a connection
/// or a lock being held so long.
pub async fn claim(
    conn: &mut Conn,
    now: DateTime<Utc>,
    held_until: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Alert>, Error> {
    Ok(diesel::sql_query(
        "UPDATE alerts SET attempts = attempts + 1, due_at = $2 WHERE id IN (
             SELECT id FROM alerts WHERE due_at <= $1 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED)
         RETURNING id, event_id, attempts, created_at",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(held_until)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// It is posted, or given up.
pub async fn remove(conn: &mut Conn, id: Uuid) -> Result<(), Error> {
    diesel::delete(alerts::table.find(id)).execute(conn).await?;
    Ok(())
}

/// Tries again at `due_at`, unless somebody else has claimed it since.
pub async fn put_off(conn: &mut Conn, alert: &Alert, due_at: DateTime<Utc>) -> Result<(), Error> {
    let same = alerts::table.find(alert.id).filter(alerts::attempts.eq(alert.attempts));
    diesel::update(same).set(alerts::due_at.eq(due_at)).execute(conn).await?;
    Ok(())
}

/// How many wait, counted to 10,000 and no further.
pub async fn waiting(conn: &mut Conn) -> Result<i64, Error> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let query = "SELECT count(*) AS count FROM (SELECT 1 FROM alerts LIMIT 10000) AS counted";
    Ok(diesel::sql_query(query).get_result::<Count>(conn).await?.count)
}
