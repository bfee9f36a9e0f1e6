//! Asks providers: for keys by discovery, for tokens, for what they say of a user; within limits of time and size.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use openidconnect::{IssuerUrl, JsonWebKeySetUrl};
use reqwest::header::{ACCEPT, AGE, DATE, HeaderMap};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::keys::Keys;
use crate::config::{self, is_secure};

/// For discovery and key set together.
pub const TIME_LIMIT: Duration = Duration::from_secs(5);
/// For one document, in bytes. GitHub's and Google's key sets have fewer than 8,000.
const SIZE_LIMIT: usize = 256 * 1024;
const DISCOVERY: &str = ".well-known/openid-configuration";

/// Why an issuer's keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke.
    #[error("{url} cannot be reached")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why, without the URL.
        #[source]
        source: reqwest::Error,
    },
    /// An answer that is not 200.
    #[error("{url} answered {status}; redirects are not followed")]
    Status {
        /// What was asked.
        url: String,
        /// Of HTTP.
        status: u16,
    },
    /// More bytes than a document of this kind has.
    #[error("{url} answered more than {SIZE_LIMIT} bytes")]
    TooLarge {
        /// What was asked.
        url: String,
    },
    /// It took longer than the time limit.
    #[error("no complete answer within {} s", TIME_LIMIT.as_secs())]
    TooSlow,
    /// JSON of another shape, or none.
    #[error("{url} answered with something other than the expected document")]
    Malformed {
        /// What was asked.
        url: String,
        /// Where it differs.
        #[source]
        source: serde_json::Error,
    },
    /// RFC 8414, 3.3: it has to name the issuer that was asked.
    #[error("the discovery document names another issuer: '{0}'")]
    OtherIssuer(String),
    #[error(
        "{0} is not safe to fetch keys from: https is wanted, or http if the issuer is on loopback itself"
    )]
    /// Neither https nor loopback.
    Insecure(String),
    /// Its discovery document has no address.
    #[error("the issuer is not a URL")]
    NotAUrl(#[from] url::ParseError),
    /// The first fetch is not over.
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
    /// System roots (`SSL_CERT_FILE`) and proxies of the environment.
    pub fn new() -> Result<Client, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .user_agent(concat!("runner-broker/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Client(client))
    }

    /// The keys that the issuer publishes now, and what its clock says if it tells.
    pub async fn keys(&self, issuer: &config::Issuer) -> Result<(Keys, Option<DateTime<Utc>>), Error> {
        tokio::time::timeout(TIME_LIMIT, self.ask(issuer)).await.unwrap_or(Err(Error::TooSlow))
    }

    async fn ask(&self, issuer: &config::Issuer) -> Result<(Keys, Option<DateTime<Utc>>), Error> {
        let url = match &issuer.jwks_url {
            Some(url) => url.clone(),
            None => self.discover(&issuer.issuer).await?,
        };
        let answer = self.get(&url).await?;
        let keys =
            Keys::parse(&answer.body).map_err(|source| Error::Malformed { url: url.to_string(), source })?;
        Ok((keys, answer.clock))
    }

    async fn discover(&self, issuer: &str) -> Result<Url, Error> {
        let found: Discovered = self.discovery(issuer).await?;
        if found.issuer != issuer {
            return Err(Error::OtherIssuer(found.issuer.chars().take(256).collect()));
        }
        let jwks_uri = found.jwks_uri.url();
        refuse_downgrade(&Url::parse(issuer)?, jwks_uri)?;
        Ok(jwks_uri.clone())
    }

    /// An issuer's discovery document, or what matters of it; whose it says it is is for the caller to check.
    pub async fn discovery<T: DeserializeOwned>(&self, issuer: &str) -> Result<T, Error> {
        let url = IssuerUrl::new(issuer.to_owned())?.join(DISCOVERY)?;
        parsed(&url, &self.get(&url).await?.body)
    }

    /// What is shown there to the holder of this access token.
    pub async fn get_as<T: DeserializeOwned>(&self, url: &Url, access: &SecretString) -> Result<T, Error> {
        let request = self.0.get(url.clone()).header(ACCEPT, "application/json");
        let answer = read(url, request.bearer_auth(access.expose_secret())).await?;
        match answer.status {
            200 => parsed(url, &answer.body),
            403 if answer.is_limited => Err(Error::Status { url: url.to_string(), status: 429 }),
            status => Err(Error::Status { url: url.to_string(), status }),
        }
    }

    /// Sends a request of `oauth2`'s. What is neither a success nor a refusal is an error.
    async fn carry(&self, request: oauth2::HttpRequest) -> Result<oauth2::HttpResponse, Error> {
        let url = Url::parse(&request.uri().to_string())?;
        let (head, body) = request.into_parts();
        let sent = self.0.request(head.method, url.clone()).headers(head.headers).body(body);
        let Answer { status, body, .. } = read(&url, sent).await?;
        let mut answer = oauth2::HttpResponse::new(body);
        match reqwest::StatusCode::from_u16(status) {
            Ok(code) if code.is_success() || code.is_client_error() => *answer.status_mut() = code,
            _ => return Err(Error::Status { url: url.to_string(), status }),
        }
        Ok(answer)
    }

    async fn get(&self, url: &Url) -> Result<Answer, Error> {
        let request = self.0.get(url.clone()).header(ACCEPT, "application/json");
        match read(url, request).await? {
            answer @ Answer { status: 200, .. } => Ok(answer),
            Answer { status, .. } => Err(Error::Status { url: url.to_string(), status }),
        }
    }
}

impl<'c> oauth2::AsyncHttpClient<'c> for Client {
    type Error = Error;
    type Future = BoxFuture<'c, Result<oauth2::HttpResponse, Error>>;

    fn call(&'c self, request: oauth2::HttpRequest) -> Self::Future {
        self.carry(request).boxed()
    }
}

struct Answer {
    status: u16,
    /// GitHub says 403 for this as well.
    is_limited: bool,
    /// The time by the clock of the server that made it.
    clock: Option<DateTime<Utc>>,
    body: Vec<u8>,
}

/// The answer, whatever its status is.
async fn read(url: &Url, request: reqwest::RequestBuilder) -> Result<Answer, Error> {
    if !is_secure(url) {
        return Err(Error::Insecure(url.to_string()));
    }
    let unreachable =
        |source: reqwest::Error| Error::Unreachable { url: url.to_string(), source: source.without_url() };
    let mut answer = request.send().await.map_err(unreachable)?;
    let status = answer.status().as_u16();
    let header = |name: &str| answer.headers().get(name);
    let is_limited = header("retry-after").is_some()
        || header("x-ratelimit-remaining").is_some_and(|remaining| remaining == "0");
    let clock = clock(answer.headers());
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > SIZE_LIMIT {
            return Err(Error::TooLarge { url: url.to_string() });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, is_limited, clock, body })
}

/// When an answer was made by its maker's clock. A cache on the way tells how long it has kept it (RFC 9111, 5.1).
fn clock(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let text = |name| headers.get(name)?.to_str().ok();
    let made = DateTime::parse_from_rfc2822(text(DATE)?).ok()?;
    let age = text(AGE).and_then(|age| age.trim().parse().ok()).unwrap_or(0);
    Some(made.to_utc() + TimeDelta::try_seconds(age)?)
}

fn parsed<T: DeserializeOwned>(url: &Url, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|source| Error::Malformed { url: url.to_string(), source })
}

/// Whether what an issuer names is as safe to ask as the issuer itself.
pub fn refuse_downgrade(issuer: &Url, named: &Url) -> Result<(), Error> {
    match is_downgrade(issuer, named) || !is_secure(named) {
        false => Ok(()),
        true => Err(Error::Insecure(named.to_string())),
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
