//! The App's webhook as GitHub has it, and what became of its last deliveries: for people who look after the broker.

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::GitHub;
use super::call::{Call, Operation};
use super::deadline::Deadline;
use super::error::{Error, refusal};

/// How GitHub delivers the App's webhooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `None`: nowhere.
    pub url: Option<String>,
    /// `json` or `form`.
    pub content_type: String,
    /// Whether deliveries are signed; with what, GitHub does not tell.
    pub is_signed: bool,
    /// Whether the certificate at `url` is not looked at.
    pub is_insecure: bool,
}

/// An attempt to deliver, with what was answered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Delivered {
    pub delivered_at: DateTime<Utc>,
    pub event: String,
    /// In GitHub's words.
    #[serde(default)]
    pub status: String,
    /// 0: there was no answer.
    #[serde(default)]
    pub status_code: u16,
}

impl Delivered {
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status_code)
    }
}

#[derive(Deserialize)]
struct Wire {
    url: Option<String>,
    content_type: Option<String>,
    secret: Option<String>,
    /// A text or a number.
    insecure_ssl: Option<Value>,
}

impl From<Wire> for Hook {
    fn from(wire: Wire) -> Hook {
        Hook {
            url: wire.url.filter(|url| !url.is_empty()),
            // GitHub's own default.
            content_type: wire.content_type.unwrap_or_else(|| "form".to_owned()),
            is_signed: wire.secret.is_some_and(|secret| !secret.is_empty()),
            is_insecure: wire.insecure_ssl.is_some_and(|value| value == "1" || value == 1),
        }
    }
}

impl GitHub {
    /// `None`: the App has no webhook.
    pub async fn hook(&self, deadline: Deadline) -> Result<Option<Hook>, Error> {
        let call = Call::new(Operation::GetHook, "/app/hook/config".to_owned());
        let answer = self.as_app(&call, deadline.sooner(self.timeout())).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer.decode::<Wire>(false)?.into())),
            _ => Err(refusal(&answer, "metadata=read", "such App")),
        }
    }

    /// The App's last deliveries, the newest first.
    pub async fn last_deliveries(&self, deadline: Deadline) -> Result<Vec<Delivered>, Error> {
        let call = Call::new(Operation::ListDeliveries, "/app/hook/deliveries?per_page=30".to_owned());
        let answer = self.as_app(&call, deadline.sooner(self.timeout())).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(Vec::new()),
            status if status.is_success() => answer.decode(false),
            _ => Err(refusal(&answer, "metadata=read", "such App")),
        }
    }
}
