//! The table `leases`: what only one replica may do. Expiry goes by Postgres' clock, so that no replica's
//! own clock matters; the epoch grows with each new holder.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Double, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Conn, Error};

/// A lease that was held when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Of what it is the lease.
    pub name: &'static str,
    /// The replica that holds it.
    pub holder: Uuid,
    /// Grows with each new holder.
    pub epoch: i64,
}

#[derive(QueryableByName)]
struct Epoch {
    #[diesel(sql_type = BigInt)]
    epoch: i64,
}

/// Takes the lease if it is free or expired, or prolongs it if `holder` has it. `None`: another has it.
pub async fn acquire(
    conn: &mut Conn,
    name: &'static str,
    holder: Uuid,
    span: Duration,
) -> Result<Option<Lease>, Error> {
    let row: Option<Epoch> = diesel::sql_query(
        "INSERT INTO leases (name, holder, epoch, expires_at)
         VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
         ON CONFLICT (name) DO UPDATE SET
             holder = excluded.holder,
             epoch = leases.epoch + CASE WHEN leases.holder = excluded.holder
                 AND leases.expires_at > clock_timestamp() THEN 0 ELSE 1 END,
             expires_at = clock_timestamp() + make_interval(secs => $3)
         WHERE leases.holder = excluded.holder OR leases.expires_at <= clock_timestamp()
         RETURNING epoch",
    )
    .bind::<Text, _>(name)
    .bind::<SqlUuid, _>(holder)
    .bind::<Double, _>(span.as_secs_f64())
    .get_result(conn)
    .await
    .optional()?;
    Ok(row.map(|row| Lease { name, holder, epoch: row.epoch }))
}

/// Whether the lease still stands, and keeps it so until the transaction ends: a successor's `acquire`
/// waits for this row. The first statement of everything that a leader writes.
pub async fn hold(conn: &mut Conn, lease: &Lease) -> Result<bool, Error> {
    let row: Option<Epoch> = diesel::sql_query(
        "SELECT epoch FROM leases
         WHERE name = $1 AND holder = $2 AND epoch = $3 AND expires_at > clock_timestamp() FOR SHARE",
    )
    .bind::<Text, _>(lease.name)
    .bind::<SqlUuid, _>(lease.holder)
    .bind::<BigInt, _>(lease.epoch)
    .get_result(conn)
    .await
    .optional()?;
    Ok(row.is_some())
}

/// How long the lease still stands, by Postgres' clock; `None`: it is lost. For what cannot be fenced: anybody who
/// counts from before this question may go on for so long.
pub async fn remaining(conn: &mut Conn, lease: &Lease) -> Result<Option<Duration>, Error> {
    #[derive(QueryableByName)]
    struct Left {
        #[diesel(sql_type = Double)]
        seconds: f64,
    }
    let row: Option<Left> = diesel::sql_query(
        "SELECT extract(epoch FROM expires_at - clock_timestamp())::float8 AS seconds FROM leases
         WHERE name = $1 AND holder = $2 AND epoch = $3 AND expires_at > clock_timestamp()",
    )
    .bind::<Text, _>(lease.name)
    .bind::<SqlUuid, _>(lease.holder)
    .bind::<BigInt, _>(lease.epoch)
    .get_result(conn)
    .await
    .optional()?;
    Ok(row.map(|left| Duration::from_secs_f64(left.seconds.max(0.0))))
}

/// Gives the lease up, so that a successor need not wait for its end.
pub async fn release(conn: &mut Conn, lease: &Lease) -> Result<(), Error> {
    diesel::sql_query(
        "UPDATE leases SET expires_at = clock_timestamp() WHERE name = $1 AND holder = $2 AND epoch = $3",
    )
    .bind::<Text, _>(lease.name)
    .bind::<SqlUuid, _>(lease.holder)
    .bind::<BigInt, _>(lease.epoch)
    .execute(conn)
    .await?;
    Ok(())
}

/// A lease as the table has it.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Held {
    /// The replica that holds it.
    #[diesel(sql_type = SqlUuid)]
    pub holder: Uuid,
    /// Grows with each new holder.
    #[diesel(sql_type = BigInt)]
    pub epoch: i64,
    /// By Postgres' clock.
    #[diesel(sql_type = Timestamptz)]
    pub expires_at: DateTime<Utc>,
    /// Whether it still stands, by Postgres' clock.
    #[diesel(sql_type = Bool)]
    pub stands: bool,
}

/// Who had it last. `None`: nobody ever had.
pub async fn held(conn: &mut Conn, name: &str) -> Result<Option<Held>, Error> {
    Ok(diesel::sql_query(
        "SELECT holder, epoch, expires_at, expires_at > clock_timestamp() AS stands
         FROM leases WHERE name = $1",
    )
    .bind::<Text, _>(name)
    .get_result(conn)
    .await
    .optional()?)
}
