//! Webhooks as GitHub makes them: payloads, deliveries that are sent, listed and sent again; and jobs, which most
//! of them are about.

use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::{Answer, Request, linked, paged};
use super::life::{Refused, parse};
use super::records::{Delivery, JobState, Outgoing};
use super::shapes;
use super::state::State;
use crate::model::Target;

/// `sha256=…` over the raw body.
pub fn signature(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("sha256={}", hex::encode(hmac::sign(&key, body).as_ref()))
}

fn refused(status: u16, message: &str) -> Refused {
    Refused { status, message: message.to_owned() }
}

impl State {
    /// Delivers an event if there is a hook.
    pub fn emit(&mut self, event: &str, body: &Value) {
        if self.hooks.hook.is_none() {
            return;
        }
        let delivery = Delivery {
            id: 0,
            guid: Uuid::from_u128(rand::random()).to_string(),
            event: event.to_owned(),
            action: body["action"].as_str().map(str::to_owned),
            body: body.to_string().into_bytes(),
            delivered_at: self.clock.now(),
            redelivery: false,
            status_code: 0,
        };
        self.dispatch(delivery);
    }

    /// An attempt as if it had been made now and answered so.
    pub fn note_delivery(&mut self, event: &str, status_code: u16) {
        let id = self.next_id() as i64;
        let delivered_at = self.clock.now();
        self.hooks.deliveries.push(Delivery {
            id,
            guid: Uuid::from_u128(rand::random()).to_string(),
            event: event.to_owned(),
            action: None,
            body: b"{}".to_vec(),
            delivered_at,
            redelivery: false,
            status_code,
        });
    }

    fn dispatch(&mut self, mut delivery: Delivery) {
        delivery.id = self.next_id() as i64;
        delivery.delivered_at = self.clock.now();
        delivery.status_code = 0;
        self.hooks.deliveries.push(delivery.clone());
        if self.hooks.losing > 0 {
            self.hooks.losing -= 1;
            return;
        }
        if let (Some(outbox), Some(hook)) = (&self.hooks.outbox, self.hooks.hook.clone()) {
            // Refused only when GitHub itself ends.
            let _ = outbox.send(Outgoing { hook, delivery });
        }
    }

    /// A workflow run with one job of these labels.
    pub fn queue_job(&mut self, repository: &str, name: &str, labels: &[impl AsRef<str>]) -> JobState {
        let (id, run_id) = (self.next_id() as i64, self.next_id() as i64);
        let job = JobState {
            id,
            run_id,
            repository: repository.to_owned(),
            name: name.to_owned(),
            labels: labels.iter().map(|label| label.as_ref().to_owned()).collect(),
            status: "queued",
            conclusion: None,
            runner: None,
            created_at: self.clock.now(),
            started_at: None,
            completed_at: None,
        };
        self.hooks.jobs.push(job.clone());
        let payload = self.job_payload(&job);
        self.emit("workflow_job", &payload);
        job
    }

    /// A runner, online and idle, takes a job.
    pub fn take_job(&mut self, id: i64, target: &str, runner: &str) -> Result<JobState, Refused> {
        let now = self.clock.now();
        self.start_job(target, runner)?;
        let found = parse(target).ok().and_then(|target| self.scopes.get(&target)?.named(runner).cloned());
        let job = self.hooks.jobs.iter_mut().find(|job| job.id == id && job.status == "queued");
        let (Some(job), Some(found)) = (job, found) else { return Err(refused(404, "no such queued job")) };
        job.status = "in_progress";
        job.started_at = Some(now);
        job.runner = Some((target.to_owned(), found.id, found.name));
        let job = job.clone();
        let payload = self.job_payload(&job);
        self.emit("workflow_job", &payload);
        Ok(job)
    }

