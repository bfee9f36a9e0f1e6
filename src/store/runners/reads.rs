//! What callers read of the table `runners`: one, a page, a count.

use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{LIVE, Runner};
use crate::model::Status;
use crate::store::schema::runners;
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

type Boxed<'a> = runners::BoxedQuery<'a, Pg>;

fn matching<'a>(scope: &Scope, filter: &Filter) -> Boxed<'a> {
    let mut query = runners::table.into_boxed();
    if let Scope::Teams(teams) = scope {
        query = query.filter(runners::team.eq_any(teams.clone()));
    }
    if let Some(status) = filter.status {
        query = query.filter(runners::status.eq(status.as_str()));
    }
    if let Some(team) = &filter.team {
        query = query.filter(runners::team.eq(team.clone()));
    }
    if let Some(label) = &filter.label {
        query = query.filter(runners::labels.contains(vec![label.to_ascii_lowercase()]));
    }
    if let Some(ephemeral) = filter.ephemeral {
        query = query.filter(runners::ephemeral.eq(ephemeral));
    }
    if let Some(q) = &filter.q {
        let escaped = q.to_ascii_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        query = query.filter(sql::<Bool>("lower(name) LIKE ").bind::<Text, _>(format!("%{escaped}%")));
    }
    query
}

/// Newest first (ids are UUID v7), those older than `before`.
pub async fn page(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Runner>, Error> {
    let mut query = matching(scope, filter).order(runners::id.desc()).limit(limit);
    if let Some(before) = before {
        query = query.filter(runners::id.lt(before));
    }
    Ok(query.select(Runner::as_select()).load(conn).await?)
}

/// How many match, counted to `most` and no further.
pub async fn count(conn: &mut Conn, scope: &Scope, filter: &Filter, most: i64) -> Result<i64, Error> {
    // A count over a limited subselect is beyond the query builder; fetching `most` ids is cheap enough.
    let ids: Vec<Uuid> = matching(scope, filter).select(runners::id).limit(most).load(conn).await?;
    Ok(ids.len() as i64)
}
