//! Sign-in for people. Every kind of provider is a file that knows two things: where the browser is to go, and who
//! came back. The person who came back is a [`Verified`], as by a bearer token; remembering them is the broker's part.

mod attempt;
mod code;
mod discovery;
mod github;
mod gitlab;
mod openid;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;
use url::Url;

use super::fetch::{self, Client};
use super::{Error as TokenError, Verified};
use crate::clock::Clock;
use crate::config::{self, LoginKind};

pub use attempt::Attempt;

/// For everything that a provider is asked while somebody waits for a page.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// What a kind of provider does. The next kind is one file with this, and its line in [`Logins::new`].
trait Provider: Send + Sync {
    /// What identities of this provider have as their issuer.
    fn issuer(&self) -> &str;

    /// Where the browser goes to sign in for this attempt.
    fn authorization_url<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Url, Fault>>;

    /// Exchanges what the browser brought back for the user that it stands for. What the provider hands out on
    /// the way is dropped before this returns.
    fn user<'a>(&'a self, attempt: &'a Attempt, back: &'a Back) -> BoxFuture<'a, Result<Verified, Fault>>;
}

/// What a browser brought back from its provider, after `state` was found to be ours.
#[derive(Clone, Debug)]
pub struct Back {
    /// RFC 6749, 4.1.2; good once.
    pub code: String,
    /// The issuer that says it sent it (RFC 9207, 2), if it does.
    pub issuer: Option<String>,
}

/// Why nobody came back.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it does not answer as it should")]
    Unavailable(#[source] Arc<fetch::Error>),
    /// What the browser brought is worth nothing, or nothing any more.
    #[error("it did not accept what the browser brought back: {0}")]
    Refused(String),
    /// It refuses this broker: its configuration or ours has to be mended.
    #[error("it refuses this service: {0}")]
    Unfit(String),
    #[error("what it says of the user cannot be accepted: {0}")]
    Unproven(&'static str),
}

impl From<fetch::Error> for Fault {
    fn from(err: fetch::Error) -> Fault {
        Fault::Unavailable(Arc::new(err))
    }
}

impl From<TokenError> for Fault {
    fn from(err: TokenError) -> Fault {
        match err {
            TokenError::Invalid { why, .. } => Fault::Unproven(why),
            TokenError::IssuerUnavailable { source, .. } => Fault::Unavailable(source),
            TokenError::Client(source) => {
                Fault::Unavailable(Arc::new(fetch::Error::Unreachable { url: String::new(), source }))
            }
        }
    }
}

/// Why somebody is not signed in. Texts name the provider and hold nothing that is secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The provider is down, slow, or answers nonsense.
    #[error("{provider} cannot be asked at the moment")]
    Unavailable {
        /// Its name.
        provider: String,
        /// What went wrong.
        #[source]
        source: Arc<fetch::Error>,
    },
    /// The code was used before, has expired, or was never the provider's.
    #[error("{provider} did not accept this sign-in ({why}): begin it anew")]
    Refused {
        /// Its name.
        provider: String,
        /// Its error code.
        why: String,
    },
    /// The client is not registered there as it is configured here.
    #[error("{provider} refuses this service ({why}): an administrator has to look at LOGIN_PROVIDERS")]
    Unfit {
        /// Its name.
        provider: String,
        /// Its error code.
        why: String,
    },
    /// The provider's word is not good enough.
    #[error("what {provider} says of you cannot be accepted: {why}")]
    Unproven {
        /// Its name.
        provider: String,
        /// A sentence for the person.
        why: &'static str,
    },
}

/// One way to sign in.
pub struct Login {
    id: String,
    name: String,
    provider: Box<dyn Provider>,
}

/// All ways to sign in, in the order of the configuration. Clones share them.
#[derive(Clone)]
pub struct Logins(Arc<Vec<Login>>);

impl Logins {
    /// Sends nothing yet. `public_url` is where browsers are sent back to.
    pub fn new(
        logins: &[config::Login],
        public_url: &Url,
        leeway: Duration,
        clock: &Clock,
    ) -> Result<Logins, TokenError> {
        let client = Client::new().map_err(TokenError::Client)?;
        let logins = logins.iter().map(|login| {
            let registration = code::Registration::new(login, public_url);
            let client = client.clone();
            let provider: Box<dyn Provider> = match &login.kind {
                LoginKind::OpenId { issuer } => {
                    Box::new(openid::OpenId::new(issuer, registration, client, leeway, clock.clone()))
                }
                LoginKind::GitLab { issuer } => {
                    Box::new(gitlab::provider(issuer, registration, client, leeway, clock.clone()))
                }
                LoginKind::GitHub { url, api_url } => {
                    Box::new(github::GitHub::new(url, api_url, registration, client))
                }
            };
            Login { id: login.id.clone(), name: login.name.clone(), provider }
        });
        Ok(Logins(Arc::new(logins.collect())))
    }

    /// In the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Login> {
        self.0.iter()
    }

    /// The one with this id. `None`: it is not configured.
    pub fn get(&self, id: &str) -> Option<&Login> {
        self.iter().find(|login| login.id == id)
    }
}

impl Login {
    /// As configured: part of the callback's path.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What identities of this provider have as their issuer.
    pub fn issuer(&self) -> &str {
        self.provider.issuer()
    }

    /// What the provider called an error, as far as that is a word of the protocol's.
    pub fn code_of(&self, error: &str) -> String {
        code::code_only(error)
    }

    /// What the provider is to give back with its answer to this attempt.
    pub fn state(&self, attempt: &Attempt) -> String {
        attempt.state(&self.id)
    }

    /// Where the browser goes to sign in.
    pub async fn authorization_url(&self, attempt: &Attempt) -> Result<Url, Error> {
        self.in_time(self.provider.authorization_url(attempt)).await
    }

    /// Who came back; to be called once `state` was found to be this attempt's.
    pub async fn user(&self, attempt: &Attempt, back: &Back) -> Result<Verified, Error> {
        if back.issuer.as_deref().is_some_and(|issuer| issuer != self.issuer()) {
            let why = "it comes from another provider";
            return Err(Error::Unproven { provider: self.name.clone(), why });
        }
        let mut verified = self.in_time(self.provider.user(attempt, back)).await?;
        // Postgres keeps no NUL; a claim without it would be another one, so it goes as a whole.
        verified.claims.retain(|name, value| !name.contains('\0') && !has_nul(value));
        Ok(verified)
    }

    async fn in_time<T>(&self, asking: BoxFuture<'_, Result<T, Fault>>) -> Result<T, Error> {
        let asked = tokio::time::timeout(TIME_LIMIT, asking).await;
        let provider = self.name.clone();
        asked.unwrap_or_else(|_| Err(fetch::Error::TooSlow.into())).map_err(|fault| match fault {
            Fault::Unavailable(source) => Error::Unavailable { provider, source },
            Fault::Refused(why) => Error::Refused { provider, why },
            Fault::Unfit(why) => Error::Unfit { provider, why },
            Fault::Unproven(why) => Error::Unproven { provider, why },
        })
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}
