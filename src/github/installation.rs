//! The App's installations: which one serves a target, the tokens that it acts with, the calls made with them.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use http::header::HeaderValue;
use serde::Deserialize;

use super::GitHub;
use super::answer::Answer;
use super::answer::refusal;
use super::budget::Quota;
use super::call::Call;
use super::deadline::Deadline;
use super::error::Error;
use super::operation::Operation;
use super::paths::installation_path;
use super::transport::bearer;
use crate::model::{Backoff, Target};
use crate::single_flight::SingleFlight;

/// A token is renewed this long before its end, while it still serves.
const RENEW_BEFORE: TimeDelta = TimeDelta::minutes(5);
/// With less than this left it does not serve any more.
const MIN_REMAINING: TimeDelta = TimeDelta::minutes(1);
/// A new token may be refused this long: not all of GitHub's servers know it yet.
const PROPAGATION: TimeDelta = TimeDelta::seconds(6);
/// Between two attempts with such a token.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
/// How long it is remembered that there is no installation.
const REMEMBER_ABSENT: TimeDelta = TimeDelta::minutes(1);

/// The one permission that a call rests on; a token is asked for with only this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    OrganizationRunners,
    Administration,
    /// To cancel a workflow run.
    Actions,
}

impl Permission {
    /// The one that the calls about a target's runners need.
    pub fn of(target: &Target) -> Permission {
        match target {
            Target::Organization(_) => Permission::OrganizationRunners,
            Target::Repository { .. } => Permission::Administration,
        }
    }

    /// As GitHub names it in `x-accepted-github-permissions`.
    pub fn as_str(self) -> &'static str {
        match self {
            Permission::OrganizationRunners => "organization_self_hosted_runners=write",
            Permission::Administration => "administration=write",
            Permission::Actions => "actions=write",
        }
    }

    fn body(self) -> &'static [u8] {
        match self {
            Permission::OrganizationRunners => {
                br#"{"permissions":{"organization_self_hosted_runners":"write"}}"#
            }
            Permission::Administration => br#"{"permissions":{"administration":"write"}}"#,
            Permission::Actions => br#"{"permissions":{"actions":"write"}}"#,
        }
    }
}

/// One installation: its id, its quota and its tokens, one for each permission.
pub(super) struct Installation {
    id: u64,
    /// What it may still ask.
    pub quota: Quota,
    organization_runners: Arc<SingleFlight<Token, Error>>,
    administration: Arc<SingleFlight<Token, Error>>,
    actions: Arc<SingleFlight<Token, Error>>,
}

impl Installation {
    /// With this id, and no token yet.
    pub fn new(id: u64) -> Installation {
        Installation {
            id,
            quota: Quota::new(id.to_string()),
            organization_runners: Arc::default(),
            administration: Arc::default(),
            actions: Arc::default(),
        }
    }

    /// GitHub's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    fn tokens(&self, permission: Permission) -> &Arc<SingleFlight<Token, Error>> {
        match permission {
            Permission::OrganizationRunners => &self.organization_runners,
            Permission::Administration => &self.administration,
            Permission::Actions => &self.actions,
        }
    }

    /// Every next call fetches a new one.
    pub fn forget_tokens(&self) {
        self.organization_runners.forget(|_| true);
        self.administration.forget(|_| true);
        self.actions.forget(|_| true);
    }
}

/// An installation token, only as the header that it is used in, which no `Debug` shows.
#[derive(Clone)]
struct Token {
    bearer: HeaderValue,
    expires_at: DateTime<Utc>,
    minted_at: DateTime<Utc>,
}

impl Token {
    fn may_be_unknown_yet(&self, now: DateTime<Utc>) -> bool {
        now - self.minted_at < PROPAGATION
    }
}

/// What a lookup found, and when.
#[derive(Clone)]
pub(super) struct Found {
    id: Option<u64>,
    at: DateTime<Utc>,
}

impl GitHub {
    /// The id of the installation that serves a target: as configured, as remembered, or as GitHub says.
    pub async fn installation_id(&self, target: &Target, deadline: Deadline) -> Result<u64, Error> {
        Ok(self.installation(target, deadline).await?.id)
    }

    /// Makes a call with a token for the permission that the target's runners need.
    pub(super) async fn as_installation(
        &self,
        target: &Target,
        call: &Call<'_>,
        deadline: Deadline,
    ) -> Result<Answer, Error> {
        self.with_permission(target, Permission::of(target), call, deadline).await
    }

