//! What GitHub says is left of an installation's hourly budgets (`GET /rate_limit`). Asking costs nothing of them.

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Deserialize;

use super::GitHub;
use super::answer::refusal;
use super::budget::floor;
use super::call::Call;
use super::deadline::Deadline;
use super::error::Error;
use super::operation::Operation;
use crate::model::Target;

/// An hourly budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// GitHub's name: `core`, `actions_runner_registration`.
    pub resource: &'static str,
    /// Calls in an hour.
    pub limit: u64,
    /// Calls that are left of this hour.
    pub remaining: u64,
    /// At or below it nothing but deletes is sent.
    pub floor: u64,
    /// When the hour ends.
    pub resets_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct RateLimitBody {
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
    fn rate_limit(self, resource: &'static str) -> RateLimit {
        RateLimit {
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
    pub async fn rate_limits(&self, target: &Target, deadline: Deadline) -> Result<Vec<RateLimit>, Error> {
        let call = Call::new(Operation::RateLimit, "/rate_limit".to_owned());
        let answer = self.as_installation(target, &call, deadline).await?;
        match answer.status {
            // An Enterprise Server may have them switched off.
            StatusCode::NOT_FOUND => Ok(Vec::new()),
            status if status.is_success() => {
                let Resources { core, actions_runner_registration } =
                    answer.decode::<RateLimitBody>(false)?.resources;
                let registration = actions_runner_registration;
                let registration =
                    registration.map(|window| window.rate_limit("actions_runner_registration"));
                Ok([Some(core.rate_limit("core")), registration].into_iter().flatten().collect())
            }
            _ => Err(refusal(&answer, "metadata=read", "such thing")),
        }
    }
}
