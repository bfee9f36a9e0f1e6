//! The policy at a job's start: what the runner's labels are by now, held against its team's policy.

use chrono::TimeDelta;
use metrics::counter;
use serde_json::json;

use crate::broker::events::{About, Actor, Kind, record};
use crate::broker::{Broker, Error};
use crate::config::Enforcement;
use crate::github::webhook::Job;
use crate::github::{self, Cancelled};
use crate::model::{Method, Target};
use crate::store::jobs::{self, Violation};
use crate::store::runners::{self, Runner};
use crate::store::{Conn, github_cache};

/// How long the replica that claimed a violation may take to report it.
const CLAIM_TIMEOUT: TimeDelta = TimeDelta::minutes(3);

/// Where labels are known from.
struct Labels {
    labels: Vec<String>,
    source: &'static str,
}

/// How long a job's start waits for the sweep to list its runner.
const MAX_WAIT: TimeDelta = TimeDelta::minutes(5);

impl Broker {
    /// Checks a job that began on a runner of ours, and reports a violation once, however often it is delivered.
    /// `is_last`: there is no further attempt.
    pub(super) async fn check_labels(&self, job: &Job, is_last: bool) -> Result<(), Error> {
        let Some(repository) = job.repository.parse::<Target>().ok() else { return Ok(()) };
        let row = match self.row_of(job, &repository).await? {
            Some(row) => row,
            None if is_last || !self.may_come(job, &repository).await? => return Ok(()),
            None => return Err(Error::Elsewhere("the sweep has yet to tell whose runner this is")),
        };
        if job.is_self_hosted() {
            let mut conn = self.store.conn().await?;
            jobs::taken_by(&mut conn, job.id, &row.team).await?;
        }
        let found = self.labels_of(&row, job, is_last).await?;
        let forbidden = match self.policy.load().rules.team(&row.team) {
            Some(team) => team.unpermitted(&found.labels),
            // A team that was taken out of the policy may have none.
            None => crate::policy::custom(&found.labels),
        };
        let outcome = if forbidden.is_empty() { "permitted" } else { "violation" };
        counter!("job_policy_checks_total", "outcome" => outcome).increment(1);
        match forbidden.is_empty() {
            true => Ok(()),
            false => self.violation(job, &repository, &row, &found, &forbidden, is_last).await,
        }
    }

