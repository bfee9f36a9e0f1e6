//! Asks an issuer for its keys: discovery, then the key set, within limits of time and size.

use std::time::Duration;

use openidconnect::{IssuerUrl, JsonWebKeySetUrl};
use reqwest::header::ACCEPT;
use serde::Deserialize;
use url::Url;

use super::keys::Keys;
use crate::config::{self, is_secure};

/// For discovery and key set together.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// For one document, in bytes. GitHub's and Google's key sets have fewer than 8,000.
const SIZE_LIMIT: usize = 256 * 1024;
const DISCOVERY: &str = ".well-known/openid-configuration";

/// Why an issuer's keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{url} cannot be reached")]
    Unreachable {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{url} answered {status}; redirects are not followed")]
    Status { url: String, status: u16 },
    #[error("{url} answered more than {SIZE_LIMIT} bytes")]
    TooLarge { url: String },
    #[error("no complete answer within {} s", TIME_LIMIT.as_secs())]
    TooSlow,
    #[error("{url} answered something else than the document wanted")]
    Malformed {
        url: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the discovery document names another issuer: '{0}'")]
    OtherIssuer(String),
    #[error(
        "{0} is not safe to fetch keys from: https is wanted, or http if the issuer is on loopback itself"
    )]
    Insecure(String),
    #[error("the issuer is not a URL")]
    NotAUrl(#[from] url::ParseError),
    #[error("it has not answered yet")]
    Unanswered,
}

/// The client for issuers. Follows no redirect and keeps no connection: it is used every few minutes.
#[derive(Clone)]
pub struct Client(reqwest::Client);

/// The two fields of a discovery document that matter here. `openidconnect::ProviderMetadata` also wants
/// fields of the browser sign-in, which GitHub Actions and Kubernetes do not have.
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: JsonWebKeySetUrl,
}

impl Client {
    pub fn new() -> Result<Client, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .user_agent(concat!("runner-broker/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Client(client))
    }

    /// The keys that the issuer publishes now.
    pub async fn keys(&self, issuer: &config::Issuer) -> Result<Keys, Error> {
        tokio::time::timeout(TIME_LIMIT, self.ask(issuer)).await.unwrap_or(Err(Error::TooSlow))
    }

    async fn ask(&self, issuer: &config::Issuer) -> Result<Keys, Error> {
        let url = match &issuer.jwks_url {
            Some(url) => url.clone(),
            None => self.discover(&issuer.issuer).await?,
        };
        let body = self.get(&url).await?;
        Keys::parse(&body).map_err(|source| Error::Malformed { url: url.to_string(), source })
    }

    async fn discover(&self, issuer: &str) -> Result<Url, Error> {
        let issuer = IssuerUrl::new(issuer.to_owned())?;
        let url = issuer.join(DISCOVERY)?;
        let body = self.get(&url).await?;
        let found: Discovered = serde_json::from_slice(&body)
            .map_err(|source| Error::Malformed { url: url.to_string(), source })?;
        if found.issuer != issuer.as_str() {
            return Err(Error::OtherIssuer(found.issuer.chars().take(256).collect()));
        }
        let jwks_uri = found.jwks_uri.url();
        match is_downgrade(&url, jwks_uri) {
            false => Ok(jwks_uri.clone()),
            true => Err(Error::Insecure(jwks_uri.to_string())),
        }
    }

    async fn get(&self, url: &Url) -> Result<Vec<u8>, Error> {
        if !is_secure(url) {
            return Err(Error::Insecure(url.to_string()));
        }
        let unreachable = |source: reqwest::Error| Error::Unreachable {
            url: url.to_string(),
            source: source.without_url(),
        };
        let request = self.0.get(url.clone()).header(ACCEPT, "application/json");
        let mut answer = request.send().await.map_err(unreachable)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(Error::Status { url: url.to_string(), status: answer.status().as_u16() });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > SIZE_LIMIT {
                return Err(Error::TooLarge { url: url.to_string() });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// What was learned over https is not to be followed over anything less, not even to loopback.
fn is_downgrade(from: &Url, to: &Url) -> bool {
    from.scheme() == "https" && to.scheme() != "https"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_https_issuer_cannot_point_at_a_neighbour_on_loopback() {
        let downgrade = |from: &str, to: &str| is_downgrade(&from.parse().unwrap(), &to.parse().unwrap());
        assert!(downgrade("https://idp.example.com", "http://127.0.0.1/keys"));
        assert!(!downgrade("https://idp.example.com", "https://keys.example.com"));
        assert!(!downgrade("http://localhost", "http://localhost/keys"));
    }
}
