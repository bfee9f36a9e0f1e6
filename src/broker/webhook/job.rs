//! What deliveries about jobs change: the job's own row, and the row of the runner that took it.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::work::{Done, Failure};
use crate::broker::events::{About, Actor, Kind};
use crate::broker::{Broker, Error};
use crate::github::webhook::{Job, JobAction};
use crate::model::{Method, Status, Target};
use crate::store::deliveries::Delivery;
use crate::store::jobs::{self, JobReport};
use crate::store::runners::{Change, Runner};

/// A delivery with what it says, as far as it can be placed.
struct Placed<'a> {
    job: &'a Job,
    repository: Target,
    owner: Target,
}

impl Broker {
    /// Takes over what a batch of deliveries says, one outcome for each. `Err`: none of it was.
    pub(super) async fn follow_jobs(
        &self,
        batch: &[(Delivery, Box<Job>)],
    ) -> Result<Vec<Result<Done, Failure>>, Failure> {
        let placed: Vec<Result<Placed<'_>, Failure>> = batch.iter().map(|(_, job)| place(job)).collect();
        let known: Vec<&Placed<'_>> = placed.iter().flatten().collect();
        let stands = self.merge(&known).await?;
        let rows = self.runners_of(&known).await?;
        let mut wanted = BTreeSet::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        for placed in &placed {
            let Ok(at) = placed else {
                outcomes.push(Ok(Done::Finished));
                continue;
            };
            wanted.extend([at.repository.clone(), at.owner.clone()]);
            let row = rows.iter().find(|row| at.is_on(row));
            // A job that is further by now is no news, whatever its runner does next.
            let is_current = stands.get(&at.job.id).is_none_or(|state| *state == at.job.action.as_str());
            let may_come = at.job.action == JobAction::InProgress && rows.iter().any(|row| at.may_be_on(row));
            outcomes.push(match (row, may_come) {
                // Its labels are checked once the sweep has told whose runner it is.
                (None, true) => Ok(Done::ToPolicy),
                (row, _) => self.follow_job(at, row, is_current).await,
            });
        }
        for target in &wanted {
            self.want_sweep(target).await?;
        }
        let replace = |(outcome, placed): (Result<Done, Failure>, Result<Placed<'_>, Failure>)| match placed {
            Ok(_) => outcome,
            Err(failure) => Err(failure),
        };
        Ok(outcomes.into_iter().zip(placed).map(replace).collect())
    }

