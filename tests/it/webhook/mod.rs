//! Webhooks as they arrive: whose they are, how large they may be, what is kept of them and what is not.

mod installations;
mod payloads;
mod policy;
mod redelivery;
mod runners;

use reqwest::Method;
use runner_broker::dev::github::signature;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::support::{Answer, WEBHOOK_SECRET, World, answer};

const PATH: &str = "/api/v1/webhooks/github";
const MB: usize = 1024 * 1024;

impl World {
    /// A delivery that is signed well.
    pub async fn deliver(&self, event: &str, id: &str, body: &Value) -> Answer {
        self.deliver_bytes(PATH, event, id, body.to_string().into_bytes()).await
    }

    async fn deliver_bytes(&self, path: &str, event: &str, id: &str, body: Vec<u8>) -> Answer {
        let signature = signature(WEBHOOK_SECRET, &body);
        self.send_webhook(path, &[("event", event), ("delivery", id), ("signature", &signature)], body).await
    }

    /// Headers by their last word.
    async fn send_webhook(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut request = self.client().post(format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            let name = match *name {
                "event" => "x-github-event",
                "delivery" => "x-github-delivery",
                "signature" => "x-hub-signature-256",
                other => other,
            };
            request = request.header(name, *value);
        }
        answer(request).await
    }

    /// A delivery under an id of its own, worked off.
    pub async fn happen(&self, event: &str, body: &Value) {
        let answer = self.deliver(event, &Uuid::now_v7().to_string(), body).await;
        assert!(answer.status == 202 || answer.status == 200, "{answer:?}");
        self.broker.work_off().await.expect("a database");
    }

    pub async fn count(&self, table: &str) -> String {
        self.sql(&format!("SELECT count(*) FROM {table}")).await.remove(0)
    }
}