    /// A job ends, whether or not it ever began; its runner is idle, or gone if ephemeral.
    pub fn end_job(&mut self, id: i64, conclusion: &'static str) -> Result<JobState, Refused> {
        let now = self.clock.now();
        let job = self.hooks.jobs.iter_mut().find(|job| job.id == id && job.status != "completed");
        let Some(job) = job else { return Err(refused(404, "no such job under way")) };
        job.status = "completed";
        job.conclusion = Some(conclusion);
        job.completed_at = Some(now);
        let job = job.clone();
        if let Some((target, _, name)) = &job.runner {
            self.finish_job(target, name)?;
        }
        let payload = self.job_payload(&job);
        self.emit("workflow_job", &payload);
        Ok(job)
    }

    /// `POST …/actions/runs/{id}/cancel`.
    pub fn cancel_run(&mut self, target: &Target, run: &str) -> Answer {
        let of_run = |job: &JobState| {
            job.run_id.to_string() == run && job.repository.eq_ignore_ascii_case(&target.to_string())
        };
        let jobs: Vec<JobState> = self.hooks.jobs.iter().filter(|job| of_run(job)).cloned().collect();
        let open: Vec<i64> = jobs.iter().filter(|job| job.status != "completed").map(|job| job.id).collect();
        if !jobs.is_empty() && open.is_empty() {
            return Answer::error(409, "Cannot cancel a workflow run that is completed.");
        }
        for id in open {
            if let Err(refused) = self.end_job(id, "cancelled") {
                return Answer::from(refused);
            }
        }
        Answer::json(202, &json!({}))
    }

    /// What `workflow_job` says of a job as it stands.
    pub fn job_payload(&self, job: &JobState) -> Value {
        let time = |at: Option<DateTime<Utc>>| at.map(shapes::time);
        let (owner, name) = job.repository.split_once('/').unwrap_or_default();
        let url = format!("{}/repos/{}/actions", self.url, job.repository);
        let runner = job.runner.as_ref();
        let installation = self.installation(owner).map(|installation| json!({ "id": installation.id }));
        json!({
            "action": job.status,
            "workflow_job": {
                "id": job.id, "run_id": job.run_id, "run_attempt": 1, "workflow_name": "CI", "name": job.name,
                "head_branch": "main", "head_sha": "0".repeat(40), "node_id": format!("CR_{}", job.id),
                "url": format!("{url}/jobs/{}", job.id), "run_url": format!("{url}/runs/{}", job.run_id),
                "status": job.status, "conclusion": job.conclusion, "labels": job.labels, "steps": [],
                "created_at": shapes::time(job.created_at),
                "started_at": time(job.started_at.or(Some(job.created_at))),
                "completed_at": time(job.completed_at),
                "runner_id": runner.map(|(_, id, _)| id), "runner_name": runner.map(|(_, _, name)| name),
                "runner_group_id": runner.map(|_| 1), "runner_group_name": runner.map(|_| "Default"),
            },
            "repository": {
                "id": 1, "name": name, "full_name": job.repository, "private": true, "owner": { "login": owner },
            },
            "sender": { "login": owner, "id": 1, "type": "User" },
            "installation": installation,
        })
    }

    /// What `installation` says; `None`: no such account.
    pub fn installation_payload(&self, action: &str, owner: &str, id: u64) -> Option<Value> {
        let account = self.accounts.get(&owner.to_lowercase())?;
        let installation = self.installations.get(&id);
        Some(json!({
            "action": action,
            "installation": {
                "id": id, "app_id": self.app_id, "account": shapes::account(account, &self.url),
                "repository_selection": "all",
                // As GitHub writes them: some times are numbers.
                "created_at": installation.map(|of| of.created_at.timestamp()),
                "suspended_at": installation.and_then(|of| of.suspended_at).map(shapes::time),
            },
            "repositories": [],
            "sender": { "login": owner, "id": 1, "type": "User" },
        }))
    }

    pub fn emit_installation(&mut self, action: &str, owner: &str, id: u64) {
        if let Some(payload) = self.installation_payload(action, owner, id) {
            self.emit("installation", &payload);
        }
    }

