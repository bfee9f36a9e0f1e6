//! The token that `config.sh remove` wants.

use std::sync::Arc;

use secrecy::ExposeSecret;
use serde_json::json;

use crate::broker::events::{About, Kind, record};
use crate::broker::people::caller::Caller;
use crate::broker::{Broker, Error};
use crate::github::IssuedToken;
use crate::model::{Method, sha256};
use crate::policy::Denial;
use crate::store::runners::Runner;

impl Broker {
    /// A token for `config.sh remove`. JIT runners have nothing that could use it.
    ///
    /// # Errors
    ///
    /// [`Error::RunnerNotFound`], [`Error::Forbidden`], [`Error::NoRemoveTokenForJit`], [`Error::RunnerGone`],
    /// [`Error::Denied`], [`Error::TooManyGitHubCalls`],
    /// [`Error::GitHub`], [`Error::Store`] or [`Error::Panicked`].
    pub async fn remove_token(
        self: &Arc<Self>,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<(Runner, IssuedToken), Error> {
        let runner = self.find_to_change(caller, id_or_name).await?;
        if runner.method == Method::Jit {
            return Err(Error::NoRemoveTokenForJit);
        }
        if !runner.status.is_live() {
            let status = runner.status.as_str();
            return Err(Error::RunnerGone { name: runner.name, status, verb: "remove" });
        }
        self.permits_remove_token(caller, &runner).await?;
        self.spend_github_call(caller)?;
        let (broker, caller) = (self.clone(), caller.clone());
        self.run_detached(async move {
            let issued = broker.github.remove_token(&runner.target, broker.deadline()).await;
            let event = match &issued {
                Ok(issued) => {
                    let sha256 = sha256(issued.token.expose_secret());
                    broker
                        .event(Kind::RemoveTokenIssued, caller.actor())
                        .with(json!({ "credential_sha256": sha256, "expires_at": issued.expires_at }))
                }
                Err(err) => {
                    broker.event(Kind::RemoveTokenFailed, caller.actor()).because(&Error::GitHub(err.clone()))
                }
            };
            let event = event.about(&runner);
            broker.store.transaction::<_, Error, _>(async |conn| record(conn, event).await).await?;
            Ok((runner, issued?))
        })
        .await
    }

    /// A remove token is good for every runner of its target, so that only teams get one that may register runners by
    /// a token, whatever they were allowed when this runner was made.
    async fn permits_remove_token(&self, caller: &Caller, runner: &Runner) -> Result<(), Error> {
        let rules = &self.policy.load().rules;
        let methods = rules.team(&runner.team).map_or(&[][..], |team| team.methods());
        if methods.contains(&Method::RegistrationToken) {
            return Ok(());
        }
        let refusal = Error::Denied(Denial::Method(Method::RegistrationToken));
        if self.has_own_event(caller, Kind::RemoveTokenFailed, refusal.code()) {
            let event = self.event(Kind::RemoveTokenFailed, caller.actor()).about(runner).because(&refusal);
            self.store.transaction::<_, Error, _>(async |conn| record(conn, event).await).await?;
        }
        Err(refusal)
    }
}
