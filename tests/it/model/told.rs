//! What callers and machines know: what they were handed, and what they did with it.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use runner_broker::broker::provision::Provisioned;
use runner_broker::dev::github::{GitHub, JobState};
use runner_broker::model::Method;
use secrecy::{ExposeSecret, SecretString};

use crate::support::{ORG, REPO};

pub const TEAMS: [&str; 2] = ["blue", "red"];
pub const TARGETS: [&str; 2] = [ORG, REPO];

/// A 201, as its caller has it.
#[derive(Clone, Debug)]
pub struct HandedOut {
    pub runner_id: String,
    pub name: String,
    pub team: String,
    pub target: String,
    pub method: Method,
    pub generation: i32,
    pub labels: Vec<String>,
    pub credential: SecretString,
    /// A JIT runner's from the start, another's once it is registered.
    pub github_id: Option<i64>,
    pub started_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Default)]
pub struct Told {
    pub handed_out: Vec<HandedOut>,
    /// Runners that the model took off GitHub itself.
    pub gone: HashSet<i64>,
    /// Runners that somebody else set up, and where.
    pub planted: HashMap<i64, &'static str>,
    /// Runners that got other labels than they were provisioned with.
    pub drifted: HashSet<i64>,
    pub payloads: Vec<Payload>,
    pub breaches: Vec<String>,
}

/// What GitHub has to say about a job, once.
#[derive(Clone, Debug)]
pub struct Payload {
    pub job: JobState,
    pub delivery: String,
    pub body: Vec<u8>,
    /// On its way once at least, or lost.
    pub left: bool,
    /// Somebody has taken it.
    pub accepted: bool,
}

impl Payload {
    pub fn is_kept(&self) -> bool {
        self.job.labels.iter().any(|label| label == "self-hosted")
    }
}

impl HandedOut {
    /// What its caller has in his hands.
    pub fn of(made: Provisioned) -> HandedOut {
        let labels = made.runner.labels.iter().filter(|label| !made.system_labels.contains(*label));
        HandedOut {
            runner_id: made.runner.id.to_string(),
            team: made.runner.team.clone(),
            target: made.runner.target.to_string(),
            method: made.runner.method,
            generation: made.runner.generation,
            labels: labels.cloned().collect(),
            github_id: made.runner.github_runner_id,
            name: made.runner.name,
            credential: made.credential,
            started_at: None,
        }
    }

    /// `run.sh` on the machine that got it; GitHub may refuse, as when it was replaced.
    pub fn connect(&mut self, github: &GitHub, now: DateTime<Utc>) {
        let credential = self.credential.expose_secret();
        let online = match self.method {
            Method::Jit => github.connect_jit(credential).is_ok(),
            Method::RegistrationToken => {
                let labels: Vec<&str> = self.labels.iter().map(String::as_str).collect();
                if self.github_id.is_none() {
                    let registered = github.register(&self.target, &self.name, &labels, true, credential);
                    self.github_id = registered.ok();
                }
                self.github_id.is_some() && github.connect(&self.target, &self.name).is_ok()
            }
        };
        if online && self.started_at.is_none() {
            self.started_at = Some(now);
        }
    }
}
