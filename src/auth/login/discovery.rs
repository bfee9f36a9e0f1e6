//! Where a provider has its endpoints, by its discovery document (OpenID Connect Discovery 1.0, 4).
//!
//! Not [`openidconnect::ProviderMetadata`]: that refuses a document for a field that no sign-in uses, when one is
//! missing or has an unexpected type, and fetches the keys in the same breath.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use openidconnect::{AuthUrl, IssuerUrl, TokenUrl, UserInfoUrl};
use serde::Deserialize;
use url::Url;

use super::Fault;
use super::code::Endpoints;
use crate::auth::fetch::{self, Client};
use crate::clock::Clock;
use crate::single_flight::SingleFlight;

/// How long what was discovered is taken for true.
const FRESH: TimeDelta = TimeDelta::minutes(10);
/// How long it serves when the provider does not answer.
const TRUSTED: TimeDelta = TimeDelta::hours(24);
/// After a failure: people who want to sign in must not make us a nuisance to the provider.
const COOLDOWN: TimeDelta = TimeDelta::seconds(10);

/// The fields that matter here (OpenID Connect Discovery 1.0, 3).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: AuthUrl,
    token_endpoint: TokenUrl,
    userinfo_endpoint: Option<UserInfoUrl>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

/// A provider, as it described itself.
pub struct Discovered {
    /// Exactly as configured.
    pub issuer: IssuerUrl,
    /// For the code flow.
    pub endpoints: Endpoints,
    pub userinfo: Option<Url>,
}

/// The latest answers: the last good one stays when the next fails.
#[derive(Clone, Default)]
struct Known {
    found: Option<(DateTime<Utc>, Arc<Discovered>)>,
    failed: Option<(DateTime<Utc>, Arc<fetch::Error>)>,
}

/// One provider's document, fetched when somebody signs in and it is older than ten minutes.
pub struct Discovery {
    issuer: String,
    client: Client,
    clock: Clock,
    known: Arc<SingleFlight<Known>>,
}

impl Discovery {
    /// Asks nothing yet.
    pub fn new(issuer: &str, client: Client, clock: Clock) -> Discovery {
        Discovery { issuer: issuer.to_owned(), client, clock, known: Arc::default() }
    }

    /// The provider as it described itself within the last ten minutes, or within a day if it does not answer.
    pub async fn provider(self: &Arc<Self>) -> Result<Arc<Discovered>, Fault> {
        let now = self.clock.now();
        let is_settled = |known: &Known| {
            known.found.as_ref().is_some_and(|(at, _)| now - *at < FRESH)
                || known.failed.as_ref().is_some_and(|(at, _)| now - *at < COOLDOWN)
        };
        let discovery = self.clone();
        let asking = self.known.get(is_settled, || async move { Ok(discovery.ask().await) });
        let known = asking.await.unwrap_or_default();
        match (&known.found, &known.failed) {
            (Some((at, found)), _) if now - *at < TRUSTED => Ok(found.clone()),
            (_, Some((_, err))) => Err(Fault::Unavailable(err.clone())),
            (_, None) => Err(fetch::Error::Unanswered.into()),
        }
    }

    async fn ask(&self) -> Known {
        let now = self.clock.now();
        let asked = tokio::time::timeout(fetch::TIME_LIMIT, self.discover()).await;
        match asked.unwrap_or(Err(fetch::Error::TooSlow)) {
            Ok(found) => Known { found: Some((now, Arc::new(found))), failed: None },
            Err(err) => {
                tracing::warn!(issuer = self.issuer, error = %err, "cannot discover the login provider");
                let before = self.known.peek(|_| true).unwrap_or_default();
                Known { failed: Some((now, Arc::new(err))), ..before }
            }
        }
    }

    async fn discover(&self) -> Result<Discovered, fetch::Error> {
        let found: Metadata = self.client.discovery(&self.issuer).await?;
        if found.issuer != self.issuer {
            return Err(fetch::Error::OtherIssuer(found.issuer.chars().take(256).collect()));
        }
        let issuer = IssuerUrl::new(found.issuer)?;
        let userinfo = found.userinfo_endpoint.map(|url| url.url().clone());
        let endpoints = [found.authorization_endpoint.url(), found.token_endpoint.url()];
        for url in endpoints.into_iter().chain(&userinfo) {
            fetch::refuse_downgrade(issuer.url(), url)?;
        }
        let methods = &found.token_endpoint_auth_methods_supported;
        let takes = |method: &str| methods.iter().any(|known| known == method);
        let endpoints = Endpoints {
            // A provider that names no method takes the header (RFC 8414, 2).
            secret_in_body: takes("client_secret_post") && !takes("client_secret_basic"),
            authorization: found.authorization_endpoint,
            token: found.token_endpoint,
        };
        Ok(Discovered { issuer, endpoints, userinfo })
    }
}