    /// The row of the runner that the job began on, even if it is gone by now.
    async fn row_of(&self, job: &Job, repository: &Target) -> Result<Option<Runner>, Error> {
        let (Some(id), Some(name)) = (job.runner_id, &job.runner_name) else { return Ok(None) };
        let owner = Target::Organization(repository.owner().to_owned());
        let mut conn = self.store.conn().await?;
        for target in [repository, &owner] {
            let row = runners::knows(&mut conn, target, id).await?;
            if let Some(row) = row.filter(|row| row.name.eq_ignore_ascii_case(name)) {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Whether a row waits under this runner's name for the sweep to list its runner. Only then is the job's one
    /// known by its id; the name alone says nothing. The delivery has woken that sweep: whom it has not found for
    /// so long it will not find any more.
    async fn may_come(&self, job: &Job, repository: &Target) -> Result<bool, Error> {
        let Some(name) = &job.runner_name else { return Ok(false) };
        let targets = [repository.to_string(), repository.owner().to_ascii_lowercase()];
        let mut conn = self.store.conn().await?;
        let rows = jobs::runners_of(&mut conn, &targets, &[], &[name.to_ascii_lowercase()]).await?;
        let since = self.clock.now() - MAX_WAIT;
        let is_of = |row: &Runner| job.started_at.is_some_and(|at| at >= row.requested_at && at > since);
        Ok(rows.iter().any(|row| row.method == Method::RegistrationToken && is_of(row)))
    }

    /// As GitHub has them now; of a runner that is gone or that GitHub will not show, and at the last attempt, as it
    /// was last seen; else as it was provisioned.
    async fn labels_of(&self, row: &Runner, job: &Job, is_last: bool) -> Result<Labels, Error> {
        let id = job.runner_id.unwrap_or_default();
        let asked = self.github.runner(&row.target, id, self.deadline()).await;
        match asked {
            Ok(Some(found)) => return Ok(Labels { labels: found.labels, source: "github" }),
            Err(err @ (github::Error::Unavailable { .. } | github::Error::RateLimited { .. }))
                if !is_last =>
            {
                return Err(err.into());
            }
            Err(err) => {
                tracing::warn!(runner = %row.id, error = %err, "its labels are taken from the last list")
            }
            Ok(None) => {}
        }
        let mut conn = self.store.conn().await?;
        Ok(match cached(&mut conn, &row.target, id).await? {
            Some(labels) => Labels { labels, source: "last list" },
            None => Labels { labels: row.labels.clone(), source: "provision" },
        })
    }

    async fn violation(
        &self,
        job: &Job,
        repository: &Target,
        row: &Runner,
        found: &Labels,
        forbidden: &[String],
        is_last: bool,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let claimed = self
            .store
            .transaction::<_, Error, _>(async |conn| Ok(jobs::claim_violation(conn, job.id, now).await?))
            .await?;
        let action = match claimed {
            Violation::Reported => return Ok(()),
            Violation::Unreported(since) if now - since < CLAIM_TIMEOUT => {
                return Err(Error::Elsewhere("another replica is at this job"));
            }
            // Whether the run was cancelled is not known, and it is not tried twice.
            Violation::Unreported(_) => "unknown: interrupted".to_owned(),
            Violation::Claimed => match self.config.label_policy_enforcement {
                Enforcement::Audit => "reported".to_owned(),
                Enforcement::Enforce => self.cancel(job, repository, is_last).await?,
            },
        };
        let mut event = self.event(Kind::LabelPolicyViolationWorkflow, Actor::System("webhooks")).about(row);
        event.error_message = Some(format!("Labels {forbidden:?} not permitted by policy"));
        let event = event.with(json!({
            "job_id": job.id,
            "run_id": job.run_id,
            "repository": repository.to_string(),
            "workflow": job.workflow,
            "job": job.name,
            "forbidden_labels": forbidden,
            "runner_labels": found.labels,
            "labels_known_from": found.source,
            "action_taken": action,
        }));
        self.store
            .transaction::<_, Error, _>(async |conn| {
                match jobs::report_violation(conn, job.id, event.timestamp).await? {
                    true => record(conn, event).await,
                    false => Ok(()),
                }
            })
            .await
    }

    /// Cancels the run, which is asked for once. What became of it, in words; `Err`: GitHub has not heard of it,
    /// and the claim is given back.
    async fn cancel(&self, job: &Job, repository: &Target, is_last: bool) -> Result<String, Error> {
        let asked = self.github.cancel_run(repository, job.run_id, self.deadline()).await;
        let not_heard = matches!(
            asked,
            Err(github::Error::RateLimited { .. } | github::Error::Unavailable { maybe_done: false, .. })
        );
        match asked {
            Ok(Cancelled::Accepted) => Ok("run cancelled".into()),
            Ok(Cancelled::NotPossible) => Ok("run not cancelled: it has ended".into()),
            Err(err) if not_heard && !is_last => {
                let mut conn = self.store.conn().await?;
                jobs::release_violation(&mut conn, job.id).await?;
                Err(err.into())
            }
            Err(err) if err.lost_answer() => Ok(format!("unknown: {err}")),
            Err(err) => Ok(format!("run not cancelled: {err}")),
        }
    }
}

/// The labels that the last list showed of a runner.
async fn cached(conn: &mut Conn, target: &Target, id: i64) -> Result<Option<Vec<String>>, Error> {
    let pages = github_cache::pages(conn, target).await?;
    Ok(pages.into_iter().find_map(|page| {
        let runners: Vec<github::Runner> = serde_json::from_value(page.runners).ok()?;
        runners.into_iter().find(|runner| runner.id == id).map(|runner| runner.labels)
    }))
}
