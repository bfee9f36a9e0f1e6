//! What GitHub tells by itself. Receiving a delivery keeps it in the table and no more; what follows from it is
//! worked off afterwards, by whichever replica takes it, in lanes that do not wait for each other.

mod installations;
mod job;
mod label_policy;
mod redeliver;
mod work;

use arc_swap::ArcSwap;
use metrics::counter;
use serde_json::json;
use tokio::sync::Notify;

use super::{Broker, Error};
use crate::config;
use crate::github::webhook::{self, Webhook, WebhookKey};
use crate::model::Target;
use crate::store::deliveries::{self, NewDelivery};
use crate::store::sync_targets;
use installations::Installations;

/// Whose turn a delivery is. What asks GitHub must not keep the rest waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Jobs, and the rows of the runners that took them: Postgres only.
    Jobs,
    /// Installations: confirmed by GitHub.
    Installations,
    /// Jobs that began on a runner of ours: its labels are GitHub's to say.
    Policy,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Lane; 3] = [Lane::Jobs, Lane::Installations, Lane::Policy];

    /// As metrics and the table spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Lane::Jobs => "jobs",
            Lane::Installations => "installations",
            Lane::Policy => "policy",
        }
    }
}

/// What webhooks need between two of them.
pub struct Webhooks {
    /// `None`: there are none.
    key: Option<WebhookKey>,
    arrived: [Notify; 3],
    installations: ArcSwap<Installations>,
}

impl Webhooks {
    /// The state of a replica that has just started.
    pub fn new(config: &config::GitHub) -> Webhooks {
        Webhooks {
            key: config.webhook_secret.as_ref().map(WebhookKey::new),
            arrived: Default::default(),
            installations: ArcSwap::default(),
        }
    }

    /// Whether GitHub tells anything by itself.
    pub fn are_expected(&self) -> bool {
        self.key.is_some()
    }
}

/// A delivery as it came; nothing of it is believed before its signature is checked, and its headers not even
/// then: only the body is signed.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// The header `X-GitHub-Event`.
    pub event: &'a str,
    /// The header `X-GitHub-Delivery`.
    pub id: &'a str,
    /// The header `X-Hub-Signature-256`.
    pub signature: &'a str,
    /// The body, as it was received.
    pub body: &'a [u8],
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reception {
    /// GitHub's test delivery.
    Pong,
    /// Nobody needs it.
    Dropped,
    /// It was stored and will be processed.
    Accepted,
    /// It came before.
    Known,
    /// Signed, and no JSON.
    Malformed(String),
}

impl Reception {
    /// As metrics and the table spell it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Reception::Pong => "pong",
            Reception::Dropped => "dropped",
            Reception::Accepted => "accepted",
            Reception::Known => "known",
            Reception::Malformed(_) => "malformed",
        }
    }
}

/// Anybody can make up events; series may not.
fn event_label(event: &str) -> &'static str {
    match event {
        "ping" => "ping",
        "workflow_job" => "workflow_job",
        "installation" => "installation",
        "installation_repositories" => "installation_repositories",
        _ => "other",
    }
}

impl Broker {
    /// Whether there is a secret to check webhooks with. Without one there is no such thing here.
    pub fn expects_webhooks(&self) -> bool {
        self.webhooks.key.is_some()
    }

    /// Whether a delivery is GitHub's.
    pub fn is_signed(&self, incoming: &Incoming<'_>) -> bool {
        self.webhooks.key.as_ref().is_some_and(|key| key.verify(incoming.signature, incoming.body))
    }

    /// Stores a delivery that GitHub signed, for later work. Asks only Postgres: GitHub gets its answer at once.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn receive_webhook(&self, incoming: Incoming<'_>) -> Result<Reception, Error> {
        let received = self.receive(incoming).await;
        let outcome = received.as_ref().map_or("failed", Reception::as_str);
        let event = event_label(incoming.event);
        counter!("webhook_deliveries_total", "event" => event, "outcome" => outcome).increment(1);
        received
    }

    async fn receive(&self, incoming: Incoming<'_>) -> Result<Reception, Error> {
        let Incoming { event, id, body, .. } = incoming;
        let webhook = match webhook::read(event, body) {
            Ok(webhook) => webhook,
            Err(err) => return Ok(Reception::Malformed(err.to_string())),
        };
        let lane = match &webhook {
            Webhook::Ping => return Ok(Reception::Pong),
            Webhook::Job(job) if job.is_self_hosted() || job.has_runner_of_somebody() => Lane::Jobs,
            Webhook::Job(_) | Webhook::Unused => {
                tracing::debug!(event, delivery = id, "a webhook that nobody needs");
                return Ok(Reception::Dropped);
            }
            Webhook::Installation(_) | Webhook::Repositories(_) => Lane::Installations,
            Webhook::Unreadable { .. } => Lane::Jobs,
        };
        let content = json!(webhook);
        let new = NewDelivery { id, event, lane: lane.as_str(), content: &content, now: self.clock.now() };
        let mut conn = self.store.conn().await?;
        let fresh = deliveries::keep(&mut conn, &new).await?;
        drop(conn);
        if !fresh {
            return Ok(Reception::Known);
        }
        self.wake_lane(lane);
        Ok(Reception::Accepted)
    }

    fn wake_lane(&self, lane: Lane) {
        self.webhooks.arrived[lane as usize].notify_one();
    }

    /// Returns when something came into this lane here.
    pub async fn delivered(&self, lane: Lane) {
        self.webhooks.arrived[lane as usize].notified().await;
    }

    /// Has the sweep look at a target soon, whatever is known of it.
    async fn want_sweep(&self, target: &Target) -> Result<(), Error> {
        tracing::debug!(%target, "a webhook wakes the sweep");
        let mut conn = self.store.conn().await?;
        Ok(sync_targets::want(&mut conn, target, self.clock.now()).await?)
    }
}
