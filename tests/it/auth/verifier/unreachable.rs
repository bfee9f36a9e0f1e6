//! Issuers that are down, slow, broken or hostile.

use std::time::{Duration, Instant};

use runner_broker::auth::Error;
use runner_broker::dev::issuer::{DISCOVERY, Fault, KEYS};
use serde_json::{Value, json};

use super::{World, configured, is_unavailable, issuer, trusting};

const HOUR: i64 = 3600;

#[tokio::test]
async fn the_last_known_keys_serve_for_a_day() {
    let world = World::ready().await;
    world.issuer.fail(DISCOVERY, Fault::Status(503));
    world.pass(23 * HOUR);
    world.verifier.refresh().await;
    assert!(world.verify(&world.issuer.mint(json!({}))).await.is_ok());
    assert!(world.verifier.ready() && world.verifier.issuers()[0].failure.is_some());
    world.pass(2 * HOUR);
    world.verifier.refresh().await;
    assert!(is_unavailable(world.verify(&world.issuer.mint(json!({}))).await));
    assert!(!world.verifier.ready());

    world.issuer.fail(DISCOVERY, None);
    world.pass(10);
    assert!(world.verify(&world.issuer.mint(json!({}))).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_was_never_reached_is_unavailable_and_says_why() {
    let world = World::new();
    world.issuer.fail(DISCOVERY, Fault::Status(503));
    let token = world.issuer.mint(json!({}));
    let began = world.clock.now();
    let answer = world.verifier.verify(&token).await;
    let Err(Error::IssuerUnavailable { issuer, until, source }) = answer else { panic!("{answer:?}") };
    assert_eq!(issuer, world.issuer.url());
    assert!(source.to_string().contains("503"), "{source}");
    assert!((9..=10).contains(&(until - began).num_seconds()), "{until}");
    assert!(world.verifier.issuers()[0].failure.as_ref().unwrap().contains("503"));
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    let world = World::new();
    let token = world.issuer.mint(json!({}));
    let World { verifier, issuer, .. } = world;
    drop(issuer);
    assert!(matches!(verifier.verify(&token).await, Err(Error::IssuerUnavailable { .. })));
}

#[tokio::test]
async fn a_new_key_of_an_issuer_that_is_down_is_not_called_forged() {
    let world = World::ready().await;
    world.issuer.rotate(true).unwrap();
    world.issuer.fail(DISCOVERY, Fault::Status(503));
    world.pass(10);
    assert!(is_unavailable(world.verify(&world.issuer.mint(json!({}))).await));
    world.issuer.fail(DISCOVERY, None);
    world.pass(10);
    assert!(world.verify(&world.issuer.mint(json!({}))).await.is_ok());
}

#[tokio::test]
async fn one_issuer_that_is_down_holds_up_no_other() {
    let world = World::new();
    let other = issuer(&world.clock);
    let both = configured(vec![trusting(&world.issuer), trusting(&other)], &world.clock);
    world.issuer.fail(DISCOVERY, Fault::Status(503));
    both.refresh().await;
    assert!(both.ready());
    assert!(both.verify(&other.mint(json!({}))).await.is_ok());
    assert!(both.verify(&world.issuer.mint(json!({}))).await.is_err());
    let status = both.issuers();
    assert_eq!(status.iter().filter(|issuer| issuer.usable).count(), 1);
}

#[tokio::test]
async fn an_issuer_that_hangs_is_given_up_after_five_seconds() {
    let world = World::new();
    world.issuer.fail(KEYS, Fault::Hang);
    let began = Instant::now();
    assert!(is_unavailable(world.verify(&world.issuer.mint(json!({}))).await));
    assert!((4..9).contains(&began.elapsed().as_secs()));
}

#[tokio::test]
async fn an_issuer_that_is_slow_is_waited_for() {
    let world = World::new();
    world.issuer.fail(KEYS, Fault::Slow(Duration::from_millis(200)));
    assert!(world.verify(&world.issuer.mint(json!({}))).await.is_ok());
}

/// What goes wrong when `path` fails like this.
async fn failure(path: &str, fault: Fault) -> String {
    let world = World::new();
    world.issuer.fail(path, fault);
    assert!(is_unavailable(world.verify(&world.issuer.mint(json!({}))).await));
    world.verifier.issuers().remove(0).failure.unwrap()
}

#[tokio::test]
async fn garbage_is_no_document() {
    for body in ["", "<html>", "null", "[]", "{}", r#"{"keys":{}}"#] {
        assert!(
            failure(DISCOVERY, Fault::Body(body.into()))
                .await
                .contains("something other than the expected document"),
            "{body}"
        );
        assert!(
            failure(KEYS, Fault::Body(body.into()))
                .await
                .contains("something other than the expected document"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_huge_document_is_not_read_to_its_end() {
    let huge = Fault::Body(format!("{{\"keys\":[]{}}}", " ".repeat(300 * 1024)));
    for path in [DISCOVERY, KEYS] {
        assert!(failure(path, huge.clone()).await.contains("more than 262144 bytes"));
        assert!(failure(path, Fault::Endless).await.contains("more than 262144 bytes"));
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let world = World::new();
    let other = issuer(&world.clock);
    for path in [DISCOVERY, KEYS] {
        let why = failure(path, Fault::Redirect(format!("{}{path}", other.url()))).await;
        assert!(why.contains("302"), "{why}");
        assert_eq!(other.calls(path), 0);
    }
}

/// What goes wrong when a field of the discovery document is like this.
async fn discovering(field: &str, value: Value) -> String {
    let world = World::new();
    let mut document = world.issuer.discovery();
    document[field] = value;
    world.issuer.fail(DISCOVERY, Fault::Body(document.to_string()));
    assert!(is_unavailable(world.verify(&world.issuer.mint(json!({}))).await));
    assert_eq!(world.issuer.calls(KEYS), 0);
    world.verifier.issuers().remove(0).failure.unwrap()
}

#[tokio::test]
async fn a_discovery_document_of_another_issuer_is_refused() {
    let why = discovering("issuer", json!("https://accounts.example.com")).await;
    assert!(why.contains("https://accounts.example.com"), "{why}");
    let world = World::new();
    discovering("issuer", json!(format!("{}/", world.issuer.url()))).await;
}

#[tokio::test]
async fn keys_are_not_fetched_over_plain_http() {
    for url in
        ["http://192.0.2.1/keys", "http://idp.example.com/keys", "file:///etc/passwd", "ftp://127.0.0.1/"]
    {
        let why = discovering("jwks_uri", json!(url)).await;
        assert!(why.contains("not safe"), "{why}");
    }
}
