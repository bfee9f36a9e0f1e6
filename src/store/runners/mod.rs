//! The table `runners`: a row is written before GitHub is asked for the runner, and changes its state only if it is
//! still in the state that the caller read.

mod detail;
mod due;
mod reads;
mod row;
mod sets;
mod settle;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

pub use detail::*;
pub use due::*;
pub use reads::*;
pub use row::*;
pub use sets::*;
pub use settle::*;

use super::schema::{idempotency_keys, runners};
use super::{Conn, Error};
use crate::model::{Identity, RunnerName, Status};
use crate::policy::Grant;

/// A new row.
#[derive(Insertable)]
#[diesel(table_name = runners, treat_none_as_default_value = false)]
struct NewRunner<'a> {
    id: Uuid,
    name: &'a str,
    target: String,
    team: &'a str,
    status: &'static str,
    method: &'static str,
    labels: Vec<&'a str>,
    ephemeral: bool,
    runner_group_id: i64,
    issuer: &'a str,
    subject: &'a str,
    provisioned_by: &'a str,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    requested_at: DateTime<Utc>,
}

/// Writes the row, and with it takes the name, before GitHub is asked. `None`: a live runner of the target has the
/// name.
pub async fn claim(
    mut conn: &Conn,
    id: Uuid,
    name: &RunnerName,
    grant: &Grant,
    caller: &Identity,
    now: DateTime<Utc>,
) -> Result<Option<Runner>, Error> {
    let row = NewRunner {
        id,
        name: name.as_str(),
        target: grant.target().to_string(),
        team: grant.team(),
        status: Status::Requested.as_str(),
        method: grant.method().as_str(),
        labels: grant.labels().iter().map(|label| label.as_str()).collect(),
        ephemeral: grant.ephemeral(),
        runner_group_id: grant.group_id(),
        issuer: &caller.issuer,
        subject: &caller.subject,
        provisioned_by: &caller.display_name,
        created_at: now,
        updated_at: now,
        requested_at: now,
    };
    Ok(diesel::insert_into(runners::table)
        .values(row)
        .on_conflict_do_nothing()
        .returning(Runner::as_returning())
        .get_result(&mut conn)
        .await
        .optional()?)
}

/// `requested → failed`, and the idempotency key is free again. `may_appear`: a lost request may still make
/// its runner, so its name stays watched, as it does if a former generation's may. `false`: no longer ours to settle.
pub async fn fail(
    conn: &mut Conn,
    claim: Claim,
    why: &str,
    may_appear: bool,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let failed = diesel::update(runners::table)
        .filter(runners::id.eq(claim.id))
        .filter(runners::generation.eq(claim.generation))
        .filter(runners::status.eq(Status::Requested.as_str()))
        .set((
            runners::status.eq(Status::Failed.as_str()),
            runners::failure.eq(why),
            runners::may_appear
                .eq(runners::generation.gt(1).and(runners::may_appear).or(may_appear.into_sql::<Bool>())),
            runners::updated_at.eq(now),
            runners::deleted_at.eq(now),
        ))
        .execute(conn)
        .await?;
    if failed == 1 {
        free_key(conn, claim.id).await?;
    }
    Ok(failed == 1)
}

/// Frees the idempotency key, if any, that this runner was made for.
pub async fn free_key(conn: &mut Conn, id: Uuid) -> Result<(), Error> {
    diesel::delete(idempotency_keys::table.filter(idempotency_keys::runner_id.eq(id))).execute(conn).await?;
    Ok(())
}

/// `pending → requested`, one generation on: the repeat of an idempotency key. The policy has decided anew,
/// so labels and group are the new grant's.
pub async fn reclaim(
    conn: &mut Conn,
    claim: Claim,
    grant: &Grant,
    now: DateTime<Utc>,
) -> Result<Option<Runner>, Error> {
    let labels: Vec<&str> = grant.labels().iter().map(|label| label.as_str()).collect();
    Ok(diesel::update(runners::table)
        .filter(runners::id.eq(claim.id))
        .filter(runners::generation.eq(claim.generation))
        .filter(runners::status.eq(Status::Pending.as_str()))
        .set((
            runners::status.eq(Status::Requested.as_str()),
            runners::generation.eq(runners::generation + 1),
            runners::labels.eq(labels),
            runners::runner_group_id.eq(grant.group_id()),
            runners::updated_at.eq(now),
            runners::requested_at.eq(now),
        ))
        .returning(Runner::as_returning())
        .get_result(conn)
        .await
        .optional()?)
}

