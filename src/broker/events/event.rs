//! An event before it is written: who does it, and what it says.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::kind::Kind;
use crate::broker::{Broker, Error};
use crate::model::{Comment, Identity, Label};
use crate::store::audit::NewEvent;
use crate::store::runners::Runner;

/// Where a request came from, for the audit log.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Our id of the request.
    pub request_id: String,
    /// The id that the caller gave it.
    pub client_request_id: Option<String>,
    /// The client's address, behind trusted proxies.
    pub address: Option<String>,
    /// The header `User-Agent`.
    pub user_agent: Option<String>,
}

/// So many of the labels that a caller asked for are in an event.
const MOST_LABELS: usize = 20;

/// So many characters of a message that quotes a caller are in an event.
const LONGEST_MESSAGE: usize = 1000;

/// The beginning, and how long the text is.
fn cut(text: String) -> String {
    match text.char_indices().nth(LONGEST_MESSAGE) {
        None => text,
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.chars().count()),
    }
}

/// Who does what an event records.
#[derive(Clone, Copy, Debug)]
pub enum Actor<'a> {
    /// Somebody who calls.
    Caller {
        /// Issuer, subject and display name.
        identity: &'a Identity,
        /// The request.
        origin: &'a Origin,
        /// The administrator's one call for many things of which this is a part.
        batch: Option<&'a Batch>,
    },
    /// One of the broker's own jobs, by its name.
    System(&'static str),
}

/// What the events of one batch have in common.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The id that all its events carry.
    pub id: Uuid,
    /// The administrator's reason.
    pub comment: Comment,
}

impl Actor<'_> {
    /// Whether a caller does it, rather than one of the broker's own jobs.
    pub(in crate::broker) fn is_caller(self) -> bool {
        match self {
            Actor::Caller { .. } => true,
            Actor::System(_) => false,
        }
    }
}

/// An event by `actor`, about nothing yet.
pub(in crate::broker) fn event_at(timestamp: DateTime<Utc>, kind: Kind, actor: Actor<'_>) -> NewEvent {
    let mut event = NewEvent {
        timestamp,
        event_type: kind.as_str(),
        severity: kind.severity().as_str(),
        success: kind.success(),
        user_identity: String::new(),
        issuer: None,
        subject: None,
        team: None,
        runner_id: None,
        runner_name: None,
        target: None,
        request_id: None,
        request_ip: None,
        user_agent: None,
        policy_rule: None,
        event_data: json!({}),
        error_code: None,
        error_message: None,
        alert: false,
    };
    match actor {
        Actor::System(job) => event.user_identity = format!("system:{job}"),
        Actor::Caller { identity, origin, batch } => {
            event.user_identity = identity.display_name.clone();
            event.issuer = Some(identity.issuer.clone());
            event.subject = Some(identity.subject.clone());
            event.request_id = Some(origin.request_id.clone());
            event.request_ip = origin.address.clone();
            event.user_agent = origin.user_agent.clone();
            if let Some(batch) = batch {
                event.event_data = json!({ "batch_id": batch.id, "comment": batch.comment });
            }
            if let Some(theirs) = &origin.client_request_id {
                event = event.with(json!({ "client_request_id": theirs }));
            }
        }
    }
    event
}

impl Broker {
    /// An event that happens now.
    pub(in crate::broker) fn event(&self, kind: Kind, actor: Actor<'_>) -> NewEvent {
        NewEvent { alert: self.config.alerts.is_some(), ..event_at(self.clock.now(), kind, actor) }
    }
}

/// Fills an event in, in the order in which one would say it.
pub(in crate::broker) trait About: Sized {
    fn about(self, runner: &Runner) -> Self;
    fn about_new(self, id: Uuid, name: &str) -> Self;
    fn with(self, data: Value) -> Self;
    fn because(self, err: &Error) -> Self;
    fn labelled(self, labels: &BTreeSet<Label>) -> Self;
}

impl About for NewEvent {
    fn about(mut self, runner: &Runner) -> NewEvent {
        self.team = Some(runner.team.clone());
        self.target = Some(runner.target.to_string());
        self.about_new(runner.id, &runner.name)
    }

    fn about_new(mut self, id: Uuid, name: &str) -> NewEvent {
        self.runner_id = Some(id);
        self.runner_name = Some(name.to_owned());
        self
    }

    fn with(mut self, data: Value) -> NewEvent {
        match (&mut self.event_data, data) {
            (Value::Object(known), Value::Object(more)) => known.extend(more),
            (known, data) => *known = data,
        }
        self
    }

    fn because(mut self, err: &Error) -> NewEvent {
        self.error_code = Some(err.code().to_owned());
        self.error_message = Some(cut(err.to_string()));
        self
    }

    /// The first labels, and how many there are if those are not all.
    fn labelled(self, labels: &BTreeSet<Label>) -> NewEvent {
        let first: Vec<&Label> = labels.iter().take(MOST_LABELS).collect();
        let event = self.with(json!({ "labels": first }));
        match labels.len() {
            ..=MOST_LABELS => event,
            count => event.with(json!({ "labels_count": count })),
        }
    }
}
