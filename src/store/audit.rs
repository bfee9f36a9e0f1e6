//! The table `audit_log`: rows are added and read, never changed; triggers refuse anything else.
//!
//! `since` and `until` become bounds of ids by the index on (timestamp, id): the lowest and highest id of the few
//! hundred events about an hour before and after. Ids and times may disagree by that hour.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Timestamptz};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use super::schema::audit_log;
use super::walk::Filter::{Indexed, Plain};
use super::walk::{self, Matching, Walk, at, at_text, when};
use super::{Conn, Error};

/// An event to append and one that was read are alike but for the id and the type of the texts that the code gives:
/// the columns stand here once.
macro_rules! event {
    (
        $(#[$attribute:meta])* $name:ident { $text:ty }
        before { $($(#[$before_attribute:meta])* $before:ident: $before_type:ty)? }
        after { $($(#[$after_attribute:meta])* $after:ident: $after_type:ty)? }
    ) => {
        $(#[$attribute])*
        pub struct $name {
            $($(#[$before_attribute])* pub $before: $before_type,)?
            /// When it happened, by the clock of the replica.
            pub timestamp: DateTime<Utc>,
            /// Such as `provisioned`.
            pub event_type: $text,
            /// `info`, `warning`, `high` or another word of the API.
            pub severity: $text,
            /// Whether it was done.
            pub success: bool,
            /// The caller's display name, or `system` for the broker's own work.
            pub user_identity: String,
            /// The caller's issuer. `None`: the broker itself, or an unknown caller.
            pub issuer: Option<String>,
            /// The caller's subject, as `issuer`.
            pub subject: Option<String>,
            /// The team that it is about.
            pub team: Option<String>,
            /// The runner that it is about.
            pub runner_id: Option<Uuid>,
            /// Its name.
            pub runner_name: Option<String>,
            /// The organisation or repository that it is about.
            pub target: Option<String>,
            /// The id of the HTTP request.
            pub request_id: Option<String>,
            /// The caller's address.
            pub request_ip: Option<String>,
            /// The caller's `User-Agent`.
            pub user_agent: Option<String>,
            /// The rule that let the caller in, such as `team ml, member 2`.
            pub policy_rule: Option<String>,
            /// A JSON object with what else belongs to this type.
            pub event_data: Value,
            /// The code of a refusal or failure.
            pub error_code: Option<String>,
            /// Its text.
            pub error_message: Option<String>,
            $($(#[$after_attribute])* pub $after: $after_type,)?
        }
    };
}

event! {
    /// An event to append.
    #[derive(Clone, Debug, PartialEq, Insertable)]
    #[diesel(table_name = audit_log, treat_none_as_default_value = false)]
    NewEvent { &'static str }
    before {}
    after {
        /// Not a part of the event: whether it is posted as an alert, if it is a security event.
        #[diesel(skip_insertion)]
        alert: bool
    }
}

event! {
    /// An event as the log has it.
    #[derive(Clone, Debug, PartialEq, Queryable, QueryableByName, Selectable)]
    #[diesel(table_name = audit_log, check_for_backend(Pg))]
    Event { String }
    before {
        /// Grows with the order of writing, with gaps.
        id: i64
    }
    after {}
}

/// Adds one event; call it in the transaction of the change that it records.
pub async fn append(mut conn: &Conn, event: &NewEvent) -> Result<(), Error> {
    diesel::insert_into(audit_log::table).values(event).execute(&mut conn).await?;
    Ok(())
}

/// Adds several in one statement, in this order.
pub async fn append_all(conn: &mut Conn, events: &[NewEvent]) -> Result<(), Error> {
    diesel::insert_into(audit_log::table).values(events).execute(conn).await?;
    Ok(())
}

/// Whether there is an event of this type about the runner whose data holds `data`.
pub async fn tells(
    conn: &mut Conn,
    runner: Uuid,
    event_type: &'static str,
    data: Value,
) -> Result<bool, Error> {
    let told = audit_log::table
        .filter(audit_log::runner_id.eq(runner))
        .filter(audit_log::event_type.eq(event_type))
        .filter(audit_log::event_data.contains(data));
    Ok(diesel::select(diesel::dsl::exists(told)).get_result(conn).await?)
}

/// As `append_all`; the ids, in this order.
pub async fn append_numbered(mut conn: &Conn, events: &[NewEvent]) -> Result<Vec<i64>, Error> {
    let inserted = diesel::insert_into(audit_log::table).values(events).returning(audit_log::id);
    let mut ids: Vec<i64> = inserted.get_results(&mut conn).await?;
    // Postgres numbers the rows of one statement in their order, but does not say that it returns them so.
    ids.sort_unstable();
    Ok(ids)
}

/// These events, in no order.
pub async fn by_ids(conn: &mut Conn, ids: &[i64]) -> Result<Vec<Event>, Error> {
    Ok(audit_log::table.filter(audit_log::id.eq_any(ids)).select(Event::as_select()).load(conn).await?)
}

/// The events that a caller may read.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Every event.
    All,
    /// The caller's own events, and those about their teams.
    Own {
        /// The caller's issuer.
        issuer: String,
        /// The caller's subject.
        subject: String,
        /// The names of their teams.
        teams: Vec<String>,
    },
}

/// What a page shows; `None` filters nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this type.
    pub event_type: Option<String>,
    /// By id or name.
    pub runner: Option<String>,
    /// About this team.
    pub team: Option<String>,
    /// By display name or subject.
    pub user: Option<String>,
    /// With this result.
    pub success: Option<bool>,
    /// Not before this time.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
}

/// What the events of this scope that fit have in common, the most telling first. The only definition of [`Scope`] and
/// [`Filter`].
fn filters(scope: &Scope, filter: &Filter) -> Vec<walk::Filter> {
    let mut filters = Vec::new();
    if let Some(runner) = &filter.runner {
        filters.push(Indexed(vec![match runner.parse::<Uuid>() {
            Ok(id) => at("runner_id", id.into()),
            Err(_) => {
                let name = at_text("lower(runner_name)", runner.to_lowercase());
                name.of(when("runner_name IS NOT NULL"))
            }
        }]));
    }
    if let Some(user) = &filter.user {
        filters.push(Indexed(["user_identity", "subject"].map(|column| at_text(column, user)).into()));
    }
    if let Some(team) = &filter.team {
        filters.push(Indexed(vec![at_text("team", team)]));
    }
    if let Scope::Own { issuer, subject, teams } = scope {
        let own = at_text("subject", subject).of(when("issuer = ?").text(issuer));
        let of_teams = teams.iter().map(|team| at_text("team", team));
        filters.push(Indexed(std::iter::once(own).chain(of_teams).collect()));
    }
    if let Some(event_type) = &filter.event_type {
        filters.push(Indexed(vec![at_text("event_type", event_type)]));
    }
    match filter.success {
        Some(true) => filters.push(Plain(when("success"))),
        Some(false) => {
            filters.push(Indexed(vec![at("success", walk::Value::Bool(false)).of(when("NOT success"))]))
        }
        None => {}
    }
    let bounds = [("\"timestamp\" >= ?", filter.since), ("\"timestamp\" < ?", filter.until)];
    filters.extend(
        bounds.into_iter().filter_map(|(sql, time)| Some(Plain(when(sql).with(walk::Value::Time(time?))))),
    );
    filters
}

/// The same as conditions.
fn matching(scope: &Scope, filter: &Filter) -> Matching {
    Matching(filters(scope, filter).into_iter().map(walk::Filter::condition).collect())
}

/// The event with this id, if it may be seen.
pub async fn find(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<Event>, Error> {
    let event = audit_log::table.filter(audit_log::id.eq(id)).filter(matching(scope, &Filter::default()));
    Ok(event.select(Event::as_select()).first(conn).await.optional()?)
}

/// How far ids and times may disagree. Ids are given when a row is written and times by the clocks of the replicas;
/// one that is off by more than minutes is let in nowhere, neither by GitHub nor by its own verification of tokens.
const DISORDER: TimeDelta = TimeDelta::hours(1);

/// The ids of events next to a moment. `None`: there are no events.
#[derive(QueryableByName)]
struct IdRange {
    #[diesel(sql_type = Nullable<BigInt>)]
    lowest: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    highest: Option<i64>,
}

/// Those of the few hundred that are next to it. An event whose clock was wrong may lie among them: since it widens
/// what is looked at and never narrows it, it hides no other.
async fn ids_around(conn: &mut Conn, at: DateTime<Utc>) -> Result<IdRange, Error> {
    Ok(diesel::sql_query(
        r#"SELECT min(id) AS lowest, max(id) AS highest FROM (
               (SELECT id FROM audit_log WHERE "timestamp" < $1 ORDER BY "timestamp" DESC LIMIT 250) UNION ALL
               (SELECT id FROM audit_log WHERE "timestamp" >= $1 ORDER BY "timestamp" LIMIT 250)) AS next"#,
    )
    .bind::<Timestamptz, _>(at)
    .get_result(conn)
    .await?)
}

/// Newest first, at most `limit` of those with a smaller id than `before`; and where the next page begins, for which
/// see `walk::Page`.
pub async fn page(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<(Vec<Event>, Option<i64>), Error> {
    let (mut walk, mut before) = (Walk::by("audit_log", filters(scope, filter)), before);
    if let Some(since) = filter.since {
        walk.lowest = ids_around(conn, since - DISORDER).await?.lowest.map(walk::Value::BigInt);
    }
    if let Some(until) = filter.until {
        let highest = ids_around(conn, until + DISORDER).await?.highest;
        before = before.into_iter().chain(highest.map(|id| id.saturating_add(1))).min();
    }
    let page = walk.page(conn, before, limit).await?;
    let rows = audit_log::table.filter(audit_log::id.eq_any(&page.ids)).order(audit_log::id.desc());
    Ok((rows.select(Event::as_select()).load(conn).await?, page.next))
}

/// Oldest first, those with a greater id than `after`: what an export walks along.
pub async fn next(conn: &mut Conn, filter: &Filter, after: i64, limit: i64) -> Result<Vec<Event>, Error> {
    Ok(audit_log::table
        .filter(matching(&Scope::All, filter))
        .filter(audit_log::id.gt(after))
        .order(audit_log::id)
        .limit(limit)
        .select(Event::as_select())
        .load(conn)
        .await?)
}

/// The newest events of a runner, newest first.
pub async fn of_runner(conn: &mut Conn, runner: Uuid, limit: i64) -> Result<Vec<Event>, Error> {
    Ok(audit_log::table
        .filter(audit_log::runner_id.eq(runner))
        .order(audit_log::id.desc())
        .limit(limit)
        .select(Event::as_select())
        .load(conn)
        .await?)
}

/// The id of the newest event: another one means that something happened.
pub async fn newest(conn: &mut Conn) -> Result<Option<i64>, Error> {
    Ok(audit_log::table.select(audit_log::id).order(audit_log::id.desc()).first(conn).await.optional()?)
}

/// Raises `statement_timeout` of this connection to 10 minutes: an export reads more than any request.
pub async fn raise_statement_timeout(conn: &mut Conn) -> Result<(), Error> {
    diesel::sql_query("SET statement_timeout = '10min'").execute(conn).await?;
    Ok(())
}

/// How many events a filter matches: for a progress bar.
pub async fn count(conn: &mut Conn, filter: &Filter) -> Result<i64, Error> {
    Ok(audit_log::table.filter(matching(&Scope::All, filter)).count().get_result(conn).await?)
}