/// `requested → pending` with what `former` had before it was reclaimed: the repeat changed nothing on GitHub.
pub async fn unclaim(
    conn: &mut Conn,
    claim: Claim,
    former: &Runner,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let restored = diesel::update(runners::table)
        .filter(runners::id.eq(claim.id))
        .filter(runners::generation.eq(claim.generation))
        .filter(runners::status.eq(Status::Requested.as_str()))
        .set((
            runners::status.eq(Status::Pending.as_str()),
            runners::labels.eq(&former.labels),
            runners::runner_group_id.eq(former.runner_group_id),
            runners::updated_at.eq(now),
        ))
        .execute(conn)
        .await?;
    Ok(restored == 1)
}

/// Applies `change` to the row if it still has the status and generation of `seen`. A move that the model
/// does not allow is an error.
pub async fn change(conn: &mut Conn, seen: &Runner, change: &Change) -> Result<Option<Runner>, Error> {
    allowed(seen, change.status)?;
    Ok(diesel::update(runners::table)
        .filter(runners::id.eq(seen.id))
        .filter(runners::generation.eq(seen.generation))
        .filter(runners::status.eq(seen.status.as_str()))
        .set(change)
        .returning(Runner::as_returning())
        .get_result(conn)
        .await
        .optional()?)
}

/// As `change`, by facts that were true at `at`: a row that knows something newer by now stays as it is.
pub async fn follow(
    conn: &mut Conn,
    seen: &Runner,
    change: &Change,
    at: DateTime<Utc>,
) -> Result<Option<Runner>, Error> {
    allowed(seen, change.status)?;
    Ok(diesel::update(runners::table)
        .filter(runners::id.eq(seen.id))
        .filter(runners::generation.eq(seen.generation))
        .filter(runners::status.eq(seen.status.as_str()))
        .filter(runners::facts_at.is_null().or(runners::facts_at.lt(at)))
        .set(change)
        .returning(Runner::as_returning())
        .get_result(conn)
        .await
        .optional()?)
}

fn allowed(seen: &Runner, next: Option<&'static str>) -> Result<(), Error> {
    let Some(next) = next else { return Ok(()) };
    match next.parse::<Status>() {
        Ok(next) if next == seen.status || seen.status.may_become(next) => Ok(()),
        _ => Err(Error::Move { from: seen.status.as_str(), to: next }),
    }
}

/// How many count in the team's quota: live ones, and registration tokens that have not ended although
/// their runner is gone, since GitHub cannot take a token back. One statement, so that a row which moves from
/// one kind to the other meanwhile counts once.
pub async fn count_for_quota(conn: &mut Conn, team: &str, now: DateTime<Utc>) -> Result<i64, Error> {
    // A text that never changes, so that it is prepared once.
    struct Count<'a> {
        team: &'a str,
        now: DateTime<Utc>,
    }
    impl diesel::query_builder::QueryId for Count<'_> {
        type QueryId = Count<'static>;
        const HAS_STATIC_QUERY_ID: bool = true;
    }
    impl diesel::query_builder::Query for Count<'_> {
        type SqlType = BigInt;
    }
    impl diesel::query_builder::QueryFragment<Pg> for Count<'_> {
        fn walk_ast<'b>(&'b self, mut out: diesel::query_builder::AstPass<'_, 'b, Pg>) -> QueryResult<()> {
            let Count { team, now } = self;
            out.push_sql("SELECT (SELECT count(*) FROM runners WHERE ");
            out.push_sql(LIVE);
            out.push_sql(" AND team = ");
            out.push_bind_param::<Text, _>(*team)?;
            out.push_sql(") + (SELECT count(*) FROM runners WHERE method = 'registration_token'");
            out.push_sql(" AND status IN ('deleted', 'failed') AND team = ");
            out.push_bind_param::<Text, _>(*team)?;
            out.push_sql(" AND expires_at > ");
            out.push_bind_param::<Timestamptz, _>(now)?;
            out.push_sql(")");
            Ok(())
        }
    }
    Ok(Count { team, now }.get_result(conn).await?)
}

/// As in the partial indexes, to the letter, so that Postgres uses them.
pub(super) const LIVE: &str = "status IN ('requested', 'pending', 'active', 'offline', 'deleting')";
const WATCHED: &str = "(status = 'failed' AND may_appear OR status = 'deleted' AND may_appear)";
