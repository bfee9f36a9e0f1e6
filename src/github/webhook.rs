//! Webhooks as GitHub sends them: the signature over the raw bytes, and of the body only what is used. Knows no
//! HTTP and asks nothing.

use std::fmt;

use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};

/// What signatures are checked with; never shown.
pub struct WebhookKey(hmac::Key);

impl fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookKey")
    }
}

impl WebhookKey {
    /// The App's webhook secret (`GITHUB_WEBHOOK_SECRET`).
    pub fn new(secret: &SecretString) -> WebhookKey {
        WebhookKey(hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes()))
    }

    /// Whether `signature` (the header `X-Hub-Signature-256`) is this body's, in constant time.
    ///
    /// Source: <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>.
    pub fn verify(&self, signature: &str, body: &[u8]) -> bool {
        let mut tag = [0; 32];
        signature.strip_prefix("sha256=").is_some_and(|text| hex::decode_to_slice(text, &mut tag).is_ok())
            && hmac::verify(&self.0, body, &tag).is_ok()
    }
}

/// What a delivery is about, as far as anybody wants to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Webhook {
    /// `ping`: GitHub tries the webhook.
    Ping,
    /// Nobody here needs it.
    Unused,
    /// `workflow_job`.
    Job(Box<Job>),
    /// `installation`.
    Installation(Installation),
    /// `installation_repositories`.
    Repositories(Repositories),
    /// An event that we use, in a shape that we do not understand.
    Unreadable {
        /// The decoder's words, cut short.
        why: String,
    },
}

/// `workflow_job`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What happened.
    pub action: JobAction,
    /// The job's id, unique on its GitHub.
    pub id: i64,
    /// The workflow run that it is part of.
    pub run_id: i64,
    /// `owner/name`, as GitHub writes it.
    pub repository: String,
    /// The workflow's name.
    pub workflow: Option<String>,
    /// The job's name.
    pub name: String,
    /// What `runs-on` asks for.
    pub labels: Vec<String>,
    /// `success`, `failure`, `cancelled`, …, once it is completed.
    pub conclusion: Option<String>,
    /// Of the runner that took it.
    pub runner_id: Option<i64>,
    /// Of the runner that took it.
    pub runner_name: Option<String>,
    /// Of the runner that took it.
    pub runner_group: Option<String>,
    /// When it was queued.
    #[serde(with = "iso")]
    pub created_at: Option<DateTime<Utc>>,
    /// When a runner took it.
    #[serde(with = "iso")]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[serde(with = "iso")]
    pub completed_at: Option<DateTime<Utc>>,
}

/// What happened to a job, in the order in which it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobAction {
    /// For a deployment's approval.
    Waiting,
    /// It waits for a runner.
    Queued,
    /// A runner took it.
    InProgress,
    /// It ended, whether or not it ever began.
    Completed,
}

impl JobAction {
    /// As GitHub writes it: `in_progress`.
    pub fn as_str(self) -> &'static str {
        match self {
            JobAction::Waiting => "waiting",
            JobAction::Queued => "queued",
            JobAction::InProgress => "in_progress",
            JobAction::Completed => "completed",
        }
    }
}

impl Job {
    /// Whether it asks for a self-hosted runner by name.
    pub fn is_self_hosted(&self) -> bool {
        self.labels.iter().any(|label| label.eq_ignore_ascii_case("self-hosted"))
    }

    /// Whether a runner took it that is none of GitHub's own: a job may ask for a self-hosted one without saying
    /// so, by its other labels or its group.
    pub fn has_runner_of_somebody(&self) -> bool {
        let is_githubs = |text: &Option<String>| {
            text.as_deref()
                .is_some_and(|text| text == "GitHub Actions" || text.starts_with("GitHub Actions "))
        };
        matches!(self.action, JobAction::InProgress | JobAction::Completed)
            && self.runner_id.is_some_and(|id| id > 0)
            && !is_githubs(&self.runner_group)
            && !is_githubs(&self.runner_name)
    }
}

/// `installation`: its action says only that one should look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// `created`, `deleted`, `suspend`, `unsuspend` or `new_permissions_accepted`.
    pub action: String,
    /// The installation's id.
    pub id: u64,
    /// The account's login, as GitHub writes it.
    pub owner: String,
}

/// `installation_repositories`: `owner/name` of those that came and went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repositories {
    /// The installation's id.
    pub id: u64,
    /// The account's login, as GitHub writes it.
    pub owner: String,
    /// Now accessible to the App.
    pub added: Vec<String>,
    /// No longer accessible to the App.
    pub removed: Vec<String>,
}

