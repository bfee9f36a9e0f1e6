//! The endpoint for statistics.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::web::Data;
use actix_web::{HttpResponse, get};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::teams::Answer;
use crate::broker::numbers::{LONGEST, Outcomes, Provisions, Stats, Window};
use crate::github::BudgetStatus;
use crate::http::State;
use crate::http::api::query::{Faults, time};
use crate::http::body::Query;
use crate::http::caller::Auditor;
use crate::http::problem::Problem;

/// The time that the numbers are about.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct StatsQuery {
    /// A date, or a time (RFC 3339); a day before `until` unless given, at most 92 days before it.
    #[param(example = "2026-11-01")]
    since: Option<String>,
    /// A date, or a time (RFC 3339); now unless given.
    until: Option<String>,
}

impl StatsQuery {
    fn parse(self, now: DateTime<Utc>) -> Result<Window, Problem> {
        let mut faults = Faults::default();
        let until = faults.parse("until", self.until.as_deref(), time);
        let end = until.unwrap_or(now);
        let since = faults.parse("since", self.since.as_deref(), |text| match time(text)? {
            since if since < end && end - since <= LONGEST => Ok(since),
            _ => Err("before until, and at most 92 days"),
        });
        faults.or(Window { since, until })
    }
}

/// Get statistics
///
/// Computed at most every 15 seconds. Buckets are hours for up to 48 hours, else days (UTC). Admins and auditors.
#[utoipa::path(tag = "admin", operation_id = "get_stats", params(StatsQuery), responses(
    (status = OK, description = "The numbers", body = Numbers),
    Problem))]
#[get("/admin/stats")]
pub async fn get(_: Auditor, state: Data<State>, Query(query): Query<StatsQuery>) -> Answer {
    let window = query.parse(state.broker.clock().now())?;
    Ok(HttpResponse::Ok().json(Numbers::from(state.broker.stats(window).await?)))
}

/// The numbers of a window of time.
#[derive(Serialize, ToSchema)]
pub struct Numbers {
    computed_at: DateTime<Utc>,
    /// Rounded down to a whole bucket.
    since: DateTime<Utc>,
    /// Rounded up to a whole bucket.
    until: DateTime<Utc>,
    /// `hour` or `day`.
    #[schema(example = "hour")]
    bucket: &'static str,
    /// Live runners by their state.
    #[schema(example = json!({ "requested": 0, "pending": 3, "active": 40, "offline": 1, "deleting": 0 }))]
    runners: BTreeMap<&'static str, i64>,
    /// Every bucket, the earliest first.
    provisions: Vec<BucketOutcomes>,
    /// GitHub's budgets, as the replica that answers knows them.
    github: Vec<Budget>,
    /// The callers with the most requests for runners in the last 24 hours.
    top_callers: Vec<Caller>,
}

/// How provisions ended within a bucket.
#[derive(Serialize, ToSchema)]
pub struct BucketOutcomes {
    start: DateTime<Utc>,
    provisioned: i64,
    refused: i64,
    failed: i64,
    teams: Vec<TeamOutcomes>,
}

/// How a team's provisions ended within a bucket.
#[derive(Serialize, ToSchema)]
pub struct TeamOutcomes {
    /// `null`: refused before a team was settled.
    #[schema(required)]
    team: Option<String>,
    provisioned: i64,
    refused: i64,
    failed: i64,
}

impl BucketOutcomes {
    fn new(start: DateTime<Utc>, of: &Provisions) -> BucketOutcomes {
        let team = |(team, outcomes): (&Option<String>, &Outcomes)| TeamOutcomes {
            team: team.clone(),
            provisioned: outcomes.provisioned,
            refused: outcomes.refused,
            failed: outcomes.failed,
        };
        let Outcomes { provisioned, refused, failed } = of.all;
        BucketOutcomes { start, provisioned, refused, failed, teams: of.by_team.iter().map(team).collect() }
    }
}

/// One hourly budget of GitHub's.
#[derive(Serialize, ToSchema)]
pub struct Budget {
    /// The installation's id, or `app` for calls that the App makes as itself.
    installation: String,
    #[schema(example = "core")]
    resource: String,
    limit: u64,
    remaining: u64,
    resets_at: DateTime<Utc>,
    /// Until when GitHub refuses all calls.
    #[schema(required)]
    paused_until: Option<DateTime<Utc>>,
}

impl From<&BudgetStatus> for Budget {
    fn from(budget: &BudgetStatus) -> Budget {
        Budget {
            installation: budget.installation.clone(),
            resource: budget.resource.clone(),
            limit: budget.limit,
            remaining: budget.remaining,
            resets_at: budget.resets_at,
            paused_until: budget.paused_until,
        }
    }
}

/// A caller who requests runners.
#[derive(Serialize, ToSchema)]
#[schema(as = TopCaller)]
pub struct Caller {
    issuer: String,
    subject: String,
    display_name: String,
    provisioned: i64,
    /// Refused or failed.
    not_provisioned: i64,
}

impl From<Arc<Stats>> for Numbers {
    fn from(stats: Arc<Stats>) -> Numbers {
        let callers = stats.top_callers.iter().map(|one| Caller {
            issuer: one.issuer.clone(),
            subject: one.subject.clone(),
            display_name: one.display_name.clone(),
            provisioned: one.provisioned,
            not_provisioned: one.not_provisioned,
        });
        Numbers {
            computed_at: stats.computed_at,
            since: stats.since,
            until: stats.until,
            bucket: stats.bucket.as_str(),
            runners: stats.runners.iter().map(|(status, count)| (status.as_str(), *count)).collect(),
            provisions: stats.provisions.iter().map(|(start, of)| BucketOutcomes::new(*start, of)).collect(),
            github: stats.github.iter().map(Budget::from).collect(),
            top_callers: callers.collect(),
        }
    }
}
