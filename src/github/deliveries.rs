//! The App's webhook: its settings, its last deliveries, and those that failed and can be sent again.

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::GitHub;
use super::answer::refusal;
use super::call::Call;
use super::deadline::Deadline;
use super::error::Error;
use super::operation::Operation;

/// How GitHub delivers the App's webhooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSettings {
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
pub struct DeliveryAttempt {
    /// When it was made.
    pub delivered_at: DateTime<Utc>,
    /// GitHub's name of it: `workflow_job`, ….
    pub event: String,
    /// In GitHub's words.
    #[serde(default)]
    pub status: String,
    /// 0: there was no answer.
    #[serde(default)]
    pub status_code: u16,
}

impl DeliveryAttempt {
    /// Whether the receiver answered 2xx.
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status_code)
    }
}

/// A delivery that failed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FailedDelivery {
    /// Of this attempt; a later attempt has a greater one.
    pub id: i64,
    /// The delivery's own: `X-GitHub-Delivery`, the same for all attempts.
    pub guid: String,
    /// When this attempt was made.
    pub delivered_at: DateTime<Utc>,
    /// GitHub's name of it: `workflow_job`, ….
    pub event: String,
    #[serde(default)]
    status_code: u16,
}

/// One page of failed deliveries, the newest first, and where the next one begins.
#[derive(Debug)]
pub struct FailedPage {
    /// The newest first.
    pub deliveries: Vec<FailedDelivery>,
    /// The cursor of the next page. `None`: this is the last.
    pub next: Option<String>,
}

#[derive(Deserialize)]
struct HookConfigBody {
    url: Option<String>,
    content_type: Option<String>,
    secret: Option<String>,
    /// A text or a number.
    insecure_ssl: Option<Value>,
}

impl From<HookConfigBody> for WebhookSettings {
    fn from(wire: HookConfigBody) -> WebhookSettings {
        WebhookSettings {
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
    pub async fn webhook_settings(&self, deadline: Deadline) -> Result<Option<WebhookSettings>, Error> {
        let call = Call::new(Operation::GetHook, "/app/hook/config".to_owned());
        let answer = self.as_app(&call, deadline.sooner(self.timeout())).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer.decode::<HookConfigBody>(false)?.into())),
            _ => Err(refusal(&answer, "metadata=read", "such App")),
        }
    }

    /// The App's last deliveries, the newest first.
    pub async fn last_deliveries(&self, deadline: Deadline) -> Result<Vec<DeliveryAttempt>, Error> {
        let call = Call::new(Operation::ListDeliveries, "/app/hook/deliveries?per_page=30".to_owned());
        let answer = self.as_app(&call, deadline.sooner(self.timeout())).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(Vec::new()),
            status if status.is_success() => answer.decode(false),
            _ => Err(refusal(&answer, "metadata=read", "such App")),
        }
    }

    /// A page of the App's deliveries that failed, from `cursor` on.
    pub async fn failed_deliveries(
        &self,
        cursor: Option<&str>,
        deadline: Deadline,
    ) -> Result<FailedPage, Error> {
        let mut path = "/app/hook/deliveries?per_page=100&status=failure".to_owned();
        if let Some(cursor) = cursor {
            path.push_str("&cursor=");
            path.extend(url::form_urlencoded::byte_serialize(cursor.as_bytes()));
        }
        let call = Call::new(Operation::ListDeliveries, path);
        let answer = self.as_app(&call, deadline.sooner(self.timeout())).await?;
        if !answer.status.is_success() {
            return Err(refusal(&answer, "metadata=read", "such App, or it has no webhook"));
        }
        let mut deliveries: Vec<FailedDelivery> = answer.decode(false)?;
        // An old Enterprise Server ignores `status`.
        deliveries.retain(|delivery| !(200..300).contains(&delivery.status_code));
        Ok(FailedPage { deliveries, next: answer.next_cursor() })
    }

    /// Has a failed delivery sent again. Sent once.
    pub async fn redeliver(&self, id: i64, deadline: Deadline) -> Result<(), Error> {
        let call = Call::new(Operation::Redeliver, format!("/app/hook/deliveries/{id}/attempts"));
        let answer = self.as_app(&call, deadline.sooner(self.timeout())).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(refusal(&answer, "metadata=read", "such delivery")),
        }
    }
}
