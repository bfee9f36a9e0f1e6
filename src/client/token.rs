//! The token that the broker wants: from where it is given, kept until it ends, then fetched anew.

use std::path::PathBuf;
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::Error;
use super::http::{self, Reply, Roots};
use super::retry::{Attempt, RetryLimit};
use crate::clock::Clock;

/// A token that ends this soon may have ended when it arrives.
const MARGIN: TimeDelta = TimeDelta::seconds(10);

/// Where a token comes from.
#[derive(Debug)]
pub enum Source {
    /// As it is, from the option or the variable of this name. There is no other when it has ended.
    Given {
        /// Of the option or variable.
        name: &'static str,
        /// The token itself.
        token: SecretString,
    },
    /// A file that somebody may renew.
    File(PathBuf),
    /// A command for a shell that prints one.
    Command(String),
    /// GitHub's answer to a job with the permission `id-token: write`.
    GitHubActions {
        /// `ACTIONS_ID_TOKEN_REQUEST_URL`.
        url: Url,
        /// `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
        bearer: SecretString,
    },
}

/// A source, and the last token that came from it.
pub struct Token {
    source: Source,
    audience: String,
    /// For what has to be asked over the network.
    roots: Roots,
    clock: Clock,
    last: Option<SecretString>,
}

impl Token {
    /// Fetches nothing yet.
    pub fn new(source: Source, audience: String, roots: Roots) -> Token {
        Token { source, audience, roots, clock: Clock::default(), last: None }
    }

    /// A token that has not ended, as far as it tells, and whether it was fetched for this call.
    pub async fn get(&mut self, retries: &RetryLimit) -> Result<(SecretString, bool), Error> {
        if let Some(last) = self.last.as_ref().filter(|last| !self.has_ended(last)) {
            return Ok((last.clone(), false));
        }
        let token = self.fetch(retries).await?;
        self.last = Some(token.clone());
        Ok((token, true))
    }

    /// The broker refused the last one. Whether another can be had.
    pub fn renew(&mut self) -> bool {
        self.last = None;
        !matches!(self.source, Source::Given { .. })
    }

    fn has_ended(&self, token: &SecretString) -> bool {
        let claims: Option<Claims> = claims(token.expose_secret());
        let end = claims.and_then(|claims| claims.exp);
        end.is_some_and(|end| end <= (self.clock.now() + MARGIN).timestamp() as f64)
    }

    async fn fetch(&self, retries: &RetryLimit) -> Result<SecretString, Error> {
        let (found, whence) = match &self.source {
            Source::Given { name, token } => (token.clone(), (*name).to_owned()),
            Source::File(path) => {
                let whence = path.display().to_string();
                let text = tokio::fs::read_to_string(path).await;
                let text = text.map_err(|err| Error::Usage(format!("the token file {whence}: {err}")))?;
                (text.trim().into(), whence)
            }
            Source::Command(command) => (run(command).await?, "the token command".into()),
            Source::GitHubActions { url, bearer } => {
                (self.ask_github(url, bearer, retries).await?, "GitHub's ID token".into())
            }
        };
        let is_token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        match is_token(found.expose_secret()) {
            true => Ok(found),
            false => Err(Error::Usage(format!(
                "{whence}: empty, or with blanks or other characters that no token has"
            ))),
        }
    }

    async fn ask_github(
        &self,
        url: &Url,
        bearer: &SecretString,
        retries: &RetryLimit,
    ) -> Result<SecretString, Error> {
        #[derive(Deserialize)]
        struct Answer {
            value: String,
        }
        let mut url = url.clone();
        url.query_pairs_mut().append_pair("audience", &self.audience);
        let client = http::client(&url, &self.roots, "ACTIONS_ID_TOKEN_REQUEST_URL")?;
        let what = "asking GitHub for an ID token";
        let body = retries
            .run(what, async || {
                let request = client.get(url.clone()).bearer_auth(bearer.expose_secret());
                match http::send(request).await {
                    Reply::Success(body) => Ok(Attempt::Done(body)),
                    Reply::Refused { refusal, retry_after: at_least }
                        if refusal.status == 429 || refusal.status >= 500 =>
                    {
                        Ok(Attempt::Retry { why: refusal.brief(), at_least })
                    }
                    Reply::Refused { refusal, .. } => {
                        Err(Error::Failed(format!("{what}: GitHub answered {}", refusal.status)))
                    }
                    Reply::Lost { why } => Ok(Attempt::Retry { why, at_least: None }),
                    Reply::Impossible { why } => Err(Error::Failed(format!("{what}: {why}"))),
                }
            })
            .await?;
        let answer: Answer = serde_json::from_str(body.expose_secret())
            .map_err(|_| Error::Failed(format!("{what}: the answer holds no token")))?;
        Ok(answer.value.trim().into())
    }
}

/// What a shell prints. Its standard error is the caller's, so that a sign-in can say what it wants.
async fn run(command: &str) -> Result<SecretString, Error> {
    let mut shell = tokio::process::Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = shell.output().await.map_err(|err| Error::Failed(format!("no shell: {err}")))?;
    if !output.status.success() {
        return Err(Error::Failed(format!("the token command failed: {}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

/// What matters of a token's claims here. Nothing is proven by them; the broker does that.
#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
    #[serde(default)]
    aud: Audience,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Default for Audience {
    fn default() -> Audience {
        Audience::Many(Vec::new())
    }
}

/// `None`: not a JWT, which a broker will say.
fn claims(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
}

/// For whom a token is, as it says itself.
pub fn audiences(token: &str) -> Vec<String> {
    match claims(token).map(|claims| claims.aud) {
        Some(Audience::One(one)) => vec![one],
        Some(Audience::Many(many)) => many,
        None => Vec::new(),
    }
}
