//! Any OpenID provider (OpenID Connect Core 1.0, 3.1), by the code flow in [`code`](super::code).
//!
//! Its ID tokens are judged by [`Unverified`] and [`Keys`], not by `openidconnect`'s verifier: a person who signs in
//! and a person who shows a token of the same issuer must be one identity, accepted by one set of rules. The crate's
//! verifier has no limits for a key's size, uses keys whose private half was published, and refuses a token for a
//! standard claim of an unusual type, such as `email_verified` as a text.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use url::Url;

use super::code::Registration;
use super::discovery::Discovery;
use super::{Attempt, Back, Fault};
use crate::auth::Verified;
use crate::auth::fetch::Client;
use crate::auth::provider::Provider as Keys;
use crate::auth::token::{Unverified, identity};
use crate::clock::Clock;
use crate::config;

/// Claims that say something about this one token and nothing about its user.
const OF_THE_TOKEN: [&str; 4] = ["nonce", "at_hash", "c_hash", "s_hash"];

/// One OpenID provider.
pub struct OpenId {
    issuer: String,
    registration: Registration,
    client: Client,
    leeway: f64,
    clock: Clock,
    always_asks: bool,
    /// The keys of the issuer's ID tokens, which are for our client's id.
    keys: Arc<Keys>,
    provider: Arc<Discovery>,
}

impl OpenId {
    /// Asks nothing yet. `leeway` is for clocks that differ.
    pub fn new(
        issuer: &str,
        registration: Registration,
        client: Client,
        leeway: Duration,
        clock: Clock,
    ) -> OpenId {
        let provider = Arc::new(Discovery::new(issuer, client.clone(), clock.clone()));
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
            provider,
        }
    }

    /// For providers whose ID tokens say less than their userinfo.
    pub fn always_asking_for_info(self) -> OpenId {
        OpenId { always_asks: true, ..self }
    }

    async fn url_for(&self, attempt: &Attempt) -> Result<Url, Fault> {
        let provider = self.provider.provider().await?;
        Ok(self.registration.openid_url(&provider.issuer, &provider.endpoints, attempt))
    }

    async fn user_of(&self, attempt: &Attempt, back: &Back) -> Result<Verified, Fault> {
        let provider = self.provider.provider().await?;
        let tokens = self
            .registration
            .exchange_openid(&self.client, &provider.issuer, &provider.endpoints, attempt, &back.code)
            .await?;
        let id_token = tokens.id.as_ref().ok_or(Fault::Unproven("there is no ID token"))?;
        let mut claims = self.judge(id_token, attempt).await?;
        let lacks = |name: &str| !claims.contains_key(name);
        if let Some(userinfo) = &provider.userinfo
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
