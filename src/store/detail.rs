//! One row of `runners` with its events from `audit_log`: what people look at most.

use diesel::dsl::{AsSelect, SqlTypeOf};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::audit::Event;
use super::runners::Runner;
use super::{Conn, Error};

/// A runner by its id with its newest events, newest first. One statement: a second one would cost as much again.
pub async fn by_id(conn: &mut Conn, id: Uuid, events: i64) -> Result<(Option<Runner>, Vec<Event>), Error> {
    let detail = Detail { id, events, runner: Runner::as_select(), event: Event::as_select() };
    let rows: Vec<(Runner, Option<Event>)> = detail.load(conn).await?;
    let (runners, events): (Vec<Runner>, Vec<Option<Event>>) = rows.into_iter().unzip();
    Ok((runners.into_iter().next(), events.into_iter().flatten().collect()))
}

/// A row for each event, or one without. diesel has no words for LATERAL, which is what lets Postgres take the newest
/// events from their index and stop.
struct Detail {
    id: Uuid,
    events: i64,
    runner: AsSelect<Runner, Pg>,
    event: AsSelect<Event, Pg>,
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
        out.push_sql("SELECT ");
        self.runner.walk_ast(out.reborrow())?;
        out.push_sql(", ");
        self.event.walk_ast(out.reborrow())?;
        out.push_sql(
            " FROM runners LEFT JOIN LATERAL (SELECT * FROM audit_log WHERE runner_id = runners.id \
             ORDER BY id DESC LIMIT ",
        );
        out.push_bind_param::<BigInt, _>(&self.events)?;
        out.push_sql(") AS audit_log ON true WHERE runners.id = ");
        out.push_bind_param::<SqlUuid, _>(&self.id)?;
        out.push_sql(" ORDER BY audit_log.id DESC");
        Ok(())
    }
}
