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
mod tests {
    use super::*;

    #[test]
    fn githubs_documented_example_of_a_signature_holds() {
        let key = WebhookKey::new(&SecretString::from("It's a Secret to Everybody"));
        let digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert!(key.verify(&format!("sha256={digest}"), b"Hello, World!"));
        assert!(!key.verify(&format!("sha256={digest}"), b"Hello, World"));
        assert!(!key.verify(digest, b"Hello, World!"), "without its algorithm");
        assert!(!key.verify(&format!("sha1={digest}"), b"Hello, World!"));
        assert!(!key.verify(&format!("sha256={}", &digest[..62]), b"Hello, World!"), "cut short");
        assert!(!key.verify("sha256=", b"Hello, World!"));
        let other = WebhookKey::new(&SecretString::from("It's a secret to everybody"));
        assert!(!other.verify(&format!("sha256={digest}"), b"Hello, World!"));
    }

    #[test]
    fn a_time_is_seconds_or_iso_8601_or_nothing() {
        let read = |text: &str| serde_json::from_str::<Moment>(text).map(|moment| moment.0);
        let expected = "2019-05-15T15:19:51Z".parse().ok();
        assert_eq!(read("1557933591").unwrap(), expected);
        assert_eq!(read("\"2019-05-15T11:19:51.000-04:00\"").unwrap(), expected);
        assert_eq!(read("null").unwrap(), None);
        assert_eq!(read("9223372036854775807").unwrap(), None);
        assert!(read("\"yesterday\"").is_err());
    }

    #[test]
    fn what_is_no_json_is_told_from_what_is_another_shape() {
        for event in ["workflow_job", "installation", "installation_repositories", "ping", "star"] {
            assert!(read(event, b"payload=%7B%7D").is_err(), "{event}");
            assert!(read(event, br#"{"action": 7, "#).is_err(), "{event}");
            assert!(read(event, b"").is_err(), "{event}");
        }
        assert!(matches!(read("workflow_job", b"{}").unwrap(), Webhook::Unreadable { .. }));
        assert!(matches!(read("workflow_job", br#"{"action": 7}"#).unwrap(), Webhook::Unreadable { .. }));
        assert_eq!(read("ping", b"{}").unwrap(), Webhook::Ping);
        assert_eq!(read("star", b"[]").unwrap(), Webhook::Unused);
    }
    #[test]
    fn json_that_is_no_text_is_unreadable_and_not_a_failure() {
        for body in [&br#""\ud800""#[..], br#"{"action": "\ud800", "installation": 1}"#, b"[1e999]"] {
            let known = read("workflow_job", body).unwrap();
            assert!(matches!(known, Webhook::Unreadable { .. }), "{known:?}");
        }
    }

    #[test]
    fn no_text_that_is_kept_has_a_nul() {
        let account = r#""installation": {"id": 1, "account": {"login": "o\u0000"}}"#;
        let job = r#"{"id": 1, "run_id": 1, "name": "\u0000", "labels": ["\u0000"]}"#;
        let name = r#"{"full_name": "o/r\u0000"}"#;
        for (event, body) in [
            (
                "workflow_job",
                format!(r#"{{"action": "queued", "workflow_job": {job}, "repository": {name}}}"#),
            ),
            ("installation", format!(r#"{{"action": "created", {account}}}"#)),
            (
                "installation_repositories",
                format!(r#"{{"action": "added", {account}, "repositories_added": [{name}]}}"#),
            ),
        ] {
            let known = read(event, body.as_bytes()).unwrap();
            assert!(!matches!(known, Webhook::Unreadable { .. }), "{known:?}");
            assert!(!serde_json::to_string(&known).unwrap().contains("u0000"), "{known:?}");
        }
    }
}
