//! Jobs for self-hosted runners: who may see which, and those that no runner fits.

use chrono::TimeDelta;
use serde_json::json;

use super::caller::Caller;
use super::events::{About, Actor, Kind, record_all};
use super::moves::fence;
use super::{Broker, Error};
use crate::model::Role;
use crate::store::jobs::{self, Filter, Job, Scope};
use crate::store::leases::Lease;

/// How long a job waits for a fitting runner before that is news.
const PATIENCE: TimeDelta = TimeDelta::minutes(5);

/// How many are reported in one transaction; the next goes on.
const AT_ONCE: i64 = 500;

/// One page of jobs, newest first.
#[derive(Debug)]
pub struct JobPage {
    pub jobs: Vec<Job>,
    pub next: Option<i64>,
}

impl Broker {
    /// The jobs that this caller may see.
    pub async fn jobs(
        &self,
        caller: &Caller,
        filter: &Filter,
        before: Option<i64>,
        limit: i64,
    ) -> Result<JobPage, Error> {
        let mut conn = self.store.conn().await?;
        let mut jobs = jobs::page(&mut conn, &scope(caller), filter, before, limit + 1).await?;
        let more = jobs.len() as i64 > limit;
        jobs.truncate(limit as usize);
        let next = jobs.last().filter(|_| more).map(|job| job.id);
        Ok(JobPage { jobs, next })
    }

    /// Reports queued jobs that no live runner's labels fit for long, each once; how many.
    pub async fn report_unmatched(&self, lease: &Lease) -> Result<usize, Error> {
        let now = self.clock.now();
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                let unmatched = jobs::unmatched(conn, now - PATIENCE, now, AT_ONCE).await?;
                let events: Vec<_> = unmatched.iter().map(|job| self.no_match(job)).collect();
                if !events.is_empty() {
                    record_all(conn, &events).await?;
                }
                Ok(events.len())
            })
            .await
    }

    fn no_match(&self, job: &Job) -> crate::store::audit::NewEvent {
        let mut event = self.event(Kind::JobNoMatch, Actor::System("sync")).with(json!({
            "job_id": job.id,
            "run_id": job.run_id,
            "repository": job.repository,
            "workflow": job.workflow,
            "job": job.name,
            "labels": job.labels,
            "queued_at": job.queued_at,
        }));
        event.target = Some(job.repository.clone());
        event
    }
}

/// Members see jobs on their teams' runners and those in repositories that their teams' targets name.
fn scope(caller: &Caller) -> Scope {
    if caller.has(Role::Admin) || caller.has(Role::Auditor) {
        return Scope::All;
    }
    let targets = caller.memberships.teams.iter().flat_map(|of| of.team.targets());
    Scope::Of {
        teams: caller.teams().map(str::to_owned).collect(),
        repositories: targets.filter(|pattern| pattern.contains('/')).map(like).collect(),
    }
}

/// A target's pattern as `LIKE` understands it: only `*` stands for anything.
fn like(pattern: &str) -> String {
    let escape = |c: char| match c {
        '*' => "%".to_owned(),
        '%' | '_' | '\\' => format!("\\{c}"),
        c => c.to_ascii_lowercase().to_string(),
    };
    pattern.chars().map(escape).collect()
}
