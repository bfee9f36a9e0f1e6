//! What callers read of the table `runners`: one, a page, how many there are.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{LIVE, Runner};
use crate::model::Status;
use crate::store::schema::runners;
use crate::store::walk::{Condition, Total, Value, Walk, when};
use crate::store::{Conn, Error};

/// Whose runners a caller may see.
#[derive(Clone, Debug)]
pub enum Scope {
    All,
    Teams(Vec<String>),
}

impl Scope {
    pub fn has(&self, runner: &Runner) -> bool {
        match self {
            Scope::All => true,
            Scope::Teams(teams) => teams.contains(&runner.team),
        }
    }
}

/// A runner by its id, or by name: the live one, else the newest of that name.
pub async fn find(conn: &mut Conn, id_or_name: &str, scope: &Scope) -> Result<Option<Runner>, Error> {
    // By id there is one at most. And unlike a query that is put together here, that one is prepared only once.
    if let Ok(id) = id_or_name.parse::<Uuid>() {
        return Ok(by_id(conn, id).await?.filter(|runner| scope.has(runner)));
    }
    let mut query = runners::table
        .select(Runner::as_select())
        .filter(sql::<Bool>("lower(name) = ").bind::<Text, _>(id_or_name.to_ascii_lowercase()))
        .order((sql::<Bool>(LIVE).desc(), runners::id.desc()))
        .into_boxed();
    if let Scope::Teams(teams) = scope {
        query = query.filter(runners::team.eq_any(teams.clone()));
    }
    Ok(query.first(conn).await.optional()?)
}

/// A row by its id.
pub async fn by_id(conn: &mut Conn, id: Uuid) -> Result<Option<Runner>, Error> {
    Ok(runners::table.find(id).select(Runner::as_select()).first(conn).await.optional()?)
}

/// Rows by their ids, newest first; those that are not there, or not in the scope, are left out.
pub async fn some(conn: &mut Conn, scope: &Scope, ids: &[Uuid]) -> Result<Vec<Runner>, Error> {
    let rows = runners::table.filter(runners::id.eq_any(ids)).order(runners::id.desc());
    let rows: Vec<Runner> = rows.select(Runner::as_select()).load(conn).await?;
    Ok(rows.into_iter().filter(|runner| scope.has(runner)).collect())
}

/// As `by_id`; nobody else changes the row until the transaction ends.
pub async fn lock(conn: &mut Conn, id: Uuid) -> Result<Option<Runner>, Error> {
    let row = runners::table.find(id).select(Runner::as_select()).for_no_key_update();
    Ok(row.first(conn).await.optional()?)
}

/// What a list shows; `None` filters nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub status: Option<Status>,
    pub team: Option<String>,
    pub label: Option<String>,
    pub ephemeral: Option<bool>,
    /// Part of the name, without case.
    pub q: Option<String>,
}

/// The runners of this scope that fit. What is live are few, and there are indexes for a team's, for those that failed
/// and for those that last; whatever else is asked for is looked at row by row.
fn walk(scope: &Scope, filter: &Filter) -> Walk {
    let teams = match (scope, &filter.team) {
        (Scope::All, team) => team.clone().map(|team| vec![team]),
        (Scope::Teams(teams), Some(team)) => Some(teams.iter().filter(|own| *own == team).cloned().collect()),
        (Scope::Teams(teams), None) => Some(teams.clone()),
    };
    let of_teams = |sql: &'static str| -> Vec<Condition> {
        teams.iter().flatten().map(|team| when(sql).text(team)).collect()
    };
    let mut filters = Vec::new();
    let live = filter.status.and_then(live);
    let sources = match (live, filter.status, &teams) {
        (_, _, Some(none)) if none.is_empty() => Vec::new(),
        (Some(live), _, _) => {
            filters.extend(teams.clone().map(|teams| when("team = ANY(?)").with(Value::Texts(teams))));
            vec![when(live)]
        }
        (None, Some(Status::Failed), None) => vec![when("status = 'failed'")],
        (None, Some(Status::Failed), Some(_)) => of_teams("status = 'failed' AND team = ?"),
        (None, status, teams) => {
            // Nearly all rows: those of the others are too few to be in its way.
            filters.extend(status.map(|_| when("status = 'deleted'")));
            match teams {
                Some(_) => of_teams("team = ?"),
                None if filter.ephemeral == Some(false) => vec![when("NOT ephemeral")],
                None => vec![when("true")],
            }
        }
    };
    filters.extend(filter.ephemeral.map(|is| when(if is { "ephemeral" } else { "NOT ephemeral" })));
    let label = filter.label.as_ref().map(|label| label.to_ascii_lowercase());
    filters.extend(label.map(|label| when("labels @> ARRAY[?]").text(label)));
    filters
        .extend(filter.q.as_ref().map(|q| when("strpos(lower(name), ?) > 0").text(q.to_ascii_lowercase())));
    if matches!(sources.as_slice(), [only] if only.is("NOT ephemeral")) {
        filters.retain(|filter| !filter.is("NOT ephemeral"));
    }
    Walk { table: "runners", sources, within: Vec::new(), filters }
}

/// A live status, to the letter of the index of live rows.
fn live(status: Status) -> Option<&'static str> {
    match status {
        Status::Requested => Some("status = 'requested'"),
        Status::Pending => Some("status = 'pending'"),
        Status::Active => Some("status = 'active'"),
        Status::Offline => Some("status = 'offline'"),
        Status::Deleting => Some("status = 'deleting'"),
        Status::Deleted | Status::Failed => None,
    }
}

/// Newest first (ids are UUID v7), at most `limit` of those older than `before`; and where the next page begins, for
/// which see `walk::Page`.
pub async fn page(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<(Vec<Runner>, Option<Uuid>), Error> {
    let page = walk(scope, filter).page(conn, before, limit).await?;
    let rows = runners::table.filter(runners::id.eq_any(&page.ids)).order(runners::id.desc());
    Ok((rows.select(Runner::as_select()).load(conn).await?, page.next))
}

/// How many there are on all pages, counted to `most`, and where filters need a look at each row among the newest
/// only.
pub async fn total(conn: &mut Conn, scope: &Scope, filter: &Filter, most: i64) -> Result<Total, Error> {
    walk(scope, filter).total(conn, most).await
}
