//! The endpoint for the status of the sweep.

use actix_web::web::Data;
use actix_web::{HttpResponse, get};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::broker::sweep::status::SyncStatus;
use crate::http::State;
use crate::http::caller::Auditor;
use crate::http::problem::Problem;
use crate::store::sync_targets::SyncTarget;

/// Get the status of the sweep
///
/// For admins and auditors.
#[utoipa::path(tag = "admin", operation_id = "get_sync_status", responses(
    (status = OK, description = "Who leads, and each target's last sweep", body = Sync),
    Problem))]
#[get("/admin/sync/status")]
pub async fn status(_: Auditor, state: Data<State>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(Sync::from(state.broker.sync_status().await?)))
}

/// Who leads, what became of each target's last sweep, and what is overdue.
#[derive(Serialize, ToSchema)]
pub struct Sync {
    /// The replica that sweeps; `null`: none does at this moment.
    #[schema(required)]
    leader: Option<Uuid>,
    /// Grows with each new leader.
    epoch: i64,
    #[schema(required)]
    lease_expires_at: Option<DateTime<Utc>>,
    targets: Vec<SweptTarget>,
    overdue: Overdue,
}

/// One target's last sweep.
#[derive(Serialize, ToSchema)]
pub struct SweptTarget {
    #[schema(example = "octo-org")]
    target: String,
    #[schema(required)]
    started_at: Option<DateTime<Utc>>,
    /// Before `started_at` while a sweep is under way.
    #[schema(required)]
    finished_at: Option<DateTime<Utc>>,
    /// `complete`, `incomplete` (the list could not be read to its end, so nothing was changed) or `postponed`
    /// (too few calls left in GitHub's rate limit); `null`: never swept.
    #[schema(required, example = "complete")]
    result: Option<String>,
    #[schema(required)]
    error: Option<String>,
    /// By the last complete sweep.
    #[schema(required)]
    runners_seen: Option<i64>,
}

/// Overdue work; all zero and empty if there is none.
#[derive(Serialize, ToSchema)]
pub struct Overdue {
    /// Interrupted provisions, to be completed.
    interrupted_provisions: i64,
    /// Removals that wait for an idle runner or for GitHub.
    deletions_waiting: i64,
    /// Runners that have not started by their deadline, and registration tokens that ended unused.
    start_deadlines_passed: i64,
    /// Targets without a complete sweep for more than three intervals.
    targets: Vec<String>,
}

impl From<SyncStatus> for Sync {
    fn from(now: SyncStatus) -> Sync {
        let lease = now.lease.as_ref();
        Sync {
            leader: lease.filter(|lease| lease.stands).map(|lease| lease.holder),
            epoch: lease.map_or(0, |lease| lease.epoch),
            lease_expires_at: lease.map(|lease| lease.expires_at),
            targets: now.targets.into_iter().map(SweptTarget::from).collect(),
            overdue: Overdue {
                interrupted_provisions: now.backlog.interrupted,
                deletions_waiting: now.backlog.deleting,
                start_deadlines_passed: now.backlog.unstarted,
                targets: now.unswept.iter().map(ToString::to_string).collect(),
            },
        }
    }
}

impl From<SyncTarget> for SweptTarget {
    fn from(row: SyncTarget) -> SweptTarget {
        SweptTarget {
            target: row.target.to_string(),
            started_at: row.started_at,
            finished_at: row.finished_at,
            result: row.result,
            error: row.error,
            runners_seen: row.runners_seen,
        }
    }
}
