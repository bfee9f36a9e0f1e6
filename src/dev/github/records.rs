//! What GitHub remembers of each thing: runners, tokens, jobs, deliveries, people. Plain data; [`State`](super::state::State) holds it.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::model::Target;

/// A runner as GitHub knows it.
#[derive(Clone, Debug, Serialize)]
pub struct RunnerState {
    pub id: i64,
    pub name: String,
    /// `unknown` until a JIT runner connects.
    pub os: String,
    pub online: bool,
    pub busy: bool,
    pub ephemeral: bool,
    /// `None` until a JIT runner connects.
    pub version: Option<String>,
    pub group_id: i64,
    pub labels: Vec<String>,
    /// Whether it came from `generate-jitconfig`.
    pub jit: bool,
    pub created_at: DateTime<Utc>,
    /// What its JIT config must hold to connect.
    #[serde(skip)]
    pub(super) client_id: Uuid,
}

/// One call that reached GitHub.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    pub method: String,
    /// With its query, without `/api/v3`.
    pub path: String,
    /// `None`: not answered, or not yet.
    pub status: Option<u16>,
    /// The bucket that it is counted in.
    pub resource: &'static str,
    pub at: DateTime<Utc>,
    /// The header of that name (W3C Trace Context).
    pub traceparent: Option<String>,
}

/// An organisation or a user.
pub(super) struct Account {
    pub login: String,
    pub id: u64,
    pub is_org: bool,
    pub installation: Option<u64>,
}

pub(super) struct Installation {
    pub id: u64,
    /// The account's key: its login, lower-cased.
    pub account: String,
    pub permissions: BTreeMap<String, String>,
    pub suspended_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
}

pub(super) struct Group {
    pub id: i64,
    pub name: String,
    /// Whether the App may use it.
    pub open: bool,
}

/// Where runners live: an organisation or a repository.
pub(super) struct Scope {
    /// As its owner writes it.
    pub name: String,
    pub groups: Vec<Group>,
    pub runners: BTreeMap<i64, RunnerState>,
    pub by_name: HashMap<String, i64>,
}

impl Scope {
    pub fn named(&self, name: &str) -> Option<&RunnerState> {
        self.runners.get(self.by_name.get(&name.to_lowercase())?)
    }

    pub fn named_mut(&mut self, name: &str) -> Option<&mut RunnerState> {
        self.runners.get_mut(self.by_name.get(&name.to_lowercase())?)
    }

    pub fn insert(&mut self, runner: RunnerState) {
        self.by_name.insert(runner.name.to_lowercase(), runner.id);
        self.runners.insert(runner.id, runner);
    }

    pub fn remove(&mut self, id: i64) -> Option<RunnerState> {
        let runner = self.runners.remove(&id)?;
        self.by_name.remove(&runner.name.to_lowercase());
        Some(runner)
    }
}

/// An installation token and what it is good for.
pub(super) struct Token {
    pub installation: u64,
    pub permissions: BTreeMap<String, String>,
    /// Lower-cased names; `None`: all of the installation's.
    pub repositories: Option<Vec<String>>,
    pub expires_at: DateTime<Utc>,
    /// A fresh token may be refused some times: how often still, and with which status.
    pub refusals: (u32, u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Register,
    Remove,
}

/// A registration or remove token.
pub(super) struct RunnerToken {
    pub target: Target,
    pub purpose: Purpose,
    pub expires_at: DateTime<Utc>,
}

/// A job of a workflow.
#[derive(Clone, Debug, Serialize)]
pub struct JobState {
    pub id: i64,
    pub run_id: i64,
    /// `owner/name`.
    pub repository: String,
    pub name: String,
    pub labels: Vec<String>,
    /// As `workflow_job`'s actions.
    pub status: &'static str,
    pub conclusion: Option<&'static str>,
    /// Target, id and name.
    pub runner: Option<(String, i64, String)>,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub completed_at: Option<DateTime<Utc>>,
}

/// One attempt to deliver a webhook.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub id: i64,
    pub guid: String,
    pub event: String,
    pub action: Option<String>,
    pub body: Vec<u8>,
    pub delivered_at: DateTime<Utc>,
    pub redelivery: bool,
    /// 0: no answer, or none yet.
    pub status_code: u16,
}

/// Where webhooks go, signed with what, and how.
#[derive(Clone)]
pub(super) struct Hook {
    pub url: String,
    /// Empty: nothing is signed.
    pub secret: String,
    /// `json` or `form`.
    pub content_type: String,
    pub is_insecure: bool,
}

/// A delivery on its way.
pub(super) struct Outgoing {
    pub hook: Hook,
    pub delivery: Delivery,
}

/// The part of GitHub's memory that is about webhooks.
#[derive(Default)]
pub(super) struct Hooks {
    pub hook: Option<Hook>,
    pub deliveries: Vec<Delivery>,
    pub jobs: Vec<JobState>,
    /// So many of the next deliveries get lost on their way.
    pub losing: u32,
    pub outbox: Option<tokio::sync::mpsc::UnboundedSender<Outgoing>>,
}

/// Somebody with an account.
#[derive(Clone, Debug, Default)]
pub struct Person {
    pub id: u64,
    pub login: String,
    pub name: Option<String>,
    /// What they show in public.
    pub email: Option<String>,
    pub orgs: Vec<String>,
    /// `org/slug`.
    pub teams: Vec<String>,
}

impl Person {
    /// Those whom `runner-broker dev` knows.
    pub fn some() -> Vec<Person> {
        let person = |id: u64, login: &str, team: &[&str]| Person {
            id,
            login: login.into(),
            name: Some(format!("{}{}", login[..1].to_uppercase(), &login[1..])),
            email: None,
            orgs: team.iter().map(|_| "octo-org".into()).collect(),
            teams: team.iter().map(|team| format!("octo-org/{team}")).collect(),
        };
        vec![
            person(9_001, "alice", &["blue"]),
            person(9_003, "carol", &["admins"]),
            person(9_005, "erin", &[]),
        ]
    }
}

/// The part of GitHub's memory that is about people.
#[derive(Default)]
pub(super) struct People {
    pub known: Vec<Person>,
    /// Empty: whatever was asked for.
    pub granted: String,
    pub codes: HashMap<String, Code>,
    /// Login and scope by token.
    pub tokens: HashMap<String, (String, String)>,
}

/// An authorization code that was handed out.
pub(super) struct Code {
    pub login: String,
    pub scope: String,
    pub redirect_uri: String,
    pub challenge: Option<String>,
    pub made_at: DateTime<Utc>,
}
