//! The endpoint for jobs of self-hosted runners.

use actix_web::web::Data;
use actix_web::{HttpResponse, get};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::query::JobsQuery;
use crate::broker::jobs::JobPage;
use crate::http::State;
use crate::http::body::Query;
use crate::http::caller::Caller;
use crate::http::problem::Problem;
use crate::store::jobs;

/// List jobs for self-hosted runners, newest first
///
/// Jobs on runners of your teams, and jobs without a team's runner in repositories that your teams have as targets; all
/// jobs for admins and auditors.
#[utoipa::path(tag = "jobs", operation_id = "list_jobs", params(JobsQuery), responses(
    (status = OK, description = "One page", body = JobList),
    Problem))]
#[get("/jobs")]
pub async fn list(
    caller: Caller,
    state: Data<State>,
    Query(query): Query<JobsQuery>,
) -> Result<HttpResponse, Problem> {
    let (filter, before, limit) = query.parse()?;
    let page = state.broker.jobs(&caller, &filter, before, limit).await?;
    Ok(HttpResponse::Ok().json(JobList::from(page)))
}

/// A workflow's job that wants a self-hosted runner.
#[derive(Serialize, ToSchema)]
pub struct Job {
    /// GitHub's.
    id: i64,
    run_id: i64,
    #[schema(example = "octo-org/octo-repo")]
    repository: String,
    #[schema(required)]
    workflow: Option<String>,
    name: String,
    labels: Vec<String>,
    /// waiting, queued, in_progress or completed.
    #[schema(example = "in_progress")]
    state: String,
    #[schema(required)]
    conclusion: Option<String>,
    #[schema(required)]
    runner_name: Option<String>,
    #[schema(required)]
    queued_at: Option<DateTime<Utc>>,
    #[schema(required)]
    started_at: Option<DateTime<Utc>>,
    #[schema(required)]
    completed_at: Option<DateTime<Utc>>,
}

impl From<jobs::Job> for Job {
    fn from(row: jobs::Job) -> Job {
        Job {
            id: row.id,
            run_id: row.run_id,
            repository: row.repository,
            workflow: row.workflow,
            name: row.name,
            labels: row.labels,
            state: row.state,
            conclusion: row.conclusion,
            runner_name: row.runner_name,
            queued_at: row.queued_at,
            started_at: row.started_at,
            completed_at: row.completed_at,
        }
    }
}

/// One page of jobs, newest first.
#[derive(Serialize, ToSchema)]
pub struct JobList {
    jobs: Vec<Job>,
    /// Give it back as `cursor` for the next page; `null` on the last, and only there: a page may be short, or empty.
    #[schema(required)]
    next_cursor: Option<String>,
}

impl From<JobPage> for JobList {
    fn from(page: JobPage) -> JobList {
        JobList {
            jobs: page.jobs.into_iter().map(Job::from).collect(),
            next_cursor: page.next.map(|id| id.to_string()),
        }
    }
}
