//! The App's webhook as GitHub has it: where it goes, how, whether the secret is agreed on, and what became of it.
//!
//! The secret cannot be read from GitHub: deliveries answered with 401, or accepted ones, tell.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use url::Url;

use super::app::unanswered;
use super::{Area, Check, Code, Patience};
use crate::broker::Broker;
use crate::github::{DeliveryAttempt, WebhookSettings};
use crate::store::deliveries;

const AREA: Area = Area::Webhooks;
const ADDRESS: &str = "Address";
const CONTENT: &str = "Content type";
const SECRET: &str = "Secret";
const SENT: &str = "What GitHub sent";

/// Where deliveries are taken, below `PUBLIC_URL`.
const PATHS: [&str; 2] = ["/api/v1/webhooks/github", "/api/webhook"];
/// What came within so long tells how things are.
const RECENT: TimeDelta = TimeDelta::days(1);

impl Broker {
    /// Nothing where no webhooks are wanted: that is said by what looks at Postgres.
    pub(super) async fn check_webhook(&self, patience: Patience) -> Vec<Check> {
        let Some(ours) = self.system.around().map(|around| &around.public_url) else { return Vec::new() };
        if !self.hears_of_jobs() {
            return Vec::new();
        }
        let deadline = patience.deadline();
        let (hook, deliveries, comes) = tokio::join!(
            patience.wait(self.github.webhook_settings(deadline)),
            patience.wait(self.github.last_deliveries(deadline)),
            self.deliveries_come()
        );
        let (hook, deliveries) = match (hook, deliveries) {
            (Ok(hook), Ok(deliveries)) => (hook, deliveries),
            (Err(err), _) | (_, Err(err)) => return vec![unanswered(AREA, ADDRESS, &err)],
        };
        judge(ours, hook, &deliveries, comes, self.clock.now())
    }

    /// Whether one arrived here lately, whatever GitHub's settings say.
    async fn deliveries_come(&self) -> bool {
        let Ok(mut conn) = self.store.conn().await else { return false };
        let latest = deliveries::latest(&mut conn).await;
        latest.is_ok_and(|last| last.is_some_and(|last| self.clock.now() - last.received_at < RECENT))
    }
}

fn judge(
    ours: &Url,
    hook: Option<WebhookSettings>,
    sent: &[DeliveryAttempt],
    comes: bool,
    now: DateTime<Utc>,
) -> Vec<Check> {
    let own = address(ours, PATHS[0]);
    let set = format!("in the App's settings on GitHub, set the webhook's URL to {own}");
    let Some((hook, theirs)) = hook.and_then(|hook| hook.url.clone().map(|url| (hook, url))) else {
        let detail = "the App has no webhook, and GITHUB_WEBHOOK_SECRET is set";
        let advice = format!("{set}, with that secret, and tick \"Active\"");
        return vec![Check::fault(AREA, ADDRESS, Code::WebhookAbsent, detail).advise(advice)];
    };
    let shown = without_secrets(&theirs);
    let is_ours = PATHS.iter().any(|path| address(ours, path) == shown);
    let detail = format!("GitHub delivers to {shown}");
    let mut checks = vec![match (is_ours, comes) {
        (true, _) => Check::ok(AREA, ADDRESS, detail),
        (false, true) => {
            let detail = format!("{detail}, not to {own}; deliveries come here all the same");
            Check::warning(AREA, ADDRESS, Code::WebhookUrl, detail)
                .advise(format!("if nobody passes them on on purpose: {set}"))
        }
        (false, false) => Check::fault(AREA, ADDRESS, Code::WebhookUrl, format!("{detail}, not to {own}"))
            .advise(format!("{set}; if that is not how this service is reached, PUBLIC_URL is wrong")),
    }];
    if hook.is_insecure {
        let detail = "GitHub does not look at the certificate of the webhook's URL";
        checks.push(
            Check::warning(AREA, "Certificate", Code::WebhookInsecure, detail)
                .advise("enable SSL verification in the App's settings on GitHub"),
        );
    }
    let is_json = hook.content_type == "json";
    checks.push(match is_json {
        true => Check::ok(AREA, CONTENT, "application/json"),
        false => Check::fault(
            AREA,
            CONTENT,
            Code::WebhookContentType,
            format!("GitHub sends \"{}\", and every delivery is answered with 400", hook.content_type),
        )
        .advise("choose the content type application/json in the App's settings on GitHub"),
    });
    checks.push(secret(&hook, sent, is_ours, now));
    checks.push(match (is_ours || comes, is_json) {
        (false, _) => Check::not_checked(AREA, SENT, "it goes elsewhere, see above"),
        (true, false) => Check::not_checked(AREA, SENT, "the content type is wrong, see above"),
        (true, true) => arrived(sent, now),
    });
    checks
}