    /// Makes a call with a token for one permission. A refusal that a token's age explains is waited
    /// out or answered with another token; a refused call was not made, so this holds for a POST as well.
    /// Success, 404, 409, 422 and the like come back as the answer.
    pub(super) async fn with_permission(
        &self,
        target: &Target,
        permission: Permission,
        call: &Call<'_>,
        deadline: Deadline,
    ) -> Result<Answer, Error> {
        let deadline = deadline.sooner(self.timeout());
        let (mut looked_again, mut replaced) = (false, false);
        let mut refused_times = 0;
        loop {
            let installation = self.installation(target, deadline).await?;
            let token = match self.token(&installation, permission, deadline).await {
                Err(Error::NotFound { .. })
                    if !looked_again && self.forget_installation(target, installation.id) =>
                {
                    looked_again = true;
                    continue;
                }
                token => token?,
            };
            let answer = self.send(&installation.quota, &token.bearer, call, deadline).await?;
            if !matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                return Ok(answer);
            }
            let refused = refusal(&answer, permission.as_str(), "such thing");
            let may_pass = match &refused {
                Error::Unauthorized { .. } => true,
                Error::PermissionMissing { message, .. } => message.contains("not accessible by integration"),
                _ => false,
            };
            refused_times += 1;
            let pause = BACKOFF.jittered(refused_times);
            let waits =
                may_pass && token.may_be_unknown_yet(self.clock().now()) && pause < deadline.remaining();
            if waits {
                tokio::time::sleep(pause).await;
                replaced = true;
                continue;
            }
            if answer.status != StatusCode::UNAUTHORIZED {
                return Err(refused);
            }
            installation.tokens(permission).forget(|kept| kept.bearer == token.bearer);
            if replaced {
                return Err(refused);
            }
            replaced = true;
        }
    }

    /// The token in use; renewed ahead of its end by one fetch, however many want it.
    async fn token(
        &self,
        installation: &Arc<Installation>,
        permission: Permission,
        deadline: Deadline,
    ) -> Result<Token, Error> {
        let now = self.clock().now();
        let flight = installation.tokens(permission);
        let serves = |token: &Token| token.expires_at - now > MIN_REMAINING;
        let mint = || self.clone().mint(installation.id, permission);
        let Some(token) = flight.peek(serves) else {
            return deadline.bound(flight.get(serves, mint)).await;
        };
        if token.expires_at - now <= RENEW_BEFORE {
            flight.refresh(mint);
        }
        Ok(token)
    }

    async fn mint(self, id: u64, permission: Permission) -> Result<Token, Error> {
        #[derive(Deserialize)]
        struct Minted {
            token: String,
            expires_at: DateTime<Utc>,
        }
        let call = Call {
            body: Some(permission.body()),
            ..Call::new(Operation::InstallationToken, format!("/app/installations/{id}/access_tokens"))
        };
        let deadline = Deadline::within(self.timeout());
        let answer = self.as_app(&call, deadline).await.map_err(Error::before_the_call)?;
        if !answer.status.is_success() {
            let message = answer.message();
            return Err(match answer.status {
                // "The permissions requested are not granted to this installation."
                StatusCode::UNPROCESSABLE_ENTITY if message.contains("permission") => {
                    Error::PermissionMissing { needed: permission.as_str().into(), message }
                }
                _ => refusal(&answer, permission.as_str(), &format!("installation {id} of the App")),
            });
        }
        let minted: Minted = answer.decode(false)?;
        Ok(Token {
            bearer: bearer(&minted.token)?,
            expires_at: minted.expires_at,
            minted_at: self.clock().now(),
        })
    }

    async fn installation(&self, target: &Target, deadline: Deadline) -> Result<Arc<Installation>, Error> {
        if let Some(installation) = self.installations().get(target.owner()) {
            return Ok(installation.clone());
        }
        let lookup = self.0.lookups.of(target);
        let now = self.clock().now();
        let holds = |found: &Found| found.id.is_some() || now - found.at < REMEMBER_ABSENT;
        let found = deadline.bound(lookup.get(holds, || self.clone().look_up(target.clone()))).await?;
        let Some(id) = found.id else {
            return Err(Error::NotFound { what: format!("installation of the App for {target}") });
        };
        let mut installations = self.installations();
        let installation = installations.entry(target.owner().to_owned());
        Ok(installation.or_insert_with(|| Arc::new(Installation::new(id))).clone())
    }

    async fn look_up(self, target: Target) -> Result<Found, Error> {
        #[derive(Deserialize)]
        struct InstallationBody {
            id: u64,
        }
        let call = Call::new(Operation::FindInstallation, installation_path(&target));
        let answer = self.as_app(&call, Deadline::within(self.timeout())).await?;
        let id = match answer.status {
            StatusCode::NOT_FOUND => None,
            status if status.is_success() => Some(answer.decode::<InstallationBody>(false)?.id),
            _ => return Err(refusal(&answer, "metadata=read", "such target")),
        };
        Ok(Found { id, at: self.clock().now() })
    }

    /// Whether the installation may be another one by now; a configured one stays what it is.
    fn forget_installation(&self, target: &Target, id: u64) -> bool {
        let owner = target.owner();
        if self.configured_installation() == Some((owner, id)) {
            return false;
        }
        self.0.lookups.forget(|other| other == target);
        let mut installations = self.installations();
        if installations.get(owner).is_some_and(|kept| kept.id == id) {
            installations.remove(owner);
        }
        true
    }

    /// Drops the tokens of an owner's installation, as when they accepted new permissions.
    pub fn forget_tokens(&self, owner: &str) {
        if let Some(installation) = self.installations().get(&owner.to_ascii_lowercase()) {
            installation.forget_tokens();
        }
    }
}
