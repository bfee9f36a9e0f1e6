//! What the App asks about itself: its installations, and the webhooks that did not arrive.

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Deserialize;

use super::call::{Call, Operation};
use super::deadline::Deadline;
use super::error::{Error, refusal};
use super::{GitHub, PAGES_AT_MOST};
use crate::model::Target;

/// An installation of the App, as GitHub has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallationState {
    pub id: u64,
    /// The account's login, as GitHub writes it.
    pub owner: String,
    pub suspended: bool,
}

#[derive(Deserialize)]
struct WireInstallation {
    id: u64,
    account: Option<WireAccount>,
    suspended_at: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct WireAccount {
    login: Option<String>,
}

impl From<WireInstallation> for InstallationState {
    fn from(wire: WireInstallation) -> InstallationState {
        InstallationState {
            id: wire.id,
            owner: wire.account.and_then(|account| account.login).unwrap_or_default(),
            suspended: wire.suspended_at.is_some_and(|at| !at.is_null()),
        }
    }
}

/// A delivery that failed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FailedDelivery {
    /// Of this attempt; a later attempt has a greater one.
    pub id: i64,
    /// The delivery's own: `X-GitHub-Delivery`, the same for all attempts.
    pub guid: String,
    pub delivered_at: DateTime<Utc>,
    pub event: String,
    #[serde(default)]
    status_code: u16,
}

/// One page of failed deliveries, the newest first, and where the next one begins.
#[derive(Debug)]
pub struct FailedPage {
    pub deliveries: Vec<FailedDelivery>,
    pub next: Option<String>,
}

/// What came of asking for a run to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    Accepted,
    /// It has ended already, or GitHub cannot cancel it now.
    NotPossible,
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
        let path = match target {
            Target::Organization(org) => format!("/orgs/{org}/installation"),
            Target::Repository { owner, name } => format!("/repos/{owner}/{name}/installation"),
        };
        self.installation_at(&Call::new(Operation::FindInstallation, path), deadline).await
    }

    async fn installation_at(
        &self,
        call: &Call<'_>,
        deadline: Deadline,
    ) -> Result<Option<InstallationState>, Error> {
        let answer = self.as_app(call, deadline.sooner(self.timeout())).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer.decode::<WireInstallation>(false)?.into())),
            _ => Err(refusal(&answer, "metadata=read", "such installation")),
        }
    }

    /// The installation of an account, whatever kind of account it is, compared without case.
    pub async fn installation_of_owner(
        &self,
        owner: &str,
        deadline: Deadline,
    ) -> Result<Option<InstallationState>, Error> {
        for page in 1..=PAGES_AT_MOST {
            let path = format!("/app/installations?per_page=100&page={page}");
            let call = Call::new(Operation::GetInstallation, path);
            let answer = self.as_app(&call, deadline.sooner(self.timeout())).await?;
            if !answer.status.is_success() {
                return Err(refusal(&answer, "metadata=read", "such App"));
            }
            let all: Vec<WireInstallation> = answer.decode(false)?;
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

    /// A page of the App's deliveries that failed, from `cursor` on.
    pub async fn failed_deliveries(
        &self,
        cursor: Option<&str>,
        deadline: Deadline,
    ) -> Result<FailedPage, Error> {
        let mut path = "/app/hook/deliveries?per_page=100&status=failure".to_owned();
        if let Some(cursor) = cursor {
            path.push_str("&cursor=");
            path.extend(url::form_urlencoded::byte_serialize(cursor.as_bytes()));
        }
        let call = Call::new(Operation::ListDeliveries, path);
        let answer = self.as_app(&call, deadline.sooner(self.timeout())).await?;
        if !answer.status.is_success() {
            return Err(refusal(&answer, "metadata=read", "such App, or it has no webhook"));
        }
        let mut deliveries: Vec<FailedDelivery> = answer.decode(false)?;
        // An old Enterprise Server ignores `status`.
        deliveries.retain(|delivery| !(200..300).contains(&delivery.status_code));
        Ok(FailedPage { deliveries, next: answer.next_cursor() })
    }

    /// Has a failed delivery sent again. Sent once.
    pub async fn redeliver(&self, id: i64, deadline: Deadline) -> Result<(), Error> {
        let call = Call::new(Operation::Redeliver, format!("/app/hook/deliveries/{id}/attempts"));
        let answer = self.as_app(&call, deadline.sooner(self.timeout())).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(refusal(&answer, "metadata=read", "such delivery")),
        }
    }

    /// Cancels a workflow run of a repository's. Sent once.
    pub async fn cancel_run(
        &self,
        repository: &Target,
        run: i64,
        deadline: Deadline,
    ) -> Result<Cancelled, Error> {
        let path = format!("{}/runs/{run}/cancel", super::runners::actions(repository));
        let call = Call::new(Operation::CancelRun, path);
        let permission = super::installation::Permission::Actions;
        let answer = self.with_permission(repository, permission, &call, deadline).await?;
        match answer.status {
            StatusCode::CONFLICT => Ok(Cancelled::NotPossible),
            status if status.is_success() => Ok(Cancelled::Accepted),
            _ => Err(refusal(&answer, permission.as_str(), "such workflow run")),
        }
    }

    /// Drops what is remembered of an owner's installation: its tokens, and which one it is unless that is still
    /// `current`.
    pub fn forget_owner(&self, owner: &str, current: Option<u64>) {
        self.forget_tokens(owner);
        self.forget_lookups(&owner.to_ascii_lowercase(), current);
    }
}
