//! The calls about one runner: made, found, removed; and the tokens for `config.sh`.

use chrono::{DateTime, Utc};
use http::StatusCode;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::answer::refusal;
use super::call::Call;
use super::deadline::Deadline;
use super::error::Error;
use super::installation::Permission;
use super::operation::Operation;
use super::paths::actions;
use super::runner::{Runner, RunnerBody};
use super::{GitHub, MAX_PAGES};
use crate::model::{Label, Target};
use crate::policy::Grant;

/// A runner that GitHub made, and what it starts with: private key material, once.
#[derive(Debug)]
pub struct JitRunner {
    /// As GitHub has it now.
    pub runner: Runner,
    /// Base64; for `run.sh --jitconfig`.
    pub encoded_jit_config: SecretString,
}

/// A registration or remove token.
#[derive(Debug)]
pub struct IssuedToken {
    /// For `config.sh --token`.
    pub token: SecretString,
    /// An hour after it was issued.
    pub expires_at: DateTime<Utc>,
}

/// What became of a runner that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// GitHub has it no more.
    Removed,
    /// GitHub has no such runner, or has removed it on an earlier attempt of the same call.
    NotThere,
    /// It runs a job, and stays.
    Busy,
}

/// A refusal of a call about a target's runners.
pub(super) fn refused(answer: &Answer, target: &Target, what: &str) -> Error {
    refusal(answer, Permission::of(target).as_str(), what)
}

