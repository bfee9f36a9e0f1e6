//! A runner's page: its row with its newest events from `audit_log`, in one statement.

use std::sync::OnceLock;

use diesel::dsl::{AsSelect, SqlTypeOf};
use diesel::pg::{Pg, PgQueryBuilder};
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryBuilder, QueryFragment, QueryId};
use diesel::sql_types::Uuid as SqlUuid;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::Runner;
use crate::store::audit::Event;
use crate::store::{Conn, Error};

/// The most events of a runner that its page shows.
pub const MAX_EVENTS: i64 = 100;

/// A runner by its id with its newest events, newest first. One statement: a second one would cost as
/// much again.
pub async fn with_events(conn: &mut Conn, id: Uuid) -> Result<(Option<Runner>, Vec<Event>), Error> {
    let rows: Vec<(Runner, Option<Event>)> = Detail { id }.load(conn).await?;
    let (runners, events): (Vec<Runner>, Vec<Option<Event>>) = rows.into_iter().unzip();
    Ok((runners.into_iter().next(), events.into_iter().flatten().collect()))
}

/// Selects a row for each event, or one without an event. diesel has no LATERAL, with which Postgres takes the newest
/// events from their index and stops.
struct Detail {
    id: Uuid,
}

impl Detail {
    /// The statement up to the id. Built once: writing fifty column names takes longer than the rest.
    fn text() -> Result<&'static str, diesel::result::Error> {
        static TEXT: OnceLock<String> = OnceLock::new();
        if let Some(text) = TEXT.get() {
            return Ok(text);
        }
        let mut columns = PgQueryBuilder::default();
        Runner::as_select().to_sql(&mut columns, &Pg)?;
        columns.push_sql(", ");
        Event::as_select().to_sql(&mut columns, &Pg)?;
        let text = format!(
            // The limit stands in the text, so that Postgres knows it when it plans.
            "SELECT {} FROM runners LEFT JOIN LATERAL (SELECT * FROM audit_log WHERE runner_id = runners.id \
             ORDER BY id DESC LIMIT {MAX_EVENTS}) AS audit_log ON true WHERE runners.id = ",
            columns.finish()
        );
        Ok(TEXT.get_or_init(|| text))
    }
}

impl QueryId for Detail {
    type QueryId = Detail;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Detail {
    type SqlType = (SqlTypeOf<AsSelect<Runner, Pg>>, SqlTypeOf<AsSelect<Option<Event>, Pg>>);
}

impl QueryFragment<Pg> for Detail {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(Detail::text()?);
        out.push_bind_param::<SqlUuid, _>(&self.id)?;
        out.push_sql(" ORDER BY audit_log.id DESC");
        Ok(())
    }
}