    /// Merges into the table what these say; where each job then stands.
    async fn merge(&self, known: &[&Placed<'_>]) -> Result<HashMap<i64, String>, Error> {
        // A statement takes each job once: the second delivery about it goes with the next.
        let mut rounds: Vec<Vec<JobReport>> = Vec::new();
        let mut seen: HashMap<i64, usize> = HashMap::new();
        for placed in known.iter().filter(|placed| placed.job.is_self_hosted()) {
            let round = seen.entry(placed.job.id).and_modify(|round| *round += 1).or_default();
            if rounds.len() == *round {
                rounds.push(Vec::new());
            }
            rounds[*round].push(placed.said());
        }
        if rounds.is_empty() {
            return Ok(HashMap::new());
        }
        let now = self.clock.now();
        self.store
            .transaction::<_, Error, _>(async |conn| {
                let mut stands = HashMap::new();
                for said in &rounds {
                    let merged = jobs::merge(conn, said, now).await?;
                    stands.extend(merged.into_iter().map(|job| (job.id, job.state)));
                }
                Ok(stands)
            })
            .await
    }

    /// The rows of ours that these jobs may be on.
    async fn runners_of(&self, known: &[&Placed<'_>]) -> Result<Vec<Runner>, Error> {
        let (mut targets, mut ids, mut names) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for placed in known {
            let (Some(id), Some(name)) = (placed.job.runner_id, &placed.job.runner_name) else { continue };
            targets.extend([placed.repository.to_string(), placed.owner.to_string()]);
            ids.insert(id);
            names.insert(name.to_ascii_lowercase());
        }
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let [targets, names] = [targets, names].map(|set| set.into_iter().collect::<Vec<_>>());
        let ids: Vec<i64> = ids.into_iter().collect();
        let mut conn = self.store.conn().await?;
        Ok(jobs::runners_of(&mut conn, &targets, &ids, &names).await?)
    }

    async fn follow_job(
        &self,
        at: &Placed<'_>,
        row: Option<&Runner>,
        is_current: bool,
    ) -> Result<Done, Failure> {
        let job = at.job;
        let Some(row) = row.filter(|_| job.action >= JobAction::InProgress) else {
            return Ok(Done::Finished);
        };
        if job.is_self_hosted() {
            let mut conn = self.store.conn().await.map_err(Error::from)?;
            jobs::taken_by(&mut conn, job.id, &row.team).await?;
        }
        if is_current {
            self.follow_runner(job, row).await?;
        }
        match job.action {
            JobAction::InProgress => Ok(Done::ToPolicy),
            _ => Ok(Done::Finished),
        }
    }

    /// Moves the runner's row by GitHub's times; what is older than the row's facts is left to the sweep.
    async fn follow_runner(&self, job: &Job, row: &Runner) -> Result<(), Error> {
        let now = self.clock.now();
        let is_over = job.action == JobAction::Completed;
        if row.status == Status::Deleting {
            if is_over {
                // It may be idle now, so its removal need not wait for the end of a pause.
                let change = Change { delete_after: Some(Some(now)), ..Change::default() };
                self.change_silently(None, row, &change).await?;
            }
            return Ok(());
        }
        let follows = matches!(row.status, Status::Pending | Status::Active | Status::Offline);
        let Some(at) = fact_time(job, now).filter(|_| follows) else { return Ok(()) };
        let to = match row.status {
            Status::Offline if is_over => Status::Offline,
            _ => Status::Active,
        };
        // An ephemeral runner goes with its job: the next whole list that misses it has the last word.
        let misses = i32::from(is_over && row.ephemeral);
        let change = Change {
            status: Some(to.as_str()),
            busy: Some(!is_over),
            github_runner_id: job.runner_id,
            missed_sweeps: Some(misses),
            updated_at: Some(now),
            facts_at: Some(at),
            registered_at: row.registered_at.is_none().then_some(at),
            last_seen_at: Some(at),
            ..Change::default()
        };
        let event = (to != row.status).then(|| {
            let reason = if is_over { "job completed" } else { "job started" };
            let data = json!({ "from": row.status, "to": to, "reason": reason, "job": job.id });
            self.event(Kind::RunnerStateChanged, Actor::System("webhooks")).about(row).with(data)
        });
        let moved = self.follow_facts(None, row, &change, at, event).await?;
        if moved.is_none() && misses > row.missed_sweeps && row.github_runner_id == job.runner_id {
            // The row knows something newer, but no later fact undoes that its one job is over.
            let change = Change { missed_sweeps: Some(misses), ..Change::default() };
            self.change_silently(None, row, &change).await?;
        }
        Ok(())
    }
}

/// When what the delivery says was true. GitHub cuts its times to whole seconds, so this is never later than the
/// truth: whatever the row knows of the same second stays. The end of a job comes after its beginning, even
/// within one second. A clock of GitHub's that is ahead of ours must not keep the sweep from knowing better.
fn fact_time(job: &Job, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let at = match job.action {
        JobAction::Completed => job.completed_at? + TimeDelta::microseconds(1),
        _ => job.started_at?,
    };
    Some(at.min(now))
}

fn place(job: &Job) -> Result<Placed<'_>, Failure> {
    match job.repository.parse() {
        Ok(repository @ Target::Repository { .. }) => {
            let owner = Target::Organization(repository.owner().to_owned());
            Ok(Placed { job, repository, owner })
        }
        _ => Err(Failure::Poison("its repository has no well-formed name".into())),
    }
}

impl Placed<'_> {
    /// Whether the job is on this row's runner: by GitHub's id, which is one runner's wherever it is registered. A
    /// row that has none yet is never the job's: a repository's own runner may have the name that somebody else is
    /// about to register with the owner. The sweep, which the delivery wakes, lists the row's own target.
    fn is_on(&self, row: &Runner) -> bool {
        self.is_named_like(row) && self.job.runner_id.is_some_and(|id| row.github_runner_id == Some(id))
    }

    /// Whether the job may be on this row's runner, which nobody has listed yet.
    fn may_be_on(&self, row: &Runner) -> bool {
        self.is_named_like(row)
            && row.github_runner_id.is_none()
            && row.method == Method::RegistrationToken
            && self.job.started_at.is_some_and(|at| at >= row.requested_at)
    }

    fn is_named_like(&self, row: &Runner) -> bool {
        let is_here = row.target == self.repository || row.target == self.owner;
        is_here && self.job.runner_name.as_ref().is_some_and(|name| row.name.eq_ignore_ascii_case(name))
    }

    fn said(&self) -> JobReport {
        let job = self.job;
        let has_runner = job.action >= JobAction::InProgress;
        let state_at = match job.action {
            JobAction::Completed => job.completed_at.or(job.started_at).or(job.created_at),
            JobAction::InProgress => job.started_at.or(job.created_at),
            JobAction::Queued | JobAction::Waiting => job.created_at.or(job.started_at),
        };
        let mut labels: Vec<String> = job.labels.iter().map(|label| label.to_lowercase()).collect();
        labels.sort();
        labels.dedup();
        JobReport {
            id: job.id,
            run_id: job.run_id,
            repository: self.repository.to_string(),
            owner: self.owner.to_string(),
            workflow: job.workflow.clone(),
            name: job.name.clone(),
            labels,
            state: job.action.as_str(),
            state_at: state_at.unwrap_or_default(),
            conclusion: job.conclusion.clone().filter(|_| job.action == JobAction::Completed),
            // Before a runner took the job it is nobody's, whatever is written there.
            runner_id: job.runner_id.filter(|_| has_runner),
            runner_name: job.runner_name.clone().filter(|_| has_runner && job.runner_id.is_some()),
            queued_at: job.created_at.or(job.started_at.filter(|_| !has_runner)),
            started_at: job.started_at.filter(|_| has_runner),
            completed_at: job.completed_at.filter(|_| job.action == JobAction::Completed),
        }
    }
}
