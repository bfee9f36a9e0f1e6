//! Any OpenID provider (OpenID Connect Core 1.0, 3.1). Its ID tokens are judged by what judges bearer tokens, so that
//! whoever signs in and whoever shows a token of the same issuer are one identity.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use openidconnect::{AuthUrl, TokenUrl, UserInfoUrl};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use url::Url;

use super::code::{Endpoints, Registration};
use super::{Attempt, Back, Fault};
use crate::auth::Verified;
use crate::auth::fetch::{self, Client};
use crate::auth::provider::Provider as Keys;
use crate::auth::token::{Unverified, identity};
use crate::clock::Clock;
use crate::config;

/// How long what was discovered is taken for true.
const FRESH: TimeDelta = TimeDelta::minutes(10);
/// How long it serves when the provider does not answer.
const TRUSTED: TimeDelta = TimeDelta::hours(24);
/// Between two failures: whoever wants to sign in must not make us a nuisance to the provider.
const COOLDOWN: TimeDelta = TimeDelta::seconds(10);

/// Claims that say something about this one token and nothing about its user.
const OF_THE_TOKEN: [&str; 4] = ["nonce", "at_hash", "c_hash", "s_hash"];

pub struct OpenId {
    issuer: String,
    registration: Registration,
    client: Client,
    leeway: f64,
    clock: Clock,
    always_asks: bool,
    /// The keys of the issuer's ID tokens, which are for our client's id.
    keys: Arc<Keys>,
    /// Held while the provider is asked; the others wait here.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    found: Option<(DateTime<Utc>, Arc<Discovered>)>,
    failed: Option<(DateTime<Utc>, Arc<fetch::Error>)>,
}

/// What matters here of a discovery document (OpenID Connect Discovery 1.0, 3).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: AuthUrl,
    token_endpoint: TokenUrl,
    userinfo_endpoint: Option<UserInfoUrl>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

struct Discovered {
    endpoints: Endpoints,
    userinfo: Option<Url>,
}

impl OpenId {
    pub fn new(
        issuer: &str,
        registration: Registration,
        client: Client,
        leeway: Duration,
        clock: Clock,
    ) -> OpenId {
        let audience = registration.client_id.clone();
        let keys = config::Issuer { issuer: issuer.to_owned(), audience, jwks_url: None };
        OpenId {
            issuer: issuer.to_owned(),
            registration,
            keys: Arc::new(Keys::new(keys, client.clone(), clock.clone())),
            client,
            leeway: leeway.as_secs_f64(),
            clock,
            always_asks: false,
            known: Mutex::default(),
        }
    }

    /// For providers whose ID tokens say less than their userinfo.
    pub fn always_asking_for_info(self) -> OpenId {
        OpenId { always_asks: true, ..self }
    }

    async fn discovered(&self) -> Result<Arc<Discovered>, Fault> {
        let mut known = self.known.lock().await;
        let now = self.clock.now();
        if let Some((at, found)) = &known.found
            && now - *at < FRESH
        {
            return Ok(found.clone());
        }
        let failed_lately = known.failed.as_ref().is_some_and(|(at, _)| now - *at < COOLDOWN);
        if !failed_lately {
            let asked = tokio::time::timeout(fetch::TIME_LIMIT, self.discover()).await;
            match asked.unwrap_or(Err(fetch::Error::TooSlow)) {
                Ok(found) => *known = Known { found: Some((now, Arc::new(found))), failed: None },
                Err(err) => {
                    tracing::warn!(issuer = self.issuer, error = %err, "cannot discover the login provider");
                    known.failed = Some((now, Arc::new(err)));
                }
            }
        }
        match (&known.found, &known.failed) {
            (Some((at, found)), _) if now - *at < TRUSTED => Ok(found.clone()),
            (_, Some((_, err))) => Err(Fault::Unavailable(err.clone())),
            (_, None) => Err(fetch::Error::Unanswered.into()),
        }
    }

