//! Posts to `ALERT_WEBHOOK_URL`, signed. Knows nothing of what is posted; the URL may carry a key, so nothing
//! here shows more of it than its host.

use std::time::Duration;

use aws_lc_rs::hmac;
use reqwest::header::{CONTENT_TYPE, HeaderName};
use secrecy::ExposeSecret;
use url::Url;

use crate::config;
use crate::model::with_causes;

/// For one post, from the first byte sent to the first received.
const TIME_LIMIT: Duration = Duration::from_secs(10);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

const SIGNATURE: HeaderName = HeaderName::from_static("x-runner-broker-signature-256");

/// Why something was not posted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{host} cannot be reached: {why}")]
    Unreachable { host: String, why: String },
    #[error("{host} answered {status}; 2xx is wanted, and redirects are not followed")]
    Status { host: String, status: u16 },
    #[error("the HTTP client for alerts cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// Knows where to post, and signs. Follows no redirect, keeps no connection and reads no answer's body.
pub struct Poster {
    client: reqwest::Client,
    url: Url,
    key: hmac::Key,
}

impl Poster {
    pub fn new(config: &config::Alerts) -> Result<Poster, Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .timeout(TIME_LIMIT)
            .connect_timeout(CONNECT_LIMIT)
            // It would show the URL to the next page.
            .referer(false)
            .user_agent(concat!("runner-broker/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(Error::Client)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, config.secret.expose_secret().as_bytes());
        Ok(Poster { client, url: config.url.clone(), key })
    }

    /// Posts this JSON once. Anything but 2xx is an error.
    pub async fn post(&self, body: Vec<u8>) -> Result<(), Error> {
        let signature = format!("sha256={}", hex::encode(hmac::sign(&self.key, &body)));
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        let answer = request.header(SIGNATURE, signature).body(body).send().await;
        match answer {
            Err(err) => Err(Error::Unreachable { host: self.host(), why: with_causes(&err.without_url()) }),
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(Error::Status { host: self.host(), status: answer.status().as_u16() }),
        }
    }

    fn host(&self) -> String {
        self.url.host_str().unwrap_or_default().to_owned()
    }
}
