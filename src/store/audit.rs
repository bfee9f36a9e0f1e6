//! The table `audit_log`: rows are added and read, never changed; triggers refuse anything else.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable, Text};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use super::schema::audit_log;
use super::{Conn, Error};

/// An event to be.
#[derive(Clone, Debug, PartialEq, Insertable)]
#[diesel(table_name = audit_log, treat_none_as_default_value = false)]
pub struct NewEvent {
    pub timestamp: DateTime<Utc>,
    pub event_type: &'static str,
    pub severity: &'static str,
    pub success: bool,
    pub user_identity: String,
    pub issuer: Option<String>,
    pub subject: Option<String>,
    pub team: Option<String>,
    pub runner_id: Option<Uuid>,
    pub runner_name: Option<String>,
    pub target: Option<String>,
    pub request_id: Option<String>,
    pub request_ip: Option<String>,
    pub user_agent: Option<String>,
    pub policy_rule: Option<String>,
    pub event_data: Value,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    /// Not a part of the event: whether somebody is to be told, if it is one for that.
    #[diesel(skip_insertion)]
    pub alert: bool,
}

/// An event as the log has it.
#[derive(Clone, Debug, PartialEq, Queryable, QueryableByName, Selectable)]
#[diesel(table_name = audit_log, check_for_backend(Pg))]
pub struct Event {
    pub id: i64,
    pub timestamp: DateTime<Utc>,
    pub event_type: String,
    pub severity: String,
    pub success: bool,
    pub user_identity: String,
    pub issuer: Option<String>,
    pub subject: Option<String>,
    pub team: Option<String>,
    pub runner_id: Option<Uuid>,
    pub runner_name: Option<String>,
    pub target: Option<String>,
    pub request_id: Option<String>,
    pub request_ip: Option<String>,
    pub user_agent: Option<String>,
    pub policy_rule: Option<String>,
    pub event_data: Value,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
}

/// Adds one event; call it in the transaction of the change that it records.
pub async fn append(conn: &mut Conn, event: &NewEvent) -> Result<(), Error> {
    diesel::insert_into(audit_log::table).values(event).execute(conn).await?;
    Ok(())
}

/// Adds several in one statement, in this order.
pub async fn append_all(conn: &mut Conn, events: &[NewEvent]) -> Result<(), Error> {
    diesel::insert_into(audit_log::table).values(events).execute(conn).await?;
    Ok(())
}

/// As `append_all`; the ids, in this order.
pub async fn append_numbered(conn: &mut Conn, events: &[NewEvent]) -> Result<Vec<i64>, Error> {
    let inserted = diesel::insert_into(audit_log::table).values(events).returning(audit_log::id);
    let mut ids: Vec<i64> = inserted.get_results(conn).await?;
    // Postgres numbers the rows of one statement in their order, but does not say that it returns them so.
    ids.sort_unstable();
    Ok(ids)
}

/// These events, in no order.
pub async fn by_ids(conn: &mut Conn, ids: &[i64]) -> Result<Vec<Event>, Error> {
    Ok(audit_log::table.filter(audit_log::id.eq_any(ids)).select(Event::as_select()).load(conn).await?)
}

/// Whose events a caller may read: everyone's, or his own and his teams'.
#[derive(Clone, Debug)]
pub enum Scope {
    All,
    Own { issuer: String, subject: String, teams: Vec<String> },
}

/// What a page shows; `None` filters nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub event_type: Option<String>,
    /// By id or name.
    pub runner: Option<String>,
    pub team: Option<String>,
    /// By display name or subject.
    pub user: Option<String>,
    pub success: Option<bool>,
    pub since: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
}

fn matching<'a>(scope: &Scope, filter: &Filter) -> audit_log::BoxedQuery<'a, Pg> {
    let mut query = audit_log::table.into_boxed();
    if let Scope::Own { issuer, subject, teams } = scope {
        let own = audit_log::subject.eq(subject.clone()).and(audit_log::issuer.eq(issuer.clone()));
        query = query.filter(own.or(audit_log::team.eq_any(teams.clone())).assume_not_null());
    }
    if let Some(event_type) = &filter.event_type {
        query = query.filter(audit_log::event_type.eq(event_type.clone()));
    }
    if let Some(runner) = &filter.runner {
        query = match runner.parse::<Uuid>() {
            Ok(id) => query.filter(audit_log::runner_id.eq(id)),
            Err(_) => query.filter(
                sql::<Nullable<Bool>>("lower(runner_name) = ").bind::<Text, _>(runner.to_lowercase()),
            ),
        };
    }
    if let Some(team) = &filter.team {
        query = query.filter(audit_log::team.eq(team.clone()));
    }
    if let Some(user) = &filter.user {
        let by_name = audit_log::user_identity.nullable().eq(user.clone());
        query = query.filter(by_name.or(audit_log::subject.eq(user.clone())));
    }
    if let Some(success) = filter.success {
        query = query.filter(audit_log::success.eq(success));
    }
    if let Some(since) = filter.since {
        query = query.filter(audit_log::timestamp.ge(since));
    }
    if let Some(until) = filter.until {
        query = query.filter(audit_log::timestamp.lt(until));
    }
    query
}

/// The event with this id, if it may be seen.
pub async fn find(conn: &mut Conn, scope: &Scope, id: i64) -> Result<Option<Event>, Error> {
    let event = matching(scope, &Filter::default()).filter(audit_log::id.eq(id));
    Ok(event.select(Event::as_select()).first(conn).await.optional()?)
}

/// Newest first, those with a smaller id than `before`.
pub async fn page(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Event>, Error> {
    let all = || matching(&Scope::All, filter);
    let Scope::Own { issuer, subject, teams } = scope else { return newest(conn, all(), before, limit).await };
    // One walk along an index for the caller and for each team. Asked for together, Postgres would read the whole log,
    // or sort all that a team ever did.
    let own = all().filter(audit_log::subject.eq(subject.clone()));
    let mut events = newest(conn, own.filter(audit_log::issuer.eq(issuer.clone())), before, limit).await?;
    for team in teams {
        events.extend(newest(conn, all().filter(audit_log::team.eq(team.clone())), before, limit).await?);
    }
    events.sort_by_key(|event| std::cmp::Reverse(event.id));
    events.dedup_by_key(|event| event.id);
    events.truncate(limit.unsigned_abs() as usize);
    Ok(events)
}

async fn newest(
    conn: &mut Conn,
    query: audit_log::BoxedQuery<'_, Pg>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Event>, Error> {
    let mut query = query.order(audit_log::id.desc()).limit(limit);
    if let Some(before) = before {
        query = query.filter(audit_log::id.lt(before));
    }
    Ok(query.select(Event::as_select()).load(conn).await?)
}

/// Oldest first, those with a greater id than `after`: what an export walks along.
pub async fn next(conn: &mut Conn, filter: &Filter, after: i64, limit: i64) -> Result<Vec<Event>, Error> {
    Ok(matching(&Scope::All, filter)
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

/// Lets this connection take its time: an export reads more than any request may.
pub async fn be_patient(conn: &mut Conn) -> Result<(), Error> {
    diesel::sql_query("SET statement_timeout = '10min'").execute(conn).await?;
    Ok(())
}

/// How many events a filter matches: for a progress bar.
pub async fn count(conn: &mut Conn, filter: &Filter) -> Result<i64, Error> {
    Ok(matching(&Scope::All, filter).count().get_result(conn).await?)
}
