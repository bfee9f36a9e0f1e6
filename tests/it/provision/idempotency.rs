//! `Idempotency-Key`: however often a request is repeated, one runner is alive, and its caller can start it.

mod repeated;

use futures_util::future::join_all;
use reqwest::Method;
use runner_broker::dev::github::{Action, Canned, Fault};
use serde_json::{Value, json};

use crate::support::{Answer, ORG, World, eventually, team};

const PROVISION: &str = "/api/v1/runners/provision";

/// A JIT provision of `b1` with the key `k`.
async fn keyed(world: &World) -> Answer {
    world.jit_with_key(json!({ "runner_name": "b1" }), "k").await
}

async fn register(world: &World, name: &str, key: &str) -> Answer {
    let headers = [("idempotency-key", key)];
    let sent = Some(json!({ "runner_name": name }));
    world.call(Method::POST, PROVISION, &world.token("blue"), &headers, sent).await
}

async fn keys(world: &World) -> usize {
    world.sql("SELECT key FROM idempotency_keys").await.len()
}

async fn generation(world: &World, name: &str) -> String {
    world
        .sql(&format!("SELECT generation FROM runners WHERE name = '{name}' ORDER BY id DESC"))
        .await
        .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_replaces_the_unstarted_runner_under_the_same_id_and_name() {
    let world = World::new().await;
    world.policy(&team("blue", "max_runners = 1")).await;
    for sent in [json!({ "runner_name": "b1" }), json!({ "runner_name_prefix": "p", "labels": ["docker"] })] {
        let mut before = world.jit_with_key(sent.clone(), "k").await;
        assert_eq!(before.status, 201, "{}", before.text);
        for n in 2..=4 {
            let after = world.jit_with_key(sent.clone(), "k").await;
            assert_eq!(after.status, 201, "the quota counts it once: {}", after.text);
            for same in ["runner_id", "runner_name"] {
                assert_eq!(after.str(same), before.str(same));
            }
            let name = after.str("runner_name").to_owned();
            assert_eq!(world.on_github(), [name.as_str()], "one is alive");
            let stale = world.github.connect_jit(before.str("encoded_jit_config"));
            assert_eq!(stale.expect_err("the former one is gone").status, 401);
            assert_eq!(
                (generation(&world, &name).await, world.status(&name).await),
                (n.to_string(), "pending".into())
            );
            before = after;
        }
        let name = world.github.connect_jit(before.str("encoded_jit_config")).expect("fresh credentials");
        let events = world.events(&name).await;
        assert_eq!(events, ["provision_requested", "provisioned"].repeat(4));
        let issued = world.log(&format!("runner_name = '{name}' AND event_type = 'provisioned'")).await;
        assert_eq!(issued[3]["event_data"]["generation"], json!(4));
        world.github.disconnect(ORG, &name).expect("a runner");
        assert_eq!(world.delete(&format!("/api/v1/runners/{name}"), "blue").await.status, 200);
        world.sql("DELETE FROM idempotency_keys").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_32_at_once_with_one_key_never_two_are_alive() {
    let world = World::new().await;
    world.policy(&team("blue", "max_runners = 3")).await;
    let asking = join_all((0..32).map(|_| world.jit_with_key(json!({ "runner_name_prefix": "b" }), "k")));
    let watching = async {
        let mut most = 0;
        for _ in 0..200 {
            most = most.max(world.on_github().len());
            tokio::task::yield_now().await;
        }
        most
    };
    let (answers, most) = tokio::join!(asking, watching);
    assert!(most <= 1, "{most} were alive");
    let granted: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert!(!granted.is_empty());
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.refusal(), (409, "IDEMPOTENCY_KEY_IN_PROGRESS"), "{}", answer.text);
        assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0));
    }
    assert!(granted.iter().all(|answer| answer.str("runner_id") == granted[0].str("runner_id")));
    assert_eq!(world.on_github().len(), 1);
    assert_eq!(world.sql("SELECT id FROM runners").await.len(), 1);
    let works = |answer: &&&Answer| world.github.connect_jit(answer.str("encoded_jit_config")).is_ok();
    assert_eq!(granted.iter().filter(works).count(), 1, "the credentials of one generation work");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_first_is_in_flight_a_repeat_is_told_to_wait() {
    let world = World::new().await;
    world.github.fail(Fault::new("POST", "jitconfig", Action::Delay { millis: 700 }));
    let second = async {
        eventually("the first in flight", async || world.status("b1").await == "requested").await;
        keyed(&world).await
    };
    let (first, second) = tokio::join!(keyed(&world), second);
    assert_eq!(first.status, 201, "{}", first.text);
    assert_eq!(second.refusal(), (409, "IDEMPOTENCY_KEY_IN_PROGRESS"));
    let seconds: u64 = second.header("retry-after").parse().expect("seconds");
    assert!((1..=6).contains(&seconds), "within the time that a provision may take: {seconds}");
    assert_eq!(world.github.connect_jit(first.str("encoded_jit_config")).expect("untouched"), "b1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_spent_once_its_runner_has_started_whoever_knows_it() {
    let world = World::new().await;
    for table_knows in [false, true] {
        let first = keyed(&world).await;
        assert_eq!(first.status, 201, "{}", first.text);
        world.github.connect_jit(first.str("encoded_jit_config")).expect("a good config");
        if table_knows {
            world.sweep().await;
        }
        for _ in 0..2 {
            let answer = keyed(&world).await;
            assert_eq!(answer.refusal(), (409, "IDEMPOTENCY_KEY_SPENT"), "{}", answer.text);
            assert_eq!(world.on_github(), ["b1"], "what runs stays");
        }
        world.sweep().await;
        assert_eq!(world.status("b1").await, "active");
        // Online, then off: a runner that has started is not replaced either.
        world.github.disconnect(ORG, "b1").expect("a runner");
        assert_eq!(keyed(&world).await.refusal(), (409, "IDEMPOTENCY_KEY_SPENT"));
        assert_eq!(world.delete("/api/v1/runners/b1", "blue").await.status, 200);
        assert_eq!(keyed(&world).await.refusal(), (409, "IDEMPOTENCY_KEY_SPENT"));
        world.sql("DELETE FROM idempotency_keys").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_for_one_body_and_one_method() {
    let world = World::new().await;
    assert_eq!(keyed(&world).await.status, 201);
    for sent in [
        json!({ "runner_name": "b2" }),
        json!({ "runner_name": "b1", "labels": ["docker"] }),
        json!({ "runner_name": "b1", "work_folder": "w" }),
    ] {
        assert_eq!(world.jit_with_key(sent, "k").await.refusal(), (422, "IDEMPOTENCY_KEY_REUSED"));
    }
    assert_eq!(register(&world, "b1", "k").await.refusal(), (422, "IDEMPOTENCY_KEY_REUSED"));
    let spelt_out = json!({ "labels": [], "runner_name": "b1", "os": "linux" });
    assert_eq!(world.jit_with_key(spelt_out, "k").await.status, 201, "the same request in other words");
    assert_eq!(world.on_github(), ["b1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_and_a_failure_free_the_key() {
    let world = World::new().await;
    let refused = json!({ "runner_name": "b1", "labels": ["gpu"] });
    assert_eq!(world.jit_with_key(refused, "k").await.refusal(), (403, "LABEL_POLICY_VIOLATION"));
    world.policy(&team("blue", "max_runners = 0")).await;
    assert_eq!(keyed(&world).await.refusal(), (403, "QUOTA_EXCEEDED"));
    world.policy(&team("blue", "")).await;
    world.github.plant(ORG, "b1", &[], false).expect("a foreign runner");
    assert_eq!(keyed(&world).await.refusal(), (409, "RUNNER_NAME_TAKEN"));
    world.github.remove(ORG, "b1").expect("a runner");
    world.github.fail(Fault::new("POST", "jitconfig", Action::Respond(Canned::status(422))));
    assert_eq!(keyed(&world).await.refusal(), (502, "GITHUB_REFUSED"));
    world.github.fail(Fault::new("POST", "jitconfig", Action::ActThenDrop).times(2));
    assert_eq!(keyed(&world).await.refusal(), (503, "GITHUB_UNAVAILABLE"));
    assert_eq!(keys(&world).await, 0);
    // Even for something else.
    let answer = world.jit_with_key(json!({ "runner_name": "b2" }), "k").await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(world.on_github(), ["b2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_remembered_for_24_hours_and_is_its_callers_own() {
    let world =
        World::with(|config| config.broker.jit_start_deadline = std::time::Duration::from_secs(48 * 3600))
            .await;
    let first = keyed(&world).await;
    let other = world.issuer.mint(json!({ "sub": "other", "team": "blue" }));
    let headers = [("idempotency-key", "k")];
    let sent = json!({ "runner_name": "b2" });
    let theirs = world.call(Method::POST, "/api/v1/runners/jit", &other, &headers, Some(sent)).await;
    assert_eq!(theirs.status, 201, "his key is another: {}", theirs.text);
    assert_ne!(theirs.str("runner_id"), first.str("runner_id"));

    world.pass(24 * 3600 - 60);
    assert_eq!(keyed(&world).await.str("runner_id"), first.str("runner_id"), "still known");
    world.pass(120);
    let fresh = world.jit_with_key(json!({ "runner_name": "b3" }), "k").await;
    assert_eq!(fresh.status, 201, "a day after its first use it is a new key: {}", fresh.text);
    assert_eq!(world.on_github().len(), 3);
    world.sweep().await;
    assert_eq!(keys(&world).await, 1, "and what is too old is forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_gets_a_fresh_token_on_the_same_row() {
    let world = World::new().await;
    world.policy(&team("blue", "max_runners = 1")).await;
    let first = register(&world, "r1", "k").await;
    let second = register(&world, "r1", "k").await;
    assert_eq!((first.status, second.status), (201, 201), "{}", second.text);
    assert_eq!(first.str("runner_id"), second.str("runner_id"));
    assert_ne!(first.str("registration_token"), second.str("registration_token"));
    assert_eq!(
        (generation(&world, "r1").await.as_str(), world.status("r1").await.as_str()),
        ("2", "pending")
    );

    world.github.register(ORG, "r1", &[], true, second.str("registration_token")).expect("a good token");
    let answer = register(&world, "r1", "k").await;
    assert_eq!(answer.refusal(), (409, "IDEMPOTENCY_KEY_SPENT"), "only GitHub knows: {}", answer.text);
    assert_eq!(world.status("r1").await, "pending");
    world.sweep().await;
    assert_eq!(world.status("r1").await, "offline");
    assert_eq!(register(&world, "r1", "k").await.refusal(), (409, "IDEMPOTENCY_KEY_SPENT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_no_key_is_told_so() {
    let world = World::new().await;
    for key in ["", " ", &"x".repeat(256)] {
        let answer = world.jit_with_key(json!({ "runner_name": "b1" }), key).await;
        assert_eq!(answer.refusal(), (422, "INVALID_REQUEST"));
        assert_eq!(answer.body["errors"][0]["field"], Value::from("Idempotency-Key"));
    }
    assert_eq!(world.posts(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_former_release_is_still_known_by_its_body() {
    let world = World::new().await;
    assert_eq!(keyed(&world).await.status, 201);
    let former = r#"{"runner_name":"b1","runner_name_prefix":null,"labels":[],"runner_group_id":null,"runner_group":null,"team":null,"organization":null,"repository":null,"os":"linux","arch":"x64","work_folder":"_work"}"#;
    let fingerprint = runner_broker::model::sha256(format!("jit\n{former}"));
    world.sql(&format!("UPDATE idempotency_keys SET fingerprint = '{fingerprint}'")).await;
    let other = world.jit_with_key(json!({ "runner_name": "b2" }), "k").await;
    assert_eq!(other.refusal(), (422, "IDEMPOTENCY_KEY_REUSED"));
    assert_eq!(keyed(&world).await.status, 201);
    assert_eq!(world.on_github(), ["b1"]);
}