impl GitHub {
    /// Makes a JIT runner: GitHub's `generate-jitconfig`, sent at most once after it may have been heard.
    /// After [`Error::lost_answer`] the runner may exist; [`Error::Conflict`]: its name is taken; [`Error::NotFound`]: no such
    /// runner group, target or installation.
    pub async fn generate_jitconfig(
        &self,
        grant: &Grant,
        name: &str,
        deadline: Deadline,
    ) -> Result<JitRunner, Error> {
        #[derive(Serialize)]
        struct Ask<'a> {
            name: &'a str,
            runner_group_id: i64,
            labels: Vec<&'a Label>,
            work_folder: &'a str,
        }
        #[derive(Deserialize)]
        struct Made {
            runner: RunnerBody,
            encoded_jit_config: String,
        }
        let ask = Ask {
            name,
            runner_group_id: grant.group_id(),
            labels: grant.labels().iter().collect(),
            work_folder: grant.work_folder(),
        };
        let body = serde_json::to_vec(&ask)
            .map_err(|err| Error::Unavailable { maybe_done: false, why: format!("no request: {err}") })?;
        let target = grant.target();
        let path = format!("{}/runners/generate-jitconfig", actions(target));
        let call = Call { body: Some(&body), ..Call::new(Operation::GenerateJitconfig, path) };
        let answer = self.as_installation(target, &call, deadline).await?;
        if !answer.status.is_success() {
            let what = format!("runner group {} in {target}, or no such target", grant.group_id());
            return Err(refused(&answer, target, &what));
        }
        let made: Made = answer.decode(true)?;
        Ok(JitRunner { runner: made.runner.into(), encoded_jit_config: made.encoded_jit_config.into() })
    }

    /// A token with which `config.sh` registers runners for an hour.
    pub async fn registration_token(&self, grant: &Grant, deadline: Deadline) -> Result<IssuedToken, Error> {
        self.issue(Operation::RegistrationToken, "registration-token", grant.target(), deadline).await
    }

    /// A token with which `config.sh remove` removes runners for an hour.
    pub async fn remove_token(&self, target: &Target, deadline: Deadline) -> Result<IssuedToken, Error> {
        self.issue(Operation::RemoveToken, "remove-token", target, deadline).await
    }

    async fn issue(
        &self,
        operation: Operation,
        kind: &str,
        target: &Target,
        deadline: Deadline,
    ) -> Result<IssuedToken, Error> {
        #[derive(Deserialize)]
        struct Issued {
            token: String,
            expires_at: DateTime<Utc>,
        }
        let call = Call::new(operation, format!("{}/runners/{kind}", actions(target)));
        let answer = self.as_installation(target, &call, deadline).await?;
        if !answer.status.is_success() {
            return Err(refused(&answer, target, &target.to_string()));
        }
        let issued: Issued = answer.decode(true)?;
        Ok(IssuedToken { token: issued.token.into(), expires_at: issued.expires_at })
    }

    /// The runner with this id. `None`: GitHub has none, although it knows the target.
    pub async fn runner(
        &self,
        target: &Target,
        id: i64,
        deadline: Deadline,
    ) -> Result<Option<Runner>, Error> {
        let call = Call::new(Operation::GetRunner, format!("{}/runners/{id}", actions(target)));
        let answer = self.as_installation(target, &call, deadline).await?;
        match answer.status {
            StatusCode::NOT_FOUND => self.sees(target, deadline).await.map(|()| None),
            status if status.is_success() => Ok(Some(answer.decode::<RunnerBody>(false)?.into())),
            _ => Err(refused(&answer, target, "such runner")),
        }
    }

    /// The runner of this name, compared without case. `None`: GitHub has none.
    pub async fn runner_named(
        &self,
        target: &Target,
        name: &str,
        deadline: Deadline,
    ) -> Result<Option<Runner>, Error> {
        let sought: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        for page in 1..=MAX_PAGES {
            // An old Enterprise Server ignores `name`: hence the comparison and the pages.
            let path = format!("{}/runners?name={sought}&per_page=100&page={page}", actions(target));
            let call = Call::new(Operation::GetRunner, path);
            let answer = self.as_installation(target, &call, deadline).await?;
            if !answer.status.is_success() {
                return Err(refused(&answer, target, &not_shown(target)));
            }
            let runners = answer.decode::<Page>(false)?.runners;
            if let Some(found) = runners.into_iter().find(|runner| runner.is_named(name)) {
                return Ok(Some(found.into()));
            }
            if answer.has_next() != Some(true) {
                return Ok(None);
            }
        }
        Err(Error::endless())
    }

    /// Takes a runner off GitHub. May be repeated.
    pub async fn delete_runner(
        &self,
        target: &Target,
        id: i64,
        deadline: Deadline,
    ) -> Result<Removal, Error> {
        let call = Call::new(Operation::DeleteRunner, format!("{}/runners/{id}", actions(target)));
        let answer = self.as_installation(target, &call, deadline).await?;
        match answer.status {
            StatusCode::NOT_FOUND => self.sees(target, deadline).await.map(|()| Removal::NotThere),
            StatusCode::UNPROCESSABLE_ENTITY => Ok(Removal::Busy),
            status if status.is_success() => Ok(Removal::Removed),
            _ => Err(refused(&answer, target, "such runner")),
        }
    }
}

impl GitHub {
    /// Whether a 404 was about the runner: of a repository that was taken from the App everything is "not
    /// found", and nothing is gone. An organisation without the App has no tokens either, so it need not be
    /// asked. [`Error::NotFound`]: it is the target that GitHub does not show.
    async fn sees(&self, target: &Target, deadline: Deadline) -> Result<(), Error> {
        if matches!(target, Target::Organization(_)) {
            return Ok(());
        }
        let path = format!("{}/runners?per_page=1", actions(target));
        let answer = self.as_installation(target, &Call::new(Operation::ListRunners, path), deadline).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(refused(&answer, target, &not_shown(target))),
        }
    }
}

/// What a 404 about the target itself says.
pub(super) fn not_shown(target: &Target) -> String {
    format!("{target}, or the App may not see it")
}

/// A page of a target's runners.
#[derive(Deserialize)]
pub(super) struct Page {
    /// Of all pages.
    pub total_count: Option<usize>,
    /// Of this page.
    pub runners: Vec<RunnerBody>,
}
