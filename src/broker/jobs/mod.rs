//! Jobs for self-hosted runners: who may see which, and those that no runner fits.

pub mod fit;

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde_json::json;

use super::events::{About, Actor, Kind, record_all};
use super::lease::fence;
use super::people::caller::Caller;
use super::webhook::Lane;
use super::{Broker, Error};
use crate::model::Role;
use crate::store::deliveries;
use crate::store::jobs::{self, Filter, Job, Scope};
use crate::store::leases::Lease;

/// How long a job waits for a fitting runner before that is news.
const UNMATCHED_AFTER: TimeDelta = TimeDelta::minutes(5);

/// How long what one repository wants is not said again.
const REPEAT_AFTER: TimeDelta = TimeDelta::hours(1);

/// How many are reported in one transaction; the next goes on.
const AT_ONCE: i64 = 500;

/// One page of jobs, newest first.
#[derive(Debug)]
pub struct JobPage {
    /// The jobs of this page.
    pub jobs: Vec<Job>,
    /// Where the next page begins; `None`: this is the last.
    pub next: Option<i64>,
}

impl Broker {
    /// The jobs that this caller may see.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn jobs(
        &self,
        caller: &Caller,
        filter: &Filter,
        before: Option<i64>,
        limit: i64,
    ) -> Result<JobPage, Error> {
        let mut conn = self.store.conn().await?;
        let (jobs, next) = jobs::page(&mut conn, &scope(caller), filter, before, limit).await?;
        Ok(JobPage { jobs, next })
    }

    /// Reports queued jobs that no live runner's labels fit for long: one event an hour for those of one repository
    /// that ask for the same labels; how many events.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] or [`Error::Store`].
    pub async fn report_unmatched(&self, lease: &Lease) -> Result<usize, Error> {
        let now = self.clock.now();
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                // What waits may be their start.
                if deliveries::is_due(conn, Lane::Jobs.as_str(), now).await? {
                    return Ok(0);
                }
                let unmatched =
                    jobs::unmatched(conn, now - UNMATCHED_AFTER, now - REPEAT_AFTER, now, AT_ONCE).await?;
                let mut alike: BTreeMap<(&str, &[String]), Vec<&Job>> = BTreeMap::new();
                for job in &unmatched {
                    alike.entry((&job.repository, &job.labels)).or_default().push(job);
                }
                let mut alike: Vec<_> = alike.into_values().collect();
                alike.sort_by_key(|jobs| jobs.first().map(|job| job.id));
                let events: Vec<_> = alike.iter().filter_map(|jobs| self.no_match(jobs)).collect();
                if !events.is_empty() {
                    record_all(conn, &events).await?;
                }
                Ok(events.len())
            })
            .await
    }

    /// The oldest of these stands for all.
    fn no_match(&self, jobs: &[&Job]) -> Option<crate::store::audit::NewEvent> {
        let job = jobs.first()?;
        let mut event = self.event(Kind::JobNoMatch, Actor::System("sync")).with(json!({
            "job_id": job.id,
            "run_id": job.run_id,
            "repository": job.repository,
            "workflow": job.workflow,
            "job": job.name,
            "labels": job.labels,
            "queued_at": job.queued_at,
            "jobs": jobs.len(),
        }));
        event.target = Some(job.repository.clone());
        Some(event)
    }
}

/// Members see jobs on their teams' runners, and in repositories that their teams' targets name those that no team's
/// runner took.
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
