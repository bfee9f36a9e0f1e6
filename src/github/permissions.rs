//! What the App is, and what a target's installation lets it do, as GitHub says at this moment: for people who look
//! after the broker. Costs the App's own budget, no installation's.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;

use super::GitHub;
use super::answer::refusal;
use super::call::Call;
use super::deadline::Deadline;
use super::error::Error;
use super::operation::Operation;
use super::paths::installation_path;
use crate::model::Target;

/// The App, as it is registered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AppState {
    /// GitHub's id, `GITHUB_APP_ID`.
    pub id: u64,
    /// As people see it.
    pub name: String,
    /// Where people see it on GitHub.
    pub html_url: String,
    /// Whose App it is.
    pub owner: Option<Owner>,
    /// The webhooks that it is subscribed to.
    #[serde(default)]
    pub events: Vec<String>,
}

/// An account on GitHub.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Owner {
    /// Its name. `None`: GitHub did not say, as for enterprises.
    pub login: Option<String>,
}

/// What an installation may do: `administration` and `write`, and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallationPermissions {
    /// GitHub's id of the installation.
    pub installation: u64,
    /// Whether its owner suspended it.
    pub suspended: bool,
    /// Level by permission: `administration` → `write`.
    pub permissions: BTreeMap<String, String>,
    /// Of which the App is told by webhook.
    pub events: Vec<String>,
}

impl InstallationPermissions {
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
struct InstallationBody {
    id: u64,
    suspended_at: Option<serde_json::Value>,
    #[serde(default)]
    permissions: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    events: Vec<String>,
}

impl From<InstallationBody> for InstallationPermissions {
    fn from(wire: InstallationBody) -> InstallationPermissions {
        let levels = wire.permissions.into_iter();
        let levels = levels.filter_map(|(name, level)| Some((name, level.as_str()?.to_owned())));
        InstallationPermissions {
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
    pub async fn installation_permissions(
        &self,
        target: &Target,
        deadline: Deadline,
    ) -> Result<Option<InstallationPermissions>, Error> {
        let call = Call::new(Operation::FindInstallation, installation_path(target));
        let answer = self.as_app(&call, deadline.sooner(self.timeout())).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer.decode::<InstallationBody>(false)?.into())),
            _ => Err(refusal(&answer, "metadata=read", "such target")),
        }
    }
}
