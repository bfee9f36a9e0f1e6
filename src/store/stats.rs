//! Counts over `runners` and `audit_log`, from their indexes as far as they go.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::runners::LIVE;
use super::{Conn, Error};
use crate::model::{Method, Status, Target};

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// As `runners::count_for_quota`, for many teams at once; who has none is left out.
pub async fn counted_for_quota(
    conn: &mut Conn,
    teams: &[String],
    now: DateTime<Utc>,
) -> Result<HashMap<String, i64>, Error> {
    let query = format!(
        "SELECT team AS name, sum(count)::bigint AS count FROM (
             SELECT team, count(*) FROM runners WHERE {LIVE} AND team = ANY($1) GROUP BY team
             UNION ALL
             SELECT team, count(*) FROM runners WHERE method = 'registration_token'
                 AND status IN ('deleted', 'failed') AND team = ANY($1) AND expires_at > $2 GROUP BY team
         ) AS counts GROUP BY team"
    );
    let rows: Vec<Named> =
        diesel::sql_query(query).bind::<Array<Text>, _>(teams).bind::<Timestamptz, _>(now).load(conn).await?;
    Ok(rows.into_iter().map(|row| (row.name, row.count)).collect())
}

/// Live runners of a team that are alike in what a policy decides on.
#[derive(Clone, Debug)]
pub struct LiveKind {
    /// Lower-cased.
    pub labels: Vec<String>,
    /// The organisation or repository.
    pub target: Target,
    /// How they were registered.
    pub method: Method,
    /// How many there are.
    pub runners: i64,
    /// Ids and names of the newest.
    pub newest: Vec<(Uuid, String)>,
}

/// All live runners of a team by kind, of each kind `named` by name.
pub async fn live_kinds(conn: &mut Conn, team: &str, named: i32) -> Result<Vec<LiveKind>, Error> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Array<Text>)]
        labels: Vec<String>,
        #[diesel(sql_type = Text)]
        target: String,
        #[diesel(sql_type = Text)]
        method: String,
        #[diesel(sql_type = BigInt)]
        runners: i64,
        #[diesel(sql_type = Array<SqlUuid>)]
        ids: Vec<Uuid>,
        #[diesel(sql_type = Array<Text>)]
        names: Vec<String>,
    }
    let query = format!(
        "SELECT labels, target, method, count(*) AS runners, (array_agg(id ORDER BY id DESC))[1:$2] AS ids,
             (array_agg(name ORDER BY id DESC))[1:$2] AS names
         FROM runners WHERE {LIVE} AND team = $1 GROUP BY labels, target, method"
    );
    let rows: Vec<Row> =
        diesel::sql_query(query).bind::<Text, _>(team).bind::<Integer, _>(named).load(conn).await?;
    let row = |what: &str| Error::Row(what.to_owned());
    rows.into_iter()
        .map(|one| {
            Ok(LiveKind {
                labels: one.labels,
                target: one.target.parse().map_err(|_| row("target"))?,
                method: one.method.parse().map_err(|_| row("method"))?,
                runners: one.runners,
                newest: one.ids.into_iter().zip(one.names).collect(),
            })
        })
        .collect()
}

/// How many live runners are in which state; states without any are left out.
pub async fn live_by_status(conn: &mut Conn) -> Result<Vec<(Status, i64)>, Error> {
    let query = format!("SELECT status AS name, count(*) AS count FROM runners WHERE {LIVE} GROUP BY status");
    let rows: Vec<Named> = diesel::sql_query(query).load(conn).await?;
    rows.into_iter()
        .map(|row| Ok((row.name.parse().map_err(|_| Error::Row("status".to_owned()))?, row.count)))
        .collect()
}

/// How many live runners of a team are in one state.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// The team's name.
    pub team: String,
    /// Their state.
    pub status: Status,
    /// How many there are.
    pub count: i64,
}

