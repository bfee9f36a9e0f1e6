//! The table `runners`: a row is written before GitHub hears of the runner, and moves only from the state
//! that its caller saw.

mod detail;
mod due;
mod reads;
mod sets;
mod settle;

use std::str::FromStr;

use chrono::{DateTime, Utc};
use diesel::deserialize::{self, Queryable};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

pub use detail::*;
pub use due::*;
pub use reads::*;
pub use sets::*;
pub use settle::*;

use super::schema::{idempotency_keys, runners};
use super::{Conn, Error};
use crate::model::{Identity, Method, RunnerName, Status, Target};
use crate::policy::Grant;

/// A runner as the table has it.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = runners, check_for_backend(Pg))]
pub struct Runner {
    pub id: Uuid,
    pub name: String,
    pub target: Target,
    pub team: String,
    pub status: Status,
    pub method: Method,
    /// All of them, lower-cased: the system's, the team's and those asked for.
    pub labels: Vec<String>,
    pub ephemeral: bool,
    pub busy: bool,
    pub runner_group_id: i64,
    pub github_runner_id: Option<i64>,
    /// Grows by one with each repeat of an idempotency key.
    pub generation: i32,
    pub issuer: String,
    pub subject: String,
    pub provisioned_by: String,
    /// The status that `deleting` goes back to when GitHub says busy.
    pub deleting_from: Option<String>,
    pub delete_attempts: i32,
    pub delete_after: Option<DateTime<Utc>>,
    /// Whether the removal of a busy runner waits until it is idle.
    pub wait_until_idle: bool,
    pub missed_sweeps: i32,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub requested_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub facts_at: Option<DateTime<Utc>>,
    pub registered_at: Option<DateTime<Utc>>,
    pub last_seen_at: Option<DateTime<Utc>>,
    pub deleted_at: Option<DateTime<Utc>>,
    /// What GitHub showed instead of `labels`, once that has been reported.
    pub drifted_labels: Option<Vec<String>>,
}

/// Lets diesel read a word of the model from a text column.
macro_rules! read_as_text {
    ($($word:ty),+) => { $(
        impl Queryable<Text, Pg> for $word {
            type Row = String;
            fn build(text: String) -> deserialize::Result<$word> {
                Ok(<$word>::from_str(&text)?)
            }
        }
    )+ };
}
read_as_text!(Status, Method, Target);

/// What a fresh row says.
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

/// Takes the name before GitHub hears of it. `None`: a live runner already has it.
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

/// The generation of a row that a provision works on; a later one makes its answers stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub id: Uuid,
    pub generation: i32,
}

impl Runner {
    pub fn claim(&self) -> Claim {
        Claim { id: self.id, generation: self.generation }
    }

    /// The row as `settle` left it.
    pub fn settled(&self, issued: Issued<'_>, now: DateTime<Utc>) -> Runner {
        Runner {
            status: Status::Pending,
            github_runner_id: issued.github_runner_id,
            expires_at: Some(issued.expires_at),
            updated_at: now,
            facts_at: Some(now),
            registered_at: issued.github_runner_id.map(|_| now),
            missed_sweeps: 0,
            ..self.clone()
        }
    }
}

/// What GitHub gave for a claim.
#[derive(Clone, Copy, Debug)]
pub struct Issued<'a> {
    /// `None` for registration tokens: GitHub knows no runner yet.
    pub github_runner_id: Option<i64>,
    pub credential_sha256: &'a str,
    pub expires_at: DateTime<Utc>,
}

/// `requested → failed`, and the idempotency key is free again. `may_appear`: a lost request may still make
/// its runner, so its name stays watched. `false`: no longer ours to settle.
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
            runners::may_appear.eq(may_appear),
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

/// A move of one row. The row changes only if it is still as the caller saw it.
#[derive(Clone, Debug, Default, AsChangeset)]
#[diesel(table_name = runners)]
pub struct Change {
    pub status: Option<&'static str>,
    pub busy: Option<bool>,
    pub github_runner_id: Option<i64>,
    pub deleting_from: Option<Option<&'static str>>,
    pub delete_attempts: Option<i32>,
    pub delete_after: Option<Option<DateTime<Utc>>>,
    pub wait_until_idle: Option<bool>,
    pub drifted_labels: Option<Vec<String>>,
    pub labels: Option<Vec<String>>,
    pub runner_group_id: Option<i64>,
    pub missed_sweeps: Option<i32>,
    pub failure: Option<String>,
    pub updated_at: Option<DateTime<Utc>>,
    pub facts_at: Option<DateTime<Utc>>,
    pub registered_at: Option<DateTime<Utc>>,
    pub last_seen_at: Option<DateTime<Utc>>,
    pub deleted_at: Option<DateTime<Utc>>,
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
const WATCHED: &str = "status = 'failed' AND may_appear";
