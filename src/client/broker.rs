//! The calls on one broker: provision, refresh, remove; each tried again for as long as that may help.

use std::time::Duration;

use reqwest::{Client, Method};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::http::{self, Reply, Roots};
use super::retry::{Attempt, RetryLimit};
use super::runner::IssuedRunner;
use super::{Error, Key, RunnerRequest, Token, plain, print_line};

/// One broker, and a token for it.
pub struct Broker {
    client: Client,
    /// Ends with a slash.
    base: Url,
    token: Token,
}

/// What a runner is now.
#[derive(Debug)]
pub struct RunnerStatus {
    /// The contract's: `pending`, `active`, ….
    pub status: String,
    /// Whether it runs a job.
    pub busy: bool,
}

/// What became of a removal.
#[derive(Debug)]
pub enum Removal {
    /// As the broker says it.
    Done(String),
    /// It has a job.
    Busy,
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    busy: bool,
    #[serde(default)]
    message: String,
}

impl Broker {
    /// Asks nothing yet. `base` is refused if it has a query, a fragment or a user.
    pub fn new(mut base: Url, roots: &Roots, token: Token) -> Result<Broker, Error> {
        let is_bare = base.query().is_none() && base.fragment().is_none();
        if !is_bare || !base.username().is_empty() || base.password().is_some() || base.cannot_be_a_base() {
            let wanted = "as in https://broker.example.com, without query, fragment, user or password";
            return Err(Error::Usage(format!("the broker's URL has more than it should: {wanted}")));
        }
        let client = http::client(&base, roots, "the broker's URL")?;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Ok(Broker { client, base, token })
    }

    /// Asks for a runner until there is one or there will be none. All attempts are one request to the broker,
    /// so that an answer that got lost leaves no second runner.
    pub async fn provision(
        &mut self,
        request: &RunnerRequest,
        mut key: Key,
        retries: &RetryLimit,
    ) -> Result<IssuedRunner, Error> {
        let body = Value::Object(request.body.clone());
        loop {
            let asked =
                self.call("asking for a runner", retries, Method::POST, request.path(), Some((&body, &key)));
            match asked.await {
                Ok(text) => return IssuedRunner::parse(request.method, &text),
                Err(Error::Refused(refusal)) if refusal.code() == "IDEMPOTENCY_KEY_SPENT" => {
                    key = key.after_spent().ok_or(Error::Refused(refusal))?;
                    print_line(
                        "this job's former runner of that name has started already; asking for a new one",
                    );
                }
                Err(err) => return Err(err),
            }
        }
    }

    /// What GitHub knows of it now.
    pub async fn refresh(&mut self, id: &str, retries: &RetryLimit) -> Result<RunnerStatus, Error> {
        let path = format!("api/v1/runners/{id}/refresh");
        let text = self.call("asking about the runner", retries, Method::POST, &path, None).await?;
        let answer = parsed(&text)?;
        Ok(RunnerStatus { status: answer.status, busy: answer.busy })
    }

    /// Takes it off GitHub. `when_idle`: a busy one goes once its job is done.
    pub async fn remove(
        &mut self,
        id: &str,
        when_idle: bool,
        retries: &RetryLimit,
    ) -> Result<Removal, Error> {
        let query = if when_idle { "?force_when_idle=true" } else { "" };
        let path = format!("api/v1/runners/{id}{query}");
        match self.call("removing the runner", retries, Method::DELETE, &path, None).await {
            Ok(text) => {
                let answer = parsed(&text)?;
                match answer.status.as_str() {
                    "deleting" => Ok(Removal::Busy),
                    _ => Ok(Removal::Done(plain(&answer.message))),
                }
            }
            Err(Error::Refused(refusal)) if refusal.code() == "RUNNER_BUSY" => Ok(Removal::Busy),
            Err(Error::Refused(refusal)) if refusal.code() == "RUNNER_NOT_FOUND" => {
                Ok(Removal::Done("the broker does not know it any more".into()))
            }
            Err(err) => Err(err),
        }
    }

    /// The body of a good answer.
    async fn call(
        &mut self,
        what: &str,
        retries: &RetryLimit,
        method: Method,
        path: &str,
        sent: Option<(&Value, &Key)>,
    ) -> Result<SecretString, Error> {
        let url = self.base.join(path).map_err(|err| Error::Failed(format!("no URL: {err}")))?;
        retries
            .run(what, async || {
                loop {
                    let (token, is_new) = self.token.get(retries).await?;
                    let mut request = self.client.request(method.clone(), url.clone());
                    request = request.bearer_auth(token.expose_secret());
                    if let Some((body, key)) = sent {
                        request = request.header("idempotency-key", key.as_str()).json(body);
                    }
                    let reply = http::send(request).await;
                    let is_refused =
                        matches!(&reply, Reply::Refused { refusal, .. } if refusal.status == 401);
                    // It may have ended since it was fetched, by the broker's clock or by a rotation of keys.
                    if is_refused && !is_new && self.token.renew() {
                        continue;
                    }
                    return verdict(reply);
                }
            })
            .await
    }
}

/// Whether an answer is one, or may yet come.
fn verdict(reply: Reply) -> Result<Attempt<SecretString>, Error> {
    match reply {
        Reply::Success(body) => Ok(Attempt::Done(body)),
        Reply::Lost { why } => Ok(Attempt::Retry { why, at_least: None }),
        Reply::Impossible { why } => Err(Error::Failed(format!("the broker cannot be asked: {why}"))),
        Reply::Refused { refusal, retry_after } => {
            match may_pass(refusal.status, refusal.code(), retry_after) {
                true => Ok(Attempt::Retry { why: refusal.brief(), at_least: retry_after }),
                false => Err(Error::Refused(Box::new(refusal))),
            }
        }
    }
}

/// Whether a refusal may be none the next time. `code` is empty for what is not the broker's own answer: a proxy
/// in front of it says 502 while there is no broker; the broker says 502 when GitHub refuses.
fn may_pass(status: u16, code: &str, retry_after: Option<Duration>) -> bool {
    match status {
        408 | 429 | 503 | 504 => true,
        502 => code.is_empty(),
        // A removal or a repair is at it.
        409 => code == "IDEMPOTENCY_KEY_IN_PROGRESS" || (code == "RUNNER_BUSY" && retry_after.is_some()),
        _ => false,
    }
}

fn parsed(text: &SecretString) -> Result<Answer, Error> {
    serde_json::from_str(text.expose_secret())
        .map_err(|_| Error::Failed("the answer is not a broker's: is --url the right one?".into()))
}
