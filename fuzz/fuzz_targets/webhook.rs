//! GitHub's deliveries: the signature over the raw bytes, and the body of each event that is read.
//!
//! An input is the event's number, a line with the signature's header, and the body.

#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use libfuzzer_sys::fuzz_target;
use runner_broker::github::webhook::{Webhook, WebhookKey, read};
use secrecy::SecretString;
use serde_json::Value;

const EVENTS: [&str; 5] = ["workflow_job", "installation", "installation_repositories", "ping", "star"];

static KEY: LazyLock<WebhookKey> =
    LazyLock::new(|| WebhookKey::new(&SecretString::from("a webhook's secret")));
static MADE_APART: LazyLock<hmac::Key> =
    LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, b"a webhook's secret"));

fuzz_target!(|input: &[u8]| {
    let Some((event, rest)) = input.split_first() else { return };
    let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let (header, body) = rest.split_at(end);
    let body = body.get(1..).unwrap_or_default();

    let right = format!("sha256={}", hex::encode(hmac::sign(&MADE_APART, body)));
    assert!(KEY.verify(&right, body));
    let header = String::from_utf8_lossy(header);
    assert_eq!(KEY.verify(&header, body), header.to_lowercase() == right && header.starts_with("sha256="));
    let longer = [body, b" "].concat();
    assert!(!KEY.verify(&right, &longer), "the signature of another body");

    let event = EVENTS[usize::from(*event) % EVENTS.len()];
    let known = read(event, body);
    assert_eq!(known.is_ok(), serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok(), "JSON or not");
    if let Ok(known) = known {
        let kept = serde_json::to_string(&known).expect("it is kept as JSON");
        assert_eq!(serde_json::from_str::<Webhook>(&kept).expect("and read again"), known, "{kept}");
        assert_texts_fit(&serde_json::from_str(&kept).expect("the same JSON"));
    }
});

/// Postgres takes no NUL in a text.
fn assert_texts_fit(value: &Value) {
    match value {
        Value::String(text) => assert!(!text.contains('\0'), "{text:?}"),
        Value::Array(items) => items.iter().for_each(assert_texts_fit),
        Value::Object(fields) => fields.values().for_each(assert_texts_fit),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
