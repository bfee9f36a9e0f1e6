//! One row of `runners` with its events from `audit_log`: what people look at most.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::audit::Event;
use super::runners::Runner;
use super::schema::{audit_log, runners};
use super::{Conn, Error};

/// A runner by its id with its newest events, newest first. Both are asked for at once, so that it is one way
/// to Postgres and back.
pub async fn by_id(conn: &mut Conn, id: Uuid, events: i64) -> Result<(Option<Runner>, Vec<Event>), Error> {
    let conn: &Conn = conn;
    let (mut first, mut second) = (conn, conn);
    let runner = runners::table.find(id).select(Runner::as_select()).first(&mut first);
    let events = audit_log::table
        .filter(audit_log::runner_id.eq(id))
        .order(audit_log::id.desc())
        .limit(events)
        .select(Event::as_select())
        .load(&mut second);
    let (runner, events) = futures_util::future::join(runner, events).await;
    Ok((runner.optional()?, events?))
}