/// A queued job that asks for these labels.
pub fn job(id: i64, labels: &[&str]) -> Value {
    json!({
        "action": "queued",
        "workflow_job": {
            "id": id, "run_id": id + 1, "workflow_name": "CI", "name": "build", "labels": labels,
            "conclusion": null, "runner_id": null, "runner_name": null, "runner_group_name": null,
            "created_at": "2026-11-21T10:00:00Z", "started_at": "2026-11-21T10:00:00Z", "completed_at": null,
        },
        "repository": { "full_name": "Octo-Org/octo-repo" },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn githubs_documented_signature_is_accepted_and_no_other() {
    let world = World::with(|config| {
        config.github.webhook_secret = Some("It's a Secret to Everybody".into());
    })
    .await;
    let digest = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let send = async |signature: &str, body: &str| {
        let headers = [("event", "ping"), ("delivery", "d"), ("signature", signature)];
        world.send_webhook(PATH, &headers, body.into()).await
    };
    let signed = send(digest, "Hello, World!").await;
    assert_eq!(signed.refusal(), (400, "INVALID_REQUEST"), "signed, but no JSON: {signed:?}");
    let unsigned = (401, "WEBHOOK_SIGNATURE_INVALID");
    assert_eq!(send(digest, "Hello, World?").await.refusal(), unsigned);
    assert_eq!(send(&digest.replace("757", "758"), "Hello, World!").await.refusal(), unsigned);
    assert_eq!(send(&digest[7..], "Hello, World!").await.refusal(), unsigned);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_secret_there_are_no_webhooks() {
    let world = World::with(|config| config.github.webhook_secret = None).await;
    for path in [PATH, "/api/webhook"] {
        let answer = world.deliver_bytes(path, "ping", "1", b"{}".to_vec()).await;
        assert_eq!(answer.refusal(), (404, "NOT_FOUND"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_is_kept_once_and_what_is_not_leaves_no_row() {
    let world = World::new().await;
    let wanted = job(1, &["self-hosted", "gpu"]);
    for (event, id, body, expected) in [
        ("ping", "p", json!({ "zen": "Keep it logically awesome." }), (200, "pong")),
        ("star", "s", json!({ "action": "created" }), (200, "dropped")),
        ("workflow_job", "h", job(2, &["ubuntu-latest"]), (200, "dropped")),
        (
            "installation",
            "i",
            json!({ "action": "renamed", "installation": { "id": 1, "account": { "login": "x" } } }),
            (200, "dropped"),
        ),
        ("workflow_job", "w", wanted.clone(), (202, "accepted")),
        ("workflow_job", "w", wanted.clone(), (200, "known")),
        ("workflow_job", "any text: {not} a GUID", wanted, (202, "accepted")),
    ] {
        let answer = world.deliver(event, id, &body).await;
        assert_eq!((answer.status, answer.str("status")), expected, "{event} {id}");
    }
    assert_eq!(world.count("webhook_deliveries").await, "2");
    assert_eq!(world.broker.work_off().await.unwrap(), 2);
    let again = world.deliver("workflow_job", "w", &job(1, &["self-hosted"])).await;
    assert_eq!((again.status, again.str("status")), (200, "known"), "after it was worked off as well");
    assert_eq!(world.sql("SELECT id FROM jobs").await, ["1"]);
    let root = world.deliver_bytes("/api/webhook", "ping", "r", b"{}".to_vec()).await;
    assert_eq!(root.status, 200);
    // The bearer's scope is not asked, and a token is no signature.
    let token = world.token("blue");
    let with_token = world.call(Method::POST, PATH, &token, &[], Some(json!({}))).await;
    assert_eq!(with_token.refusal(), (401, "WEBHOOK_SIGNATURE_INVALID"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_signatures_are_one_event_at_once_and_then_a_count() {
    let world = World::new().await;
    for _ in 0..12 {
        let headers = [("event", "installation"), ("delivery", "x"), ("signature", "sha256=00")];
        let answer = world.send_webhook(PATH, &headers, b"{}".to_vec()).await;
        assert_eq!(answer.refusal(), (401, "WEBHOOK_SIGNATURE_INVALID"));
    }
    assert_eq!(world.send_webhook(PATH, &[("event", "ping")], b"{}".to_vec()).await.status, 401);
    let events = "event_type = 'webhook_signature_invalid'";
    crate::support::eventually("the first event", async || world.log(events).await.len() == 1).await;
    world.broker.flush_refusals().await.unwrap();
    let log = world.log(events).await;
    let seen: Vec<_> = log
        .iter()
        .map(|event| (event["severity"].as_str(), event["event_data"]["further"].as_i64()))
        .collect();
    assert_eq!(seen, [(Some("warning"), None), (Some("warning"), Some(12))]);
    assert_eq!(log[0]["success"], false);
    assert!(log[0]["request_ip"].is_string());
    assert_eq!(world.count("webhook_deliveries").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_delivery_without_its_headers_or_without_json_is_malformed() {
    let world = World::new().await;
    let body = b"{}".to_vec();
    let signature = signature(WEBHOOK_SECRET, &body);
    let long = "x".repeat(201);
    for headers in [
        vec![("event", "ping")],
        vec![("delivery", "1")],
        vec![("event", "ping"), ("delivery", &long)],
        vec![("event", ""), ("delivery", "1")],
    ] {
        let mut headers = headers;
        headers.push(("signature", &signature));
        let answer = world.send_webhook(PATH, &headers, body.clone()).await;
        assert_eq!(answer.refusal(), (400, "INVALID_REQUEST"), "{headers:?}");
    }
    for text in ["", "{", "payload=%7B%7D", "{} {}", "\u{0}"] {
        let answer = world.deliver_bytes(PATH, "workflow_job", "1", text.into()).await;
        assert_eq!(answer.refusal(), (400, "INVALID_REQUEST"), "{text:?}");
    }
    assert_eq!(world.count("webhook_deliveries").await, "0");
}

/// A job's payload of exactly this many bytes.
fn padded(length: usize) -> Vec<u8> {
    let mut body = job(7, &["self-hosted"]);
    body["padding"] = json!("");
    let rest = length - body.to_string().len();
    body["padding"] = json!("x".repeat(rest));
    body.to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_up_to_25_mb_are_read_and_little_is_kept_of_them() {
    let world = World::new().await;
    let largest = padded(25 * MB);
    assert_eq!(largest.len(), 25 * MB);
    let signature = signature(WEBHOOK_SECRET, &largest);
    for id in ["1", "2", "3"] {
        let headers = [("event", "workflow_job"), ("delivery", id), ("signature", signature.as_str())];
        assert_eq!(world.send_webhook(PATH, &headers, largest.clone()).await.status, 202);
    }
    let sizes = world.sql("SELECT max(length(content::text)) < 1000 FROM webhook_deliveries").await;
    assert_eq!(sizes, ["t"]);
    let over = world.deliver_bytes(PATH, "workflow_job", "8", padded(25 * MB + 1)).await;
    assert_eq!(over.refusal(), (413, "INVALID_REQUEST"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_no_body_has_is_refused_before_the_body_is_read() {
    let world = World::new().await;
    let zeros = |digits: usize| "0".repeat(digits);
    let wrong =
        ["sha256=00".to_owned(), zeros(64), format!("sha1={}", zeros(40)), format!("sha256={}", zeros(65))];
    for signature in wrong.iter().map(String::as_str).chain(["", "sha256=", "sha256=é"]) {
        let address = world.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The body never comes.
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 100\r\nX-Hub-Signature-256: {signature}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 401", "{signature}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_unknown_length_ends_at_25_mb_too() {
    let world = World::new().await;
    let chunks = futures_util::stream::iter((0..26).map(|_| Ok::<_, std::io::Error>(vec![b' '; MB])));
    let request = world
        .client()
        .post(format!("{}{PATH}", world.url))
        .header("x-hub-signature-256", format!("sha256={}", "0".repeat(64)))
        .body(reqwest::Body::wrap_stream(chunks));
    // The answer may find the connection closed under what was still to be sent.
    if let Ok(response) = request.send().await {
        assert_eq!(response.status(), 413);
    }
    let small = world.deliver("ping", "1", &json!({})).await;
    assert_eq!(small.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_set_aside_and_reported_and_keeps_nobody_waiting() {
    let world = World::new().await;
    let unreadable = json!({ "action": "queued", "workflow_job": { "id": "seven" } });
    let mut misplaced = job(2, &["self-hosted"]);
    misplaced["repository"]["full_name"] = json!("../../etc/passwd");
    // Only Postgres notices that these do not fit into its times.
    let mut huge = job(3, &["self-hosted"]);
    huge["workflow_job"]["created_at"] = json!(i64::MAX);
    for (id, body) in [
        ("a", job(1, &["self-hosted"])),
        ("b", unreadable),
        ("c", misplaced),
        ("d", huge),
        ("e", job(4, &["self-hosted"])),
    ] {
        assert_eq!(world.deliver("workflow_job", id, &body).await.status, 202, "{id}");
    }
    world.broker.work_off().await.unwrap();
    assert_eq!(world.sql("SELECT id FROM jobs ORDER BY id").await, ["1", "3", "4"]);
    let aside = world.log("event_type = 'webhook_delivery_set_aside'").await;
    let ids: Vec<_> = aside.iter().map(|event| event["event_data"]["delivery"].as_str().unwrap()).collect();
    assert_eq!(ids, ["b", "c"]);
    assert!(
        aside
            .iter()
            .all(|event| event["severity"] == "warning" && event["user_identity"] == "system:webhooks")
    );
    // Somebody has GitHub send it once more: it is looked at anew.
    let again = world
        .deliver("workflow_job", "b", &json!({ "action": "queued", "workflow_job": { "id": "seven" } }))
        .await;
    assert_eq!(again.status, 202);
    world.broker.work_off().await.unwrap();
    assert_eq!(world.log("event_type = 'webhook_delivery_set_aside'").await.len(), 3);
}