    async fn discover(&self) -> Result<Discovered, fetch::Error> {
        let found: Metadata = self.client.discovery(&self.issuer).await?;
        if found.issuer != self.issuer {
            return Err(fetch::Error::OtherIssuer(found.issuer.chars().take(256).collect()));
        }
        let ours = Url::parse(&self.issuer)?;
        let authorization = found.authorization_endpoint.url().clone();
        let token = found.token_endpoint.url().clone();
        let userinfo = found.userinfo_endpoint.map(|url| url.url().clone());
        for url in [&authorization, &token].into_iter().chain(&userinfo) {
            fetch::refuse_downgrade(&ours, url)?;
        }
        let methods = &found.token_endpoint_auth_methods_supported;
        let takes = |method: &str| methods.iter().any(|known| known == method);
        // Without a word of it the provider takes the header.
        let secret_in_body = takes("client_secret_post") && !takes("client_secret_basic");
        Ok(Discovered { endpoints: Endpoints { authorization, token, secret_in_body }, userinfo })
    }

    async fn url_for(&self, attempt: &Attempt) -> Result<Url, Fault> {
        let known = self.discovered().await?;
        let nonce = [("nonce", attempt.nonce(&self.registration.id))];
        Ok(self.registration.authorization_url(&known.endpoints, attempt, &nonce))
    }

    async fn user_of(&self, attempt: &Attempt, back: &Back) -> Result<Verified, Fault> {
        let known = self.discovered().await?;
        let tokens = self.registration.exchange(&self.client, &known.endpoints, attempt, &back.code).await?;
        let id_token = tokens.id.as_ref().ok_or(Fault::Unproven("there is no ID token"))?;
        let mut claims = self.judge(id_token, attempt).await?;
        let lacks = |name: &str| !claims.contains_key(name);
        if let Some(userinfo) = &known.userinfo
            && (self.always_asks || lacks("groups") || lacks("email"))
        {
            let more = self.info(userinfo, &tokens.access, &claims).await?;
            // The ID token was made for us and for this attempt: what it says stands.
            for (name, value) in more {
                claims.entry(name).or_insert(value);
            }
        }
        OF_THE_TOKEN.iter().for_each(|name| drop(claims.remove(*name)));
        Ok(Verified { identity: identity(&claims), claims })
    }

    /// The claims of an ID token that was made by this issuer, for us, for this attempt, and is still good.
    async fn judge(&self, id_token: &SecretString, attempt: &Attempt) -> Result<Map<String, Value>, Fault> {
        let token = Unverified::parse(id_token.expose_secret()).map_err(Fault::Unproven)?;
        if token.issuer() != Some(self.issuer.as_str()) {
            return Err(Fault::Unproven("the ID token is of another issuer"));
        }
        let client_id = self.registration.client_id.as_str();
        token.check(client_id, self.clock.now(), self.leeway).map_err(Fault::Unproven)?;
        match (token.claims.get("azp"), token.claims.get("aud")) {
            (Some(azp), _) if azp != client_id => {
                return Err(Fault::Unproven("the ID token was made for another client (azp)"));
            }
            (None, Some(Value::Array(all))) if all.len() > 1 => {
                return Err(Fault::Unproven("the ID token has several audiences and no azp"));
            }
            _ => {}
        }
        let nonce = token.claims.get("nonce").and_then(Value::as_str).unwrap_or_default();
        let expected = attempt.nonce(&self.registration.id);
        verify_slices_are_equal(nonce.as_bytes(), expected.as_bytes())
            .map_err(|_| Fault::Unproven("the ID token was made for another sign-in (nonce)"))?;
        // A key that was withdrawn counts no more; who signs in can wait for that answer.
        self.keys.refresh().await;
        self.keys.authenticate(&token).await?;
        Ok(token.claims)
    }

    /// What the provider says of the user beyond the ID token (OpenID Connect Core 1.0, 5.3). If it does not say
    /// it, nobody is signed in: what somebody may do must not hang on whether an answer got lost.
    async fn info(
        &self,
        url: &Url,
        access: &SecretString,
        claims: &Map<String, Value>,
    ) -> Result<Map<String, Value>, Fault> {
        let info: Map<String, Value> = self.client.get_as(url, access).await?;
        match info.get("sub") == claims.get("sub") {
            true => Ok(info),
            false => Err(Fault::Unproven("its userinfo is about somebody else")),
        }
    }
}

impl super::Provider for OpenId {
    fn issuer(&self) -> &str {
        &self.issuer
    }

    fn authorization_url<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Url, Fault>> {
        self.url_for(attempt).boxed()
    }

    fn user<'a>(&'a self, attempt: &'a Attempt, back: &'a Back) -> BoxFuture<'a, Result<Verified, Fault>> {
        self.user_of(attempt, back).boxed()
    }
}