/// As `live_by_status`, of each team.
pub async fn live_by_team(conn: &mut Conn) -> Result<Vec<Live>, Error> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        team: String,
        #[diesel(sql_type = Text)]
        status: String,
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let query =
        format!("SELECT team, status, count(*) AS count FROM runners WHERE {LIVE} GROUP BY team, status");
    let rows: Vec<Row> = diesel::sql_query(query).load(conn).await?;
    let live = |row: Row| {
        let status = row.status.parse().map_err(|_| Error::Row("status".to_owned()))?;
        Ok(Live { team: row.team, status, count: row.count })
    };
    rows.into_iter().map(live).collect()
}

/// How many provisions of one team ended in one way within one hour.
#[derive(Clone, Debug, PartialEq, QueryableByName)]
pub struct Ended {
    /// Its beginning.
    #[diesel(sql_type = Timestamptz)]
    pub hour: DateTime<Utc>,
    /// `provisioned`, `provision_refused` or `provision_failed`.
    #[diesel(sql_type = Text)]
    pub event_type: String,
    /// `None`: the request named no team of theirs.
    #[diesel(sql_type = Nullable<Text>)]
    pub team: Option<String>,
    /// How many there were.
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

/// How provisions ended, by the hour. As in the partial index, to the letter.
const OUTCOMES: &str = "event_type IN ('provisioned', 'provision_refused', 'provision_failed')";

/// Counts how provisions ended, from `since` on and before `until`.
pub async fn provisions_by_hour(
    conn: &mut Conn,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<Ended>, Error> {
    let query = format!(
        r#"SELECT date_trunc('hour', "timestamp") AS hour, event_type, team, count(*) AS count FROM audit_log
           WHERE {OUTCOMES} AND "timestamp" >= $1 AND "timestamp" < $2 GROUP BY 1, 2, 3"#
    );
    Ok(diesel::sql_query(query)
        .bind::<Timestamptz, _>(since)
        .bind::<Timestamptz, _>(until)
        .load(conn)
        .await?)
}

/// How often somebody asked for a runner within one hour.
#[derive(Clone, Debug, PartialEq, QueryableByName)]
pub struct Asked {
    /// Its beginning.
    #[diesel(sql_type = Timestamptz)]
    pub hour: DateTime<Utc>,
    /// The issuer of the caller's token.
    #[diesel(sql_type = Text)]
    pub issuer: String,
    /// The subject of the caller's token.
    #[diesel(sql_type = Text)]
    pub subject: String,
    /// A name for people.
    #[diesel(sql_type = Text)]
    pub display_name: String,
    /// Provisions that succeeded.
    #[diesel(sql_type = BigInt)]
    pub provisioned: i64,
    /// Provisions that were refused or failed.
    #[diesel(sql_type = BigInt)]
    pub not_provisioned: i64,
}

/// The callers whose provisions ended in these hours, of each hour at most `most`, the busiest.
pub async fn callers_by_hour(
    conn: &mut Conn,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    most: i64,
) -> Result<Vec<Asked>, Error> {
    let query = format!(
        r#"SELECT hour, issuer, subject, display_name, provisioned, not_provisioned FROM (
               SELECT date_trunc('hour', "timestamp") AS hour, issuer, subject, max(user_identity) AS display_name,
                   count(*) FILTER (WHERE event_type = 'provisioned') AS provisioned,
                   count(*) FILTER (WHERE event_type <> 'provisioned') AS not_provisioned,
                   row_number() OVER (PARTITION BY date_trunc('hour', "timestamp") ORDER BY count(*) DESC) AS place
               FROM audit_log
               WHERE {OUTCOMES} AND "timestamp" >= $1 AND "timestamp" < $2
                   AND issuer IS NOT NULL AND subject IS NOT NULL
               GROUP BY 1, 2, 3) AS callers
           WHERE place <= $3 ORDER BY hour"#
    );
    Ok(diesel::sql_query(query)
        .bind::<Timestamptz, _>(since)
        .bind::<Timestamptz, _>(until)
        .bind::<BigInt, _>(most)
        .load(conn)
        .await?)
}
