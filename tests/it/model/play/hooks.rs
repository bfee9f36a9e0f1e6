//! Jobs, and what GitHub has to say about them: delivered out of order, more than once, late or never.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use runner_broker::broker::webhook::{Incoming, Reception};
use runner_broker::dev::github::{JobState, signature};
use tokio_postgres::Row;
use uuid::Uuid;

use super::Play;
use crate::model::told::{Payload, Told};
use crate::support::{REPO, WEBHOOK_SECRET};

const EVENT: &str = "workflow_job";
/// As a job goes through them.
const LIFE: [&str; 4] = ["waiting", "queued", "in_progress", "completed"];

impl Play {
    /// A job for the n-th runner on GitHub, which takes it if it can.
    pub(super) fn start_job(&self, n: u8) {
        let Some((target, runner)) = self.nth(n) else { return };
        let labels: &[&str] = if n.is_multiple_of(5) { &["docker"] } else { &["self-hosted", "docker"] };
        let queued = self.site.github.queue_job(REPO, "build", labels);
        self.tell(&queued);
        if let Ok(taken) = self.site.github.take_job(queued.id, target, &runner.name) {
            self.tell(&taken);
        }
    }

    /// The n-th runner's job is over.
    pub(super) fn finish_job(&self, n: u8) {
        let Some((_, runner)) = self.nth(n) else { return };
        let Some(job) = self.job_of(runner.id) else { return };
        let ended = self.site.github.end_job(job.id, "success").expect("it runs");
        if runner.ephemeral {
            self.told().gone.insert(runner.id);
        }
        self.tell(&ended);
    }

    /// Somebody takes the n-th runner off GitHub, which gives its job up.
    pub(super) fn vanish(&self, n: u8) {
        let Some((target, runner)) = self.nth(n) else { return };
        self.site.github.remove(target, &runner.name).expect("it is there");
        self.told().gone.insert(runner.id);
        if let Some(job) = self.job_of(runner.id) {
            // Refused, since the runner is gone; the job has ended nevertheless.
            self.site.github.end_job(job.id, "failure").ok();
            let ended = self.site.github.jobs().into_iter().find(|ended| ended.id == job.id);
            self.tell(&ended.expect("a job"));
        }
    }

    /// The n-th runner, which somebody has started, gets a label that nobody may have.
    pub(super) fn drift(&self, n: u8) {
        let started = self.nth(n).filter(|(_, runner)| runner.version.is_some());
        let Some((target, runner)) = started else { return };
        let mut labels: Vec<&str> = runner.labels.iter().map(String::as_str).collect();
        labels.push("stolen");
        self.told().drifted.insert(runner.id);
        self.site.github.set_labels(target, &runner.name, &labels).expect("it is there");
    }

    fn job_of(&self, runner: i64) -> Option<JobState> {
        let is_its = |job: &JobState| job.runner.as_ref().is_some_and(|(_, id, _)| *id == runner);
        self.site.github.jobs().into_iter().find(|job| job.status == "in_progress" && is_its(job))
    }

    fn tell(&self, job: &JobState) {
        let body = self.site.github.job_payload(job).to_string().into_bytes();
        let delivery = Uuid::now_v7().to_string();
        let payload = Payload { job: job.clone(), delivery, body, left: false, accepted: false };
        self.told().payloads.push(payload);
    }

    /// Most of what has not left yet, and some of what has.
    pub(super) fn deliver(&mut self, seed: u64) {
        let mut draw = StdRng::seed_from_u64(seed);
        // Payloads, each with the id under which it comes: the body is signed, the id is not.
        let mut copies: Vec<(usize, String)> = Vec::new();
        for (at, payload) in self.told().payloads.iter_mut().enumerate() {
            let same = || (at, payload.delivery.clone());
            let other = || (at, Uuid::now_v7().to_string());
            let (leaves, sent) = match (payload.left, draw.random_range(0..10)) {
                // Late.
                (false, 0) => (false, vec![]),
                // Lost.
                (false, 1) => (true, vec![]),
                (false, 2) => (true, vec![same(), same()]),
                (false, 3) => (true, vec![other(), same()]),
                (false, _) => (true, vec![same()]),
                (true, 0) => (true, vec![same()]),
                (true, 1) => (true, vec![other()]),
                (true, _) => (true, vec![]),
            };
            payload.left |= leaves;
            copies.extend(sent);
        }
        copies.shuffle(&mut draw);
        for (at, delivery) in copies {
            let replica = draw.random_range(0..self.site.replicas.len());
            self.receive(replica, at, delivery);
        }
    }

