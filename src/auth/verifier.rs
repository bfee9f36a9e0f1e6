//! Turns a bearer token into an identity, by the rules of the contract's "Tokens that we accept".

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::fetch::Client;
use super::provider::Provider;
use super::token::{self, Unverified};
use super::{Error, IssuerStatus, Verified};
use crate::clock::Clock;
use crate::config;

/// Knows whose tokens are accepted and keeps their keys. Clones share them.
#[derive(Clone)]
pub struct Verifier {
    /// By `iss`, fixed at start: what a token names can never make us ask somebody new.
    providers: Arc<HashMap<String, Arc<Provider>>>,
    leeway: f64,
    clock: Clock,
}

impl Verifier {
    /// How often to call [`Verifier::refresh`]; it asks only issuers whose keys are due.
    pub const REFRESH_INTERVAL: Duration = Duration::from_secs(30);

    /// Sends nothing yet.
    pub fn new(config: &config::Oidc, clock: Clock) -> Result<Verifier, Error> {
        let client = Client::new().map_err(Error::Client)?;
        let providers = config.issuers.iter().map(|issuer| {
            let provider = Provider::new(issuer.clone(), client.clone(), clock.clone());
            (issuer.issuer.clone(), Arc::new(provider))
        });
        let providers = Arc::new(providers.collect());
        Ok(Verifier { providers, leeway: config.leeway.as_secs_f64(), clock })
    }

    /// One background round: asks every issuer whose keys are not known or older than five minutes.
    /// Failures are logged and shown by `issuers`.
    pub async fn refresh(&self) {
        join_all(self.providers.values().map(|provider| provider.refresh())).await;
    }

    /// Who holds this token. Everything cheap is checked first, so that a token which is refused anyway
    /// costs neither a signature check nor a question to its issuer.
    pub async fn verify(&self, unverified_token: &str) -> Result<Verified, Error> {
        let of_nobody = |why| Error::Invalid { why, known_issuer: None };
        let unverified = Unverified::parse(unverified_token).map_err(of_nobody)?;
        let unverified_issuer = unverified.issuer().ok_or(of_nobody("iss is missing"))?;
        let provider =
            self.providers.get(unverified_issuer).ok_or(of_nobody("the issuer is not known here"))?;
        unverified
            .check(&provider.config.audience, self.clock.now(), self.leeway)
            .map_err(|why| provider.invalid(why))?;
        provider.authenticate(&unverified).await?;
        Ok(Verified { identity: token::identity(&unverified.claims), claims: unverified.claims })
    }

    /// Whether tokens of any issuer can be verified.
    pub fn ready(&self) -> bool {
        self.providers.values().any(|provider| provider.usable())
    }

    /// How each issuer is doing, sorted by issuer.
    pub fn issuers(&self) -> Vec<IssuerStatus> {
        let mut all: Vec<_> = self.providers.values().map(|provider| provider.status()).collect();
        all.sort_by(|a, b| a.issuer.cmp(&b.issuer));
        all
    }
}