    /// Puts a repository into the installation's selection, or takes it out.
    pub fn select(&mut self, repository: &Target, is_selected: bool) {
        let changed = match is_selected {
            true => self.deselected.remove(repository),
            false => self.deselected.insert(repository.clone()),
        };
        let Some(id) = self.installation(repository.owner()).map(|of| of.id).filter(|_| changed) else {
            return;
        };
        let action = if is_selected { "added" } else { "removed" };
        let named = json!([{ "id": 1, "full_name": repository.to_string(), "private": true }]);
        if let Some(mut payload) = self.installation_payload(action, repository.owner(), id) {
            payload["repositories_added"] = if is_selected { named.clone() } else { json!([]) };
            payload["repositories_removed"] = if is_selected { json!([]) } else { named };
            payload["repository_selection"] = json!("selected");
            self.emit("installation_repositories", &payload);
        }
    }
}

/// `GET /app/hook/config`. The secret itself is never shown.
pub(super) fn config(state: &State) -> Answer {
    let Some(hook) = &state.hooks.hook else {
        return Answer::json(200, &json!({ "content_type": "form", "insecure_ssl": "0" }));
    };
    let mut config = json!({
        "url": hook.url, "content_type": hook.content_type,
        "insecure_ssl": if hook.is_insecure { "1" } else { "0" },
    });
    if !hook.secret.is_empty() {
        config["secret"] = json!("********");
    }
    Answer::json(200, &config)
}

/// `GET /app/hook/deliveries`: the newest first. The cursor is the number of the page.
pub(super) fn list(state: &State, request: &Request) -> Answer {
    let wanted = request.param("status");
    let fits = |delivery: &&Delivery| match wanted.as_deref() {
        Some("failure") => !is_ok(delivery),
        Some("success") => is_ok(delivery),
        _ => true,
    };
    let all: Vec<Value> = state.hooks.deliveries.iter().rev().filter(fits).map(item).collect();
    // The same pages under another name.
    let query = request.query.replace("cursor=", "page=");
    let paging = Request { query: &query, ..*request };
    let (page, link) = paged(&paging, all.len());
    linked(Answer::json(200, &all[page]), link.map(|link| link.replace("&page=", "&cursor=")))
}

/// `POST /app/hook/deliveries/{id}/attempts`.
pub(super) fn redeliver(state: &mut State, id: &str) -> Answer {
    let found = state.hooks.deliveries.iter().find(|delivery| delivery.id.to_string() == id).cloned();
    let Some(mut delivery) = found else { return Answer::not_found() };
    delivery.redelivery = true;
    state.dispatch(delivery);
    Answer::json(202, &json!({}))
}

fn is_ok(delivery: &Delivery) -> bool {
    (200..300).contains(&delivery.status_code)
}

fn item(delivery: &Delivery) -> Value {
    json!({
        "id": delivery.id, "guid": delivery.guid, "delivered_at": shapes::time(delivery.delivered_at),
        "redelivery": delivery.redelivery, "duration": 0.1,
        "status": if is_ok(delivery) { "OK".to_owned() } else { format!("Invalid HTTP Response: {}", delivery.status_code) },
        "status_code": delivery.status_code, "event": delivery.event, "action": delivery.action,
        "installation_id": null, "repository_id": null, "throttled_at": null,
    })
}

/// Sends one delivery, as GitHub does; the status that came back, or 0.
pub(super) async fn send(client: &reqwest::Client, out: &Outgoing) -> u16 {
    let Outgoing { hook, delivery } = out;
    let (content_type, body) = match hook.content_type.as_str() {
        "json" => ("application/json", delivery.body.clone()),
        _ => ("application/x-www-form-urlencoded", form(&delivery.body)),
    };
    let mut request = client
        .post(&hook.url)
        .header("content-type", content_type)
        .header("user-agent", "GitHub-Hookshot/dev")
        .header("x-github-event", &delivery.event)
        .header("x-github-delivery", &delivery.guid);
    if !hook.secret.is_empty() {
        request = request.header("x-hub-signature-256", signature(&hook.secret, &body));
    }
    let sent = request.body(body).send().await;
    sent.map_or(0, |answer| answer.status().as_u16())
}

fn form(payload: &[u8]) -> Vec<u8> {
    let mut form = b"payload=".to_vec();
    form.extend(url::form_urlencoded::byte_serialize(payload).flat_map(str::bytes));
    form
}