/// Reads a body of this event. `Err`: it is no JSON at all.
pub fn read(event: &str, body: &[u8]) -> Result<Webhook, serde_json::Error> {
    let read = match event {
        "workflow_job" => serde_json::from_slice(body).map(JobEvent::into_webhook),
        "installation" => serde_json::from_slice(body).map(InstallationEvent::into_webhook),
        "installation_repositories" => serde_json::from_slice(body).map(RepositoriesEvent::into_webhook),
        "ping" => serde_json::from_slice(body).map(|serde::de::IgnoredAny| Webhook::Ping),
        _ => serde_json::from_slice(body).map(|serde::de::IgnoredAny| Webhook::Unused),
    };
    match read {
        Err(err) => {
            // The decoder stops at the first surprise, which may be JSON that is no text, such as half a surrogate
            // pair; the rest may still be no JSON.
            serde_json::from_slice::<serde::de::IgnoredAny>(body)?;
            Ok(Webhook::Unreadable { why: err.to_string().chars().take(300).collect() })
        }
        Ok(read) => Ok(read),
    }
}

#[derive(Deserialize)]
struct Named {
    full_name: String,
}

#[derive(Deserialize)]
struct Account {
    login: String,
}

#[derive(Deserialize)]
struct JobEvent {
    action: String,
    workflow_job: JobBody,
    repository: Named,
}

#[derive(Deserialize)]
struct JobBody {
    id: i64,
    run_id: i64,
    workflow_name: Option<String>,
    name: String,
    labels: Vec<String>,
    conclusion: Option<String>,
    runner_id: Option<i64>,
    runner_name: Option<String>,
    runner_group_name: Option<String>,
    #[serde(default)]
    created_at: Moment,
    #[serde(default)]
    started_at: Moment,
    #[serde(default)]
    completed_at: Moment,
}

impl JobEvent {
    fn into_webhook(self) -> Webhook {
        let action = match self.action.as_str() {
            "waiting" => JobAction::Waiting,
            "queued" => JobAction::Queued,
            "in_progress" => JobAction::InProgress,
            "completed" => JobAction::Completed,
            _ => return Webhook::Unused,
        };
        let job = self.workflow_job;
        Webhook::Job(Box::new(Job {
            action,
            id: job.id,
            run_id: job.run_id,
            repository: plain(self.repository.full_name),
            workflow: job.workflow_name.map(plain),
            name: plain(job.name),
            labels: job.labels.into_iter().map(plain).collect(),
            conclusion: job.conclusion.map(plain),
            runner_id: job.runner_id,
            runner_name: job.runner_name.map(plain),
            runner_group: job.runner_group_name.map(plain),
            created_at: job.created_at.0,
            started_at: job.started_at.0,
            completed_at: job.completed_at.0,
        }))
    }
}

/// Postgres takes no NUL in a text, and no text here needs to be long.
fn plain(text: String) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[derive(Deserialize)]
struct InstallationEvent {
    action: String,
    installation: InstallationBody,
}

#[derive(Deserialize)]
struct InstallationBody {
    id: u64,
    account: Account,
}

impl InstallationEvent {
    fn into_webhook(self) -> Webhook {
        let used = ["created", "deleted", "suspend", "unsuspend", "new_permissions_accepted"];
        if !used.contains(&self.action.as_str()) {
            return Webhook::Unused;
        }
        let InstallationBody { id, account } = self.installation;
        Webhook::Installation(Installation { action: self.action, id, owner: plain(account.login) })
    }
}

#[derive(Deserialize)]
struct RepositoriesEvent {
    action: String,
    installation: InstallationBody,
    #[serde(default)]
    repositories_added: Vec<Named>,
    #[serde(default)]
    repositories_removed: Vec<Named>,
}

impl RepositoriesEvent {
    fn into_webhook(self) -> Webhook {
        if !["added", "removed"].contains(&self.action.as_str()) {
            return Webhook::Unused;
        }
        let names = |named: Vec<Named>| named.into_iter().map(|named| plain(named.full_name)).collect();
        let InstallationBody { id, account } = self.installation;
        Webhook::Repositories(Repositories {
            id,
            owner: plain(account.login),
            added: names(self.repositories_added),
            removed: names(self.repositories_removed),
        })
    }
}

/// A time that GitHub writes as seconds since 1970 or as ISO 8601, or not at all.
#[derive(Default)]
struct Moment(Option<DateTime<Utc>>);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Seconds(i64),
            Text(String),
        }
        let moment = match Option::<Written>::deserialize(deserializer)? {
            None => None,
            Some(Written::Seconds(seconds)) => DateTime::from_timestamp(seconds, 0),
            Some(Written::Text(text)) => {
                Some(DateTime::parse_from_rfc3339(&text).map_err(serde::de::Error::custom)?.to_utc())
            }
        };
        // Postgres reaches less far than chrono.
        let reach = |at: &DateTime<Utc>| (0..=9999).contains(&chrono::Datelike::year(at));
        Ok(Moment(moment.filter(reach)))
    }
}

/// Times as we keep them ourselves.
mod iso {
    use super::{DateTime, Deserialize, Deserializer, Serialize, Utc};

    /// Writes RFC 3339, or null.
    pub fn serialize<S: serde::Serializer>(at: &Option<DateTime<Utc>>, out: S) -> Result<S::Ok, S::Error> {
        at.serialize(out)
    }

    /// Reads RFC 3339, or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<DateTime<Utc>>, D::Error> {
        Option::deserialize(from)
    }
}

#[cfg(test)]
mod tests;
