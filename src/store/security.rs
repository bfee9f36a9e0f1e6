//! Security events among the rows of `audit_log`, by their own indexes.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Double, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use super::audit::Event;
use super::{Conn, Error};

/// The time and id of an event: a page begins after it.
pub type Cursor = (DateTime<Utc>, i64);

/// What a page shows; `None` filters nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of these types; what the migration's `audit_security_type` calls them.
    pub types: Vec<&'static str>,
    /// About this team.
    pub team: Option<String>,
    /// Not before this time.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
}

/// Newest first. One short walk along the index for each type, however many rows the log has.
pub async fn page(
    conn: &mut Conn,
    filter: &Filter,
    after: Option<Cursor>,
    limit: i64,
) -> Result<Vec<Event>, Error> {
    let (at, id) = after.unzip();
    // The conditions on NULL are gone when the statement is planned: it is planned with its values.
    Ok(diesel::sql_query(
        r#"SELECT e.* FROM unnest($1) AS wanted (security_type) CROSS JOIN LATERAL (
               SELECT id, "timestamp", event_type, severity, success, user_identity, issuer, subject, team,
                   runner_id, runner_name, target, request_id, request_ip, user_agent, policy_rule, event_data,
                   error_code, error_message
               FROM audit_log
               WHERE audit_security_type(event_type, error_code) = wanted.security_type
                   AND audit_security_type(event_type, error_code) IS NOT NULL
                   AND ($2 IS NULL OR team = $2)
                   AND ($3 IS NULL OR "timestamp" >= $3)
                   AND ($4 IS NULL OR "timestamp" < $4)
                   AND ($5 IS NULL OR ("timestamp", id) < ($5, $6))
               ORDER BY "timestamp" DESC, id DESC LIMIT $7) AS e
           ORDER BY e."timestamp" DESC, e.id DESC LIMIT $7"#,
    )
    .bind::<Array<Text>, _>(&filter.types)
    .bind::<Nullable<Text>, _>(&filter.team)
    .bind::<Nullable<Timestamptz>, _>(filter.since)
    .bind::<Nullable<Timestamptz>, _>(filter.until)
    .bind::<Nullable<Timestamptz>, _>(at)
    .bind::<Nullable<BigInt>, _>(id)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// How many security events of one type there were about a team.
#[derive(Clone, Debug, PartialEq, QueryableByName)]
pub struct Count {
    /// As `audit_security_type` calls it.
    #[diesel(sql_type = Text)]
    pub security_type: String,
    /// `None`: events about no team.
    #[diesel(sql_type = Nullable<Text>)]
    pub team: Option<String>,
    /// At most the limit that was given.
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

/// Counts events since then by type and team; of each type the newest `most`, and no more.
pub async fn counts(
    conn: &mut Conn,
    types: &[&'static str],
    since: DateTime<Utc>,
    most: i64,
) -> Result<Vec<Count>, Error> {
    Ok(diesel::sql_query(
        r#"SELECT wanted.security_type, e.team, count(*) AS count
           FROM unnest($1) AS wanted (security_type) CROSS JOIN LATERAL (
               SELECT team FROM audit_log
               WHERE audit_security_type(event_type, error_code) = wanted.security_type
                   AND audit_security_type(event_type, error_code) IS NOT NULL
                   AND "timestamp" >= $2
               ORDER BY "timestamp" DESC, id DESC LIMIT $3) AS e
           GROUP BY 1, 2"#,
    )
    .bind::<Array<Text>, _>(types)
    .bind::<Timestamptz, _>(since)
    .bind::<BigInt, _>(most)
    .load(conn)
    .await?)
}

/// When provisions are far more than usual.
#[derive(Clone, Copy, Debug)]
pub struct Unusual {
    /// Provisions from then on are looked at, in windows as long as this one.
    pub since: DateTime<Utc>,
    /// Provisions up to then are looked at.
    pub now: DateTime<Utc>,
    /// What is usual goes back no further.
    pub history_since: DateTime<Utc>,
    /// A team or caller reported after this is not reported again.
    pub reported_since: DateTime<Utc>,
    /// Fewer are nothing to speak of.
    pub least: i64,
    /// How many times the usual number is too many.
    pub factor: f64,
}

/// A team, or a caller, with unusually many provisions.
#[derive(Clone, Debug, PartialEq, QueryableByName)]
pub struct Burst {
    /// `None`: it is about a caller.
    #[diesel(sql_type = Nullable<Text>)]
    pub team: Option<String>,
    /// `None`: it is about a team.
    #[diesel(sql_type = Nullable<Text>)]
    pub issuer: Option<String>,
    /// `None`: it is about a team.
    #[diesel(sql_type = Nullable<Text>)]
    pub subject: Option<String>,
    /// Provisions in the latest window.
    #[diesel(sql_type = BigInt)]
    pub recent: i64,
    /// On average, in those windows in which there were any.
    #[diesel(sql_type = Double)]
    pub usual: f64,
}

/// Teams and callers that ask for far more runners than they use to. What is read is bounded: the provisions
/// since `since`, and for each of the few who stand out the newest rows before those.
pub async fn bursts(conn: &mut Conn, unusual: &Unusual) -> Result<Vec<Burst>, Error> {
    let window = (unusual.now - unusual.since).as_seconds_f64();
    Ok(diesel::sql_query(
        r#"WITH recent AS MATERIALIZED (
               SELECT r.id, teams.name AS team, r.issuer, r.subject FROM teams CROSS JOIN LATERAL (
                   SELECT id, issuer, subject FROM audit_log
                   WHERE event_type = 'provision_requested' AND team = teams.name
                       AND "timestamp" > $1 AND "timestamp" <= $2) AS r),
           team_usual AS (
               SELECT many.team, NULL::text AS issuer, NULL::text AS subject, many.recent, usual.requests,
                   usual.windows
               FROM (SELECT team, count(*) AS recent FROM recent GROUP BY team HAVING count(*) >= $5) AS many
               CROSS JOIN LATERAL (
                   SELECT count(*) AS requests, count(DISTINCT floor(extract(epoch FROM at) / $7)) AS windows
                   FROM (SELECT "timestamp" AS at FROM audit_log
                         WHERE event_type = 'provision_requested' AND team = many.team
                             AND "timestamp" > $3 AND "timestamp" <= $1
                         ORDER BY "timestamp" DESC LIMIT 2000) AS before) AS usual),
           caller_usual AS (
               SELECT NULL::text AS team, many.issuer, many.subject, many.recent, usual.requests, usual.windows
               FROM (SELECT issuer, subject, count(*) AS recent, min(id) AS first FROM recent
                     WHERE subject IS NOT NULL GROUP BY issuer, subject HAVING count(*) >= $5) AS many
               CROSS JOIN LATERAL (
                   SELECT count(*) AS requests, count(DISTINCT floor(extract(epoch FROM at) / $7)) AS windows
                   FROM (SELECT "timestamp" AS at, event_type FROM audit_log
                         WHERE subject = many.subject AND issuer = many.issuer AND id < many.first
                         ORDER BY id DESC LIMIT 4000) AS before
                   WHERE event_type = 'provision_requested' AND at > $3) AS usual)
           SELECT team, issuer, subject, recent, coalesce(requests::float8 / nullif(windows, 0), 0) AS usual
           FROM (SELECT * FROM team_usual UNION ALL SELECT * FROM caller_usual) AS many
           WHERE recent * greatest(windows, 1) > $6 * requests AND NOT EXISTS (
               SELECT 1 FROM audit_log AS reported
               WHERE reported.event_type = 'provision_burst' AND reported."timestamp" > $4
                   AND reported.team IS NOT DISTINCT FROM many.team
                   AND reported.issuer IS NOT DISTINCT FROM many.issuer
                   AND reported.subject IS NOT DISTINCT FROM many.subject)
           ORDER BY team, issuer, subject"#,
    )
    .bind::<Timestamptz, _>(unusual.since)
    .bind::<Timestamptz, _>(unusual.now)
    .bind::<Timestamptz, _>(unusual.history_since)
    .bind::<Timestamptz, _>(unusual.reported_since)
    .bind::<BigInt, _>(unusual.least)
    .bind::<Double, _>(unusual.factor)
    .bind::<Double, _>(window)
    .load(conn)
    .await?)
}
