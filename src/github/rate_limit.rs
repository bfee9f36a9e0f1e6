//! What GitHub says is left of an installation's hour. Asking costs nothing of it.

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Deserialize;

use super::GitHub;
use super::budget::floor;
use super::call::{Call, Operation};
use super::deadline::Deadline;
use super::error::{Error, refusal};
use crate::model::Target;

/// An hourly budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hour {
    /// GitHub's name: `core`, `actions_runner_registration`.
    pub resource: &'static str,
    pub limit: u64,
    pub remaining: u64,
    /// At or below it nothing but deletes is sent.
    pub floor: u64,
    pub resets_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Wire {
    resources: Resources,
}

/// Those that our calls are counted in.
#[derive(Deserialize)]
struct Resources {
    core: Window,
    actions_runner_registration: Option<Window>,
}

#[derive(Deserialize)]
struct Window {
    limit: u64,
    remaining: u64,
    reset: i64,
}

impl Window {
    fn hour(self, resource: &'static str) -> Hour {
        Hour {
            resource,
            limit: self.limit,
            remaining: self.remaining,
            floor: floor(self.limit),
            resets_at: DateTime::from_timestamp(self.reset, 0).unwrap_or_default(),
        }
    }
}

impl GitHub {
    /// What the installation that serves this target may still ask. Empty: this GitHub sets no limits.
    pub async fn hours(&self, target: &Target, deadline: Deadline) -> Result<Vec<Hour>, Error> {
        let call = Call::new(Operation::RateLimit, "/rate_limit".to_owned());
        let answer = self.as_installation(target, &call, deadline).await?;
        match answer.status {
            // An Enterprise Server may have them switched off.
            StatusCode::NOT_FOUND => Ok(Vec::new()),
            status if status.is_success() => {
                let Resources { core, actions_runner_registration } = answer.decode::<Wire>(false)?.resources;
                let registration = actions_runner_registration;
                let registration = registration.map(|window| window.hour("actions_runner_registration"));
                Ok([Some(core.hour("core")), registration].into_iter().flatten().collect())
            }
            _ => Err(refusal(&answer, "metadata=read", "such thing")),
        }
    }
}
