//! What callers read of the table `runners`: one, a page, how many there are.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{LIVE, Runner};
use crate::model::Status;
use crate::store::schema::runners;
use crate::store::walk::{Source, Total, Value, Walk, at, at_text, when};
use crate::store::{Conn, Error};

/// Whose runners a caller may see.
#[derive(Clone, Debug)]
pub enum Scope {
    /// All runners.
    All,
    /// Those of these teams.
    Teams(Vec<String>),
}

impl Scope {
    /// Whether the runner is in this scope.
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
    /// In this state.
    pub status: Option<Status>,
    /// Of this team.
    pub team: Option<String>,
    /// With this label, in upper or lower case.
    pub label: Option<String>,
    /// Ephemeral or persistent ones.
    pub ephemeral: Option<bool>,
    /// Part of the name, without case.
    pub q: Option<String>,
}

/// The runners of this scope that fit. There is an index for what has one state, for a team's, for those of a team that
/// live or failed, and for those that last; whatever else is asked for is looked at row by row.
fn walk(scope: &Scope, filter: &Filter) -> Walk {
    let teams = match (scope, &filter.team) {
        (Scope::All, team) => team.clone().map(|team| vec![team]),
        (Scope::Teams(teams), Some(team)) => Some(teams.iter().filter(|own| *own == team).cloned().collect()),
        (Scope::Teams(teams), None) => Some(teams.clone()),
    };
    let mut filters = Vec::new();
    let sources = match (teams, filter.status) {
        (Some(teams), _) if teams.is_empty() => Vec::new(),
        // A team has few.
        (Some(teams), Some(live)) if live.is_live() => {
            filters.push(when("status = ?").text(live.as_str()));
            teams.into_iter().map(|team| at_text("team", team).of(when(LIVE))).collect()
        }
        (Some(teams), Some(Status::Failed)) => {
            teams.into_iter().map(|team| at_text("team", team).of(when("status = 'failed'"))).collect()
        }
        (Some(teams), status) => {
            filters.extend(status.map(|status| when("status = ?").text(status.as_str())));
            teams.into_iter().map(|team| at_text("team", team)).collect()
        }
        (None, Some(status)) => vec![at_text("status", status.as_str())],
        (None, None) if filter.ephemeral == Some(false) => {
            vec![at("ephemeral", Value::Bool(false)).of(when("NOT ephemeral"))]
        }
        (None, None) => vec![Source::All],
    };
    let by_index = matches!(sources.as_slice(), [Source::At { column: "ephemeral", .. }]);
    let ephemeral = filter.ephemeral.filter(|_| !by_index);
    filters.extend(ephemeral.map(|is| when(if is { "ephemeral" } else { "NOT ephemeral" })));
    let label = filter.label.as_ref().map(|label| label.to_ascii_lowercase());
    filters.extend(label.map(|label| when("labels @> ARRAY[?]").text(label)));
    filters
        .extend(filter.q.as_ref().map(|q| when("strpos(lower(name), ?) > 0").text(q.to_ascii_lowercase())));
    Walk { table: "runners", sources, lowest: None, filters }
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

/// The newest `most` that fit, however many rows have to be looked at for that.
pub async fn up_to(conn: &mut Conn, scope: &Scope, filter: &Filter, most: i64) -> Result<Vec<Runner>, Error> {
    let ids: Vec<Uuid> = walk(scope, filter).up_to(conn, most).await?;
    let rows = runners::table.filter(runners::id.eq_any(&ids)).order(runners::id.desc());
    Ok(rows.select(Runner::as_select()).load(conn).await?)
}

/// How many there are on all pages, counted to `most`, and where filters need a look at each row among the newest
/// only.
pub async fn total(conn: &mut Conn, scope: &Scope, filter: &Filter, most: i64) -> Result<Total, Error> {
    walk(scope, filter).total(conn, most).await
}
