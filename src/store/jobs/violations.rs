//! The table `job_violations`: each job that violates the policy is dealt with once.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::store::schema::job_violations;
use crate::store::{Conn, Error};

/// Who deals with a job that violates the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// We do, from now on.
    Claimed,
    /// A replica claimed it at this time and has not reported it.
    Unreported(DateTime<Utc>),
    /// Nobody: it was reported.
    Reported,
}

/// Claims a violation. Call it before acting on the violation.
pub async fn claim_violation(conn: &mut Conn, job: i64, now: DateTime<Utc>) -> Result<Violation, Error> {
    let fresh = diesel::insert_into(job_violations::table)
        .values((job_violations::job_id.eq(job), job_violations::claimed_at.eq(now)))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    if fresh == 1 {
        return Ok(Violation::Claimed);
    }
    let (claimed, reported): (DateTime<Utc>, Option<DateTime<Utc>>) = job_violations::table
        .find(job)
        .select((job_violations::claimed_at, job_violations::reported_at))
        .first(conn)
        .await?;
    Ok(if reported.is_some() { Violation::Reported } else { Violation::Unreported(claimed) })
}

/// Gives the claim back, if nothing was done about the violation.
pub async fn release_violation(conn: &mut Conn, job: i64) -> Result<(), Error> {
    diesel::delete(job_violations::table.find(job).filter(job_violations::reported_at.is_null()))
        .execute(conn)
        .await?;
    Ok(())
}

/// Marks the violation as reported. `false`: another replica has reported it meanwhile.
pub async fn report_violation(conn: &mut Conn, job: i64, now: DateTime<Utc>) -> Result<bool, Error> {
    let reported =
        diesel::update(job_violations::table.find(job).filter(job_violations::reported_at.is_null()))
            .set(job_violations::reported_at.eq(now))
            .execute(conn)
            .await?;
    Ok(reported == 1)
}