    fn receive(&mut self, replica: usize, at: usize, delivery: String) {
        let broker = self.site.replicas[replica].broker.clone();
        let Payload { body, .. } = self.told().payloads[at].clone();
        let work = self.site.replicas[replica].spawn(async move {
            let signature = signature(WEBHOOK_SECRET, &body);
            let incoming = Incoming { event: EVENT, id: &delivery, signature: &signature, body: &body };
            assert!(broker.is_signed(&incoming), "GitHub's own signature");
            broker.receive_webhook(incoming).await
        });
        self.follow(work, move |told: &mut Told, reception| {
            let payload = &mut told.payloads[at];
            match reception {
                Reception::Accepted | Reception::Known => payload.accepted = true,
                Reception::Dropped if !payload.is_kept() => {}
                other => told.breaches.push(format!("{:?} was {other:?}", payload.job)),
            }
        });
    }

    /// Every job is as far as what was accepted says, and no further than what left; nothing was told twice.
    pub(super) async fn jobs_at_the_end(&self) -> Vec<String> {
        let jobs = "SELECT id, state, runner_id, conclusion FROM jobs";
        let strange = "SELECT 'job ' || (event_data->>'job_id') || ' broke the policy ' || count(*) || ' times'
                FROM audit_log WHERE event_type = 'label_policy_violation_workflow'
                GROUP BY event_data->>'job_id' HAVING count(*) > 1
            UNION ALL SELECT 'job ' || job_id || ' broke the policy, and ' ||
                CASE WHEN reported_at IS NULL THEN 'nobody reported it' ELSE 'no event says so' END
                FROM job_violations v WHERE reported_at IS NULL OR NOT EXISTS (SELECT FROM audit_log
                    WHERE event_type = 'label_policy_violation_workflow' AND event_data->>'job_id' = job_id::text)
            UNION ALL SELECT 'a delivery was set aside: ' || failure
                FROM webhook_deliveries WHERE finished_at IS NOT NULL AND failure IS NOT NULL";
        let rows = self.site.db.query(jobs, &[]).await.expect("the jobs");
        let strange = self.site.db.query(strange, &[]).await.expect("the violations");
        let mut breaches: Vec<String> = strange.iter().map(|row| row.get(0)).collect();
        let rows: BTreeMap<i64, &Row> = rows.iter().map(|row| (row.get(0), row)).collect();
        let told = self.told();
        let mut said: BTreeMap<i64, Vec<&Payload>> = BTreeMap::new();
        for payload in told.payloads.iter().filter(|payload| payload.is_kept() && payload.left) {
            said.entry(payload.job.id).or_default().push(payload);
        }
        let rank = |state: &str| LIFE.iter().position(|known| *known == state);
        for (id, payloads) in &said {
            // In the order in which they happened.
            let accepted =
                payloads.iter().rfind(|payload| payload.accepted).map(|payload| payload.job.status);
            let last = &payloads[payloads.len() - 1].job;
            let row = rows.get(id);
            let state = row.map(|row| row.get::<_, &str>(1));
            let is_right = match (accepted, state) {
                (accepted, Some(state)) => {
                    accepted.map(rank) <= Some(rank(state)) && rank(state) <= rank(last.status)
                }
                (accepted, None) => accepted.is_none(),
            };
            let runner = row.and_then(|row| row.get::<_, Option<i64>>(2));
            let expected = last.runner.as_ref().map(|(_, id, _)| *id);
            let is_its = runner == expected || state.is_none_or(|state| rank(state) < rank("in_progress"));
            let conclusion = row.and_then(|row| row.get::<_, Option<&str>>(3));
            let has_end = state != Some("completed") || conclusion == last.conclusion;
            if !is_right || !is_its || !has_end {
                breaches.push(format!(
                    "job {id} is {state:?} on {runner:?} with {conclusion:?}; {accepted:?} was accepted of {last:?}"
                ));
            }
        }
        breaches.extend(
            rows.keys().filter(|id| !said.contains_key(id)).map(|id| format!("nobody spoke of job {id}")),
        );
        breaches
    }
}
