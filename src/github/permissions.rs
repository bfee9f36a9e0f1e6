//! What the App is, and what a target's installation lets it do, as GitHub says at this moment: for people who look
//! after the broker. Costs the App's own budget, no installation's.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;

use super::GitHub;
use super::call::{Call, Operation};
use super::deadline::Deadline;
use super::error::{Error, refusal};
use super::installation::installation_path;
use crate::model::Target;

/// The App, as it is registered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AppState {
    pub id: u64,
    pub name: String,
    pub html_url: String,
    pub owner: Option<Owner>,
    #[serde(default)]
    pub events: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Owner {
    pub login: Option<String>,
}

/// What an installation may do: `administration` and `write`, and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    pub installation: u64,
    pub suspended: bool,
    pub permissions: BTreeMap<String, String>,
    /// Of which the App is told by webhook.
    pub events: Vec<String>,
}

impl Granted {
    /// Whether it has this permission at this level or a higher one.
    pub fn has(&self, permission: &str, level: &str) -> bool {
        self.permissions.get(permission).is_some_and(|held| rank(held) >= rank(level))
    }
}

fn rank(level: &str) -> u8 {
    match level {
        "admin" => 3,
        "write" => 2,
        "read" => 1,
        _ => 0,
    }
}

#[derive(Deserialize)]
struct Wire {
    id: u64,
    suspended_at: Option<serde_json::Value>,
    #[serde(default)]
    permissions: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    events: Vec<String>,
}

impl From<Wire> for Granted {
    fn from(wire: Wire) -> Granted {
        let levels = wire.permissions.into_iter();
        let levels = levels.filter_map(|(name, level)| Some((name, level.as_str()?.to_owned())));
        Granted {
            installation: wire.id,
            suspended: wire.suspended_at.is_some_and(|at| !at.is_null()),
            permissions: levels.collect(),
            events: wire.events,
        }
    }
}

impl GitHub {
    /// Who the App is to GitHub: that its key and id are right.
    pub async fn app_state(&self, deadline: Deadline) -> Result<AppState, Error> {
        let call = Call::new(Operation::GetApp, "/app".to_owned());
        let answer = self.as_app(&call, deadline.sooner(self.timeout())).await?;
        match answer.status.is_success() {
            true => answer.decode(false),
            false => Err(refusal(&answer, "metadata=read", "such App")),
        }
    }

    /// What the App may do for this target. `None`: no installation serves it.
    pub async fn granted(&self, target: &Target, deadline: Deadline) -> Result<Option<Granted>, Error> {
        let call = Call::new(Operation::FindInstallation, installation_path(target));
        let answer = self.as_app(&call, deadline.sooner(self.timeout())).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer.decode::<Wire>(false)?.into())),
            _ => Err(refusal(&answer, "metadata=read", "such target")),
        }
    }
}
