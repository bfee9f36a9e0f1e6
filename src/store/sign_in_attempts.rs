//! The table `sign_in_attempts`: recent attempts to sign in, by network.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Int4, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use super::schema::sign_in_attempts;
use super::{Conn, Error};

/// What a network has used up since `began_at`.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Attempts {
    /// In this window.
    #[diesel(sql_type = Int4)]
    pub count: i32,
    /// When the window began.
    #[diesel(sql_type = Timestamptz)]
    pub began_at: DateTime<Utc>,
}

/// Counts one more, but never beyond `most`; a window that began before `since` is over, and a new one begins.
pub async fn count(
    conn: &mut Conn,
    network: &str,
    step: &str,
    now: DateTime<Utc>,
    since: DateTime<Utc>,
    most: i32,
) -> Result<Attempts, Error> {
    Ok(diesel::sql_query(
        "INSERT INTO sign_in_attempts AS a (network, step, count, began_at) VALUES ($1, $2, 1, $3)
         ON CONFLICT (network, step) DO UPDATE SET
             count = CASE WHEN a.began_at <= $4 THEN 1 ELSE least(a.count + 1, $5) END,
             began_at = CASE WHEN a.began_at <= $4 THEN $3 ELSE a.began_at END
         RETURNING count, began_at",
    )
    .bind::<Text, _>(network)
    .bind::<Text, _>(step)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(since)
    .bind::<Int4, _>(most)
    .get_result(conn)
    .await?)
}

/// Takes one attempt back of each step, after a successful sign-in.
pub async fn take_back(conn: &mut Conn, network: &str) -> Result<(), Error> {
    // Locked in one order, so that two who sign in at once only wait for each other.
    diesel::sql_query(
        "UPDATE sign_in_attempts AS a SET count = a.count - 1
         FROM (SELECT network, step FROM sign_in_attempts WHERE network = $1 AND count > 0
               ORDER BY step FOR UPDATE) AS counted
         WHERE a.network = counted.network AND a.step = counted.step",
    )
    .bind::<Text, _>(network)
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets windows that began before this.
pub async fn purge(conn: &mut Conn, before: DateTime<Utc>) -> Result<usize, Error> {
    let old = sign_in_attempts::table.filter(sign_in_attempts::began_at.lt(before));
    Ok(diesel::delete(old).execute(conn).await?)
}
