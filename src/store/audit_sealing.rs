//! `audit_log` as the sealer and the verifier read it: which rows have no leaf and why, and every column as text,
//! exactly as Postgres has it. And the table `audit_seal`: how far the sealer is.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Double, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use super::{Conn, Error};
use crate::seal::TAMPERED;
use crate::seal::record::{Record, time};

/// The cluster at one moment.
#[derive(Clone, Debug, QueryableByName)]
pub struct Moment {
    /// All transactions below have ended.
    #[diesel(sql_type = BigInt)]
    pub xmin: i64,
    /// No transaction has this id or a greater one yet.
    #[diesel(sql_type = BigInt)]
    pub xmax: i64,
    /// By Postgres' clock.
    #[diesel(sql_type = Timestamptz)]
    pub now: DateTime<Utc>,
    /// Cluster and database.
    #[diesel(sql_type = Text)]
    pub place: String,
    /// The greatest id that an event has, of those that its sequence has given out.
    #[diesel(sql_type = BigInt)]
    pub last_id: i64,
}

/// Taken outside of a transaction that writes, which would hold itself back.
pub async fn moment(conn: &mut Conn) -> Result<Moment, Error> {
    Ok(diesel::sql_query(
        "SELECT pg_snapshot_xmin(s)::text::bigint AS xmin, pg_snapshot_xmax(s)::text::bigint AS xmax,
                clock_timestamp() AS now,
                (SELECT system_identifier::text FROM pg_control_system()) || '/' ||
                    (SELECT oid::text FROM pg_database WHERE datname = current_database()) AS place,
                least(coalesce((SELECT max(id) FROM audit_log), 0),
                      coalesce(pg_sequence_last_value('audit_log_id_seq'), 0)) AS last_id
         FROM pg_current_snapshot() s",
    )
    .get_result(conn)
    .await?)
}

/// How far the sealer is; `horizon_time` is `None` until it has been at it for a while.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Horizon {
    /// Cluster and database, as [`Moment::place`].
    #[diesel(sql_type = Text)]
    pub place: String,
    /// Every event with this id or a smaller one has its leaf.
    #[diesel(sql_type = BigInt)]
    pub horizon_id: i64,
    /// All transactions below have ended and are sealed.
    #[diesel(sql_type = BigInt)]
    pub horizon_xid: i64,
    /// Transactions that are not sealed began after it.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub horizon_time: Option<DateTime<Utc>>,
}

/// Reads the sealer's position. `None`: it has never run.
pub async fn horizon(conn: &mut Conn) -> Result<Option<Horizon>, Error> {
    let query = "SELECT place, horizon_id, horizon_xid, horizon_time FROM audit_seal";
    Ok(diesel::sql_query(query).get_result(conn).await.optional()?)
}

/// Writes the sealer's position.
pub async fn set_horizon(conn: &mut Conn, horizon: &Horizon) -> Result<(), Error> {
    diesel::sql_query(
        "INSERT INTO audit_seal (place, horizon_id, horizon_xid, horizon_time) VALUES ($1, $2, $3, $4)
         ON CONFLICT (single) DO UPDATE SET place = excluded.place, horizon_id = excluded.horizon_id,
             horizon_xid = excluded.horizon_xid, horizon_time = excluded.horizon_time",
    )
    .bind::<Text, _>(&horizon.place)
    .bind::<BigInt, _>(horizon.horizon_id)
    .bind::<BigInt, _>(horizon.horizon_xid)
    .bind::<Nullable<Timestamptz>, _>(horizon.horizon_time)
    .execute(conn)
    .await?;
    Ok(())
}

/// A row of the log as the sealer decides about it.
#[derive(Clone, Debug, QueryableByName)]
pub struct Row {
    /// The id of the event.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// The transaction that wrote it.
    #[diesel(sql_type = BigInt)]
    pub xid: i64,
    /// Whether it is sealed.
    #[diesel(sql_type = Bool)]
    pub has_leaf: bool,
    /// Its transaction ended before any that is under way.
    #[diesel(sql_type = Bool)]
    pub is_settled: bool,
    /// Its transaction is yet to come, in this cluster.
    #[diesel(sql_type = Bool)]
    pub is_ahead: bool,
    /// The sequence has not come to this id.
    #[diesel(sql_type = Bool)]
    pub is_beyond: bool,
    /// Its time. `None`: infinite, which no honest row is.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub at: Option<DateTime<Utc>>,
}

