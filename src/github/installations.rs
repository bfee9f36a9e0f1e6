//! The App's installations, as GitHub has them now.

use http::StatusCode;
use serde::Deserialize;

use super::answer::refusal;
use super::call::Call;
use super::deadline::Deadline;
use super::error::Error;
use super::operation::Operation;
use super::paths::installation_path;
use super::{GitHub, MAX_PAGES};
use crate::model::Target;

/// An installation of the App, as GitHub has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallationState {
    /// GitHub's id.
    pub id: u64,
    /// The account's login, as GitHub writes it.
    pub owner: String,
    /// Whether its owner suspended it: the App can do nothing there.
    pub suspended: bool,
}

#[derive(Deserialize)]
struct InstallationBody {
    id: u64,
    account: Option<AccountBody>,
    suspended_at: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct AccountBody {
    login: Option<String>,
}

impl From<InstallationBody> for InstallationState {
    fn from(wire: InstallationBody) -> InstallationState {
        InstallationState {
            id: wire.id,
            owner: wire.account.and_then(|account| account.login).unwrap_or_default(),
            suspended: wire.suspended_at.is_some_and(|at| !at.is_null()),
        }
    }
}

impl GitHub {
    /// The installation with this id. `None`: GitHub has none, any more.
    pub async fn installation_state(
        &self,
        id: u64,
        deadline: Deadline,
    ) -> Result<Option<InstallationState>, Error> {
        let call = Call::new(Operation::GetInstallation, format!("/app/installations/{id}"));
        self.installation_at(&call, deadline).await
    }

    /// The installation that has this repository among its own. `None`: none has.
    pub async fn installation_of(
        &self,
        target: &Target,
        deadline: Deadline,
    ) -> Result<Option<InstallationState>, Error> {
        let call = Call::new(Operation::FindInstallation, installation_path(target));
        self.installation_at(&call, deadline).await
    }

    async fn installation_at(
        &self,
        call: &Call<'_>,
        deadline: Deadline,
    ) -> Result<Option<InstallationState>, Error> {
        let answer = self.as_app(call, deadline.sooner(self.timeout())).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer.decode::<InstallationBody>(false)?.into())),
            _ => Err(refusal(&answer, "metadata=read", "such installation")),
        }
    }

    /// The installation of an account, whatever kind of account it is, compared without case.
    pub async fn installation_of_owner(
        &self,
        owner: &str,
        deadline: Deadline,
    ) -> Result<Option<InstallationState>, Error> {
        for page in 1..=MAX_PAGES {
            let path = format!("/app/installations?per_page=100&page={page}");
            let call = Call::new(Operation::GetInstallation, path);
            let answer = self.as_app(&call, deadline.sooner(self.timeout())).await?;
            if !answer.status.is_success() {
                return Err(refusal(&answer, "metadata=read", "such App"));
            }
            let all: Vec<InstallationBody> = answer.decode(false)?;
            let mut all = all.into_iter().map(InstallationState::from);
            if let Some(found) = all.find(|found| found.owner.eq_ignore_ascii_case(owner)) {
                return Ok(Some(found));
            }
            if answer.has_next() != Some(true) {
                return Ok(None);
            }
        }
        Err(Error::endless())
    }

    /// Drops what is remembered of an owner's installation: its tokens, and which one it is unless that is still
    /// `current`.
    pub fn forget_owner(&self, owner: &str, current: Option<u64>) {
        self.forget_tokens(owner);
        self.forget_lookups(&owner.to_ascii_lowercase(), current);
    }
}
