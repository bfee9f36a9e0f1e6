//! One request, one answer, within limits of time and size; what is worth another attempt, and what is not.

use std::error::Error as StdError;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Client, RequestBuilder};
use secrecy::SecretString;
use url::Url;

use super::refusal::Refusal;
use super::{Error, plain};
use crate::config::is_secure;

/// A provision is over for its caller within three times `GITHUB_TIMEOUT_SECONDS`, 30 s by default; whatever
/// hangs for longer is asked again under the same key.
const TIME_LIMIT: Duration = Duration::from_secs(60);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A JIT configuration has some kilobytes.
const SIZE_LIMIT: usize = 1024 * 1024;

/// Certificates that are trusted beside the system's.
#[derive(Clone, Default)]
pub struct Roots(Vec<Certificate>);

impl Roots {
    /// Those of a PEM file.
    pub fn read(path: &Path) -> Result<Roots, Error> {
        let wrong = |why: &str| Error::Usage(format!("--ca-file {}: {why}", path.display()));
        let pem = std::fs::read(path).map_err(|err| wrong(&err.to_string()))?;
        match Certificate::from_pem_bundle(&pem) {
            Ok(roots) if !roots.is_empty() => Ok(Roots(roots)),
            _ => Err(wrong("no certificate in PEM")),
        }
    }
}

/// A client for this URL. A bearer token travels over https, or over http to this machine, where no proxy may
/// take it elsewhere. System roots (`SSL_CERT_FILE`), and these.
pub fn client(url: &Url, roots: &Roots, what: &str) -> Result<Client, Error> {
    if !is_secure(url) {
        return Err(Error::Usage(format!(
            "{what} is {url}: a token goes over https, or over http to this machine (127.0.0.1, [::1], localhost)"
        )));
    }
    let builder = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .timeout(TIME_LIMIT)
        .connect_timeout(CONNECT_LIMIT)
        // It is used seldom, and a kept connection may be dead by then.
        .pool_max_idle_per_host(0)
        .referer(false)
        .user_agent(concat!("runner-broker-request/", env!("CARGO_PKG_VERSION")))
        .tls_certs_merge(roots.0.iter().cloned());
    let builder = if url.scheme() == "http" { builder.no_proxy() } else { builder };
    builder.build().map_err(|err| Error::Failed(format!("no HTTP client: {}", root_cause(&err))))
}

/// What one request came to.
pub enum Reply {
    /// 2xx, with its body.
    Success(SecretString),
    /// Any other status.
    Refused { refusal: Refusal, retry_after: Option<Duration> },
    /// No answer, or half of one; the request may have done its work all the same.
    Lost { why: String },
    /// No answer, and waiting will not bring one.
    Impossible { why: String },
}

/// Sends it, once.
pub async fn send(request: RequestBuilder) -> Reply {
    match read(request).await {
        Ok(reply) => reply,
        Err(err) if is_untrusted(&err) => {
            let cause = root_cause(&err);
            let advice = if cause.contains("certificate") { "; --ca-file FILE trusts one more" } else { "" };
            Reply::Impossible { why: format!("{cause}{advice}") }
        }
        Err(err) if err.is_builder() => Reply::Impossible { why: root_cause(&err) },
        Err(err) if err.is_timeout() => Reply::Lost { why: "no answer in time".into() },
        Err(err) if err.is_connect() => {
            let host = err.url().map(|url| format!(" to {}", url.origin().ascii_serialization()));
            let why = format!("no connection{}: {}", host.unwrap_or_default(), root_cause(&err));
            Reply::Lost { why }
        }
        Err(err) => Reply::Lost { why: format!("the connection broke: {}", root_cause(&err)) },
    }
}

async fn read(request: RequestBuilder) -> Result<Reply, reqwest::Error> {
    let mut answer = request.send().await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > SIZE_LIMIT {
            return Ok(Reply::Impossible { why: format!("the answer has more than {SIZE_LIMIT} bytes") });
        }
        body.extend_from_slice(&chunk);
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    if status.is_success() {
        return Ok(Reply::Success(text.into()));
    }
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let content_type = header(CONTENT_TYPE).unwrap_or_default();
    let refusal = Refusal::new(status.as_u16(), content_type, header(LOCATION), &text);
    Ok(Reply::Refused { refusal, retry_after: retry_after(&headers) })
}

/// In seconds; a date, which the broker never sends, is no hint.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Whether TLS failed because of the other side: its certificate is not trusted, or it does not speak TLS.
fn is_untrusted(err: &(dyn StdError + 'static)) -> bool {
    if let Some(tls) = err.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_) | rustls::Error::InvalidMessage(_));
    }
    // An `io::Error` stands for the one within it, whose source is its own.
    let within = err.downcast_ref::<std::io::Error>().and_then(|err| err.get_ref());
    within.is_some_and(|err| is_untrusted(err)) || err.source().is_some_and(is_untrusted)
}

/// The innermost cause, unlike [`with_causes`](crate::model::with_causes): the errors around it only say that a
/// request was sent, and a script's line should be short.
fn root_cause(err: &(dyn StdError + 'static)) -> String {
    err.source().map_or_else(|| plain(&err.to_string()), root_cause)
}