/// Rows with a greater id, in their order.
pub async fn rows_after(conn: &mut Conn, id: i64, limit: i64) -> Result<Vec<Row>, Error> {
    // The snapshot is the statement's own, the sequence is read after it: what it shows beyond them is not honest.
    Ok(diesel::sql_query(
        "SELECT l.id, l.xid::text::bigint AS xid, t.event_id IS NOT NULL AS has_leaf,
                l.xid < pg_snapshot_xmin(s) AS is_settled, l.xid >= pg_snapshot_xmax(s) AS is_ahead,
                l.id > (SELECT coalesce(pg_sequence_last_value('audit_log_id_seq'), 0)) AS is_beyond,
                CASE WHEN isfinite(l.\"timestamp\") THEN l.\"timestamp\" END AS at
         FROM (SELECT id, xid, \"timestamp\" FROM audit_log WHERE id > $1 ORDER BY id LIMIT $2) l
         CROSS JOIN pg_current_snapshot() s
         LEFT JOIN audit_tree t ON t.event_id = l.id
         ORDER BY l.id",
    )
    .bind::<BigInt, _>(id)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// The columns of these events as texts, in the order of their ids. A column that is missing here would be missing in
/// [`Record`], and the row would not be read.
pub async fn records(conn: &mut Conn, ids: &[i64]) -> Result<Vec<(i64, Record)>, Error> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Text)]
        texts: String,
    }
    // The session is in UTC and ISO's date style, so a time has one spelling.
    let rows: Vec<Row> = diesel::sql_query(
        "SELECT l.id, row_to_json(t)::text AS texts FROM audit_log l CROSS JOIN LATERAL (
             SELECT l.id::text AS id, l.xid::text AS xid, coalesce(l.\"timestamp\"::text, '') AS timestamp,
                 l.event_type, l.severity, l.success, l.user_identity, l.issuer, l.subject, l.team,
                 l.runner_id::text AS runner_id, l.runner_name, l.target, l.request_id, l.request_ip, l.user_agent,
                 l.policy_rule, coalesce(l.event_data::text, '') AS event_data, l.error_code, l.error_message) t
         WHERE l.id = ANY($1) ORDER BY l.id",
    )
    .bind::<Array<BigInt>, _>(ids)
    .load(conn)
    .await?;
    let record = |row: Row| {
        let read: Result<Record, _> = serde_json::from_str(&row.texts);
        let record = read.map_err(|err| Error::Row(format!("event {}: {err}", row.id)))?;
        Ok((row.id, Record { timestamp: time(&record.timestamp), ..record }))
    };
    rows.into_iter().map(record).collect()
}

#[derive(QueryableByName)]
struct Data {
    #[diesel(sql_type = Text)]
    data: String,
}

/// The `event_data` of all the sealer's reports, whatever the database's functions and indexes say of them.
pub async fn reports(conn: &mut Conn) -> Result<Vec<String>, Error> {
    let query = "SELECT event_data::text AS data FROM audit_log WHERE event_type = $1";
    let rows: Vec<Data> = diesel::sql_query(query).bind::<Text, _>(TAMPERED).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.data).collect())
}

/// The same by an index.
pub async fn indexed_reports(conn: &mut Conn) -> Result<Vec<String>, Error> {
    let query = "SELECT event_data::text AS data FROM audit_log
                 WHERE audit_security_type(event_type, error_code) = $1";
    let rows: Vec<Data> = diesel::sql_query(query).bind::<Text, _>(TAMPERED).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.data).collect())
}

/// Of the next `limit` rows after `id`, up to `until`, those without a leaf; and the id of the last one that was
/// looked at, `None` at the end.
pub async fn leafless(
    conn: &mut Conn,
    id: i64,
    until: i64,
    limit: i64,
) -> Result<(Vec<i64>, Option<i64>), Error> {
    #[derive(QueryableByName)]
    struct Looked {
        #[diesel(sql_type = Nullable<BigInt>)]
        last: Option<i64>,
        #[diesel(sql_type = BigInt)]
        count: i64,
        #[diesel(sql_type = Array<BigInt>)]
        bare: Vec<i64>,
    }
    let looked: Looked = diesel::sql_query(
        "SELECT max(l.id) AS last, count(*) AS count,
                coalesce(array_agg(l.id ORDER BY l.id) FILTER (WHERE t.event_id IS NULL), '{}') AS bare
         FROM (SELECT id FROM audit_log WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3) l
         LEFT JOIN audit_tree t ON t.event_id = l.id",
    )
    .bind::<BigInt, _>(id)
    .bind::<BigInt, _>(until)
    .bind::<BigInt, _>(limit)
    .get_result(conn)
    .await?;
    Ok((looked.bare, looked.last.filter(|_| looked.count == limit)))
}

/// What waits for the sealer: how many events (at most 10,000 are counted) and the age of the oldest, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, QueryableByName)]
pub struct Lag {
    /// At most 10,000.
    #[diesel(sql_type = BigInt)]
    pub events: i64,
    /// The age of the oldest; 0 if there is none.
    #[diesel(sql_type = Double)]
    pub seconds: f64,
}

/// Counts the events after this id that have no leaf.
pub async fn lag(conn: &mut Conn, after: i64) -> Result<Lag, Error> {
    Ok(diesel::sql_query(
        "SELECT count(*) AS events,
                greatest(coalesce(extract(epoch FROM clock_timestamp() - min(w.at)), 0), 0)::float8 AS seconds
         FROM (SELECT l.\"timestamp\" AS at FROM audit_log l
               WHERE l.id > $1 AND isfinite(l.\"timestamp\")
                 AND NOT EXISTS (SELECT 1 FROM audit_tree t WHERE t.event_id = l.id)
               LIMIT 10000) w",
    )
    .bind::<BigInt, _>(after)
    .get_result(conn)
    .await?)
}

/// The transaction that holds the sealer back, in whichever database of the cluster.
#[derive(Clone, Debug, QueryableByName)]
pub struct Blocker {
    /// For people: its process and database.
    #[diesel(sql_type = Text)]
    pub what: String,
}

/// The oldest transaction that is under way, if any.
pub async fn blocker(conn: &mut Conn) -> Result<Option<Blocker>, Error> {
    Ok(diesel::sql_query(
        "SELECT what FROM (
             SELECT format('process %s in database %s, transaction %s', pid, datname, backend_xid) AS what,
                    backend_xid AS xid
             FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
             UNION ALL
             SELECT format('prepared transaction %s in database %s', gid, database), transaction
             FROM pg_prepared_xacts) held
         ORDER BY age(xid) DESC LIMIT 1",
    )
    .get_result(conn)
    .await
    .optional()?)
}