/// GitHub never tells the secret, but whether there is one, and what we answered.
fn secret(hook: &WebhookSettings, sent: &[DeliveryAttempt], is_ours: bool, now: DateTime<Utc>) -> Check {
    let same =
        "set the same secret in the App's settings on GitHub as in GITHUB_WEBHOOK_SECRET of every replica";
    if !hook.is_signed {
        let detail =
            "the App has no webhook secret, so nothing that GitHub sends is signed, and all of it is refused";
        return Check::fault(AREA, SECRET, Code::WebhookSecret, detail).advise(same);
    }
    match sent.iter().find(|sent| sent.is_ok() || sent.status_code == 401) {
        Some(last) if is_ours && last.status_code == 401 => {
            let detail = format!(
                "the last delivery that got that far ({}, {}) was answered with 401: the secrets differ",
                last.event,
                ago(last, now)
            );
            Check::fault(AREA, SECRET, Code::WebhookSecret, detail).advise(format!(
                "{same}; if it has been mended since, redeliver one under \"Advanced\" there"
            ))
        }
        Some(last) if is_ours => {
            let detail = format!("agreed on: a delivery was accepted ({}, {})", last.event, ago(last, now));
            Check::ok(AREA, SECRET, detail)
        }
        _ => Check::ok(AREA, SECRET, "GitHub has one; the next delivery shows whether it is ours"),
    }
}

/// What became of the last deliveries. A 401 is the secret's check.
fn arrived(sent: &[DeliveryAttempt], now: DateTime<Utc>) -> Check {
    let recent: Vec<&DeliveryAttempt> = sent.iter().filter(|sent| now - sent.delivered_at < RECENT).collect();
    let Some(last) = recent.first() else {
        return Check::ok(AREA, SENT, "nothing within the last day");
    };
    let mut failed: BTreeMap<u16, usize> = BTreeMap::new();
    for delivery in recent.iter().filter(|sent| !sent.is_ok() && sent.status_code != 401) {
        *failed.entry(delivery.status_code).or_default() += 1;
    }
    if failed.is_empty() {
        return Check::ok(
            AREA,
            SENT,
            format!("{} within the last day, the last one {}", recent.len(), ago(last, now)),
        );
    }
    let outcome = |code: u16| match code {
        0 => "no answer".to_owned(),
        code => code.to_string(),
    };
    let counted = failed.iter().map(|(code, count)| format!("{count} × {}", outcome(*code)));
    let detail = format!(
        "of the last {} within a day not accepted: {}",
        recent.len(),
        counted.collect::<Vec<_>>().join(", ")
    );
    let is_failing = !last.is_ok() && last.status_code != 401;
    if !is_failing {
        return Check::warning(AREA, SENT, Code::WebhookUndelivered, format!("{detail}; the last one was"))
            .advise("the leader has them sent again by itself; look at what was the matter then");
    }
    let advice = match last.status_code {
        0 => {
            "GitHub gets no answer: check that the URL can be reached from the internet, within 10 s, and its certificate"
        }
        400 => "choose the content type application/json in the App's settings on GitHub",
        404 => {
            "GITHUB_WEBHOOK_SECRET is not set on the replica that answers, or something in front has no such path"
        }
        500.. => "see this service's log at that time, and that of what stands in front of it",
        _ => "something in front of this service refuses: let POST through to that path without signing in",
    };
    Check::fault(
        AREA,
        SENT,
        Code::WebhookUndelivered,
        format!("{detail}; the last one too ({})", last.status),
    )
    .advise(advice)
}

fn ago(sent: &DeliveryAttempt, now: DateTime<Utc>) -> String {
    format!("{} s ago", (now - sent.delivered_at).num_seconds().max(0))
}

fn address(base: &Url, path: &str) -> String {
    format!("{}{path}", without_secrets(base.as_str()).trim_end_matches('/'))
}

/// Scheme, host, port and path: the rest may hold a secret.
fn without_secrets(text: &str) -> String {
    let Ok(url) = Url::parse(text) else { return "something that is no URL".to_owned() };
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}
