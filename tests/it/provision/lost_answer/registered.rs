//! A name that a lost JIT request may still use, and that somebody else has by now: what appears is nobody's, goes, and
//! does not count as taken.

use std::time::Duration;

use runner_broker::dev::github::{Action, Canned};
use serde_json::json;

use super::late::{fail, late};
use super::{assert_agree, on_post, warm};
use crate::support::{Answer, ORG, World, eventually};

const PROVISION: &str = "/api/v1/runners/provision";

async fn register(world: &World, name: &str) -> Answer {
    world.post(PROVISION, "blue", json!({ "runner_name": name })).await
}

/// A registration that nobody has used, with a runner under its name that a lost JIT request made before; GitHub has
/// that runner from now on. Answers with the registration's token.
async fn beside_a_late_one(world: &World, name: &str) -> String {
    assert_eq!(world.jit(name).await.status, 201);
    let lost =
        "UPDATE runners SET status = 'failed', may_appear = true, updated_at = now(), deleted_at = now(),
                github_runner_id = NULL WHERE name =";
    world.sql(&format!("{lost} '{name}'")).await;
    let answer = register(world, "aside").await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    world.sql(&format!("UPDATE runners SET name = '{name}' WHERE name = 'aside'")).await;
    answer.str("registration_token").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_jit_request_makes_is_not_taken_for_the_registration_that_has_its_name_by_then() {
    let world = warm(Duration::from_secs(2)).await;
    world.github.fail(on_post(late(3_000)));
    world.github.fail(on_post(Action::Respond(Canned::status(502))));
    assert_eq!(world.jit("r0").await.refusal(), (503, "GITHUB_UNAVAILABLE"));
    let answer = register(&world, "R0").await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    eventually("the late act", async || world.on_github() == ["warm", "r0"]).await;
    world.pass(10);
    let report = world.sweep().await;
    assert_eq!((report.orphans, report.unmanaged), (1, 0));
    assert_eq!((world.on_github(), world.status("R0").await), (vec!["warm".to_owned()], "pending".into()));

    let token = answer.str("registration_token");
    world.github.register(ORG, "R0", &[], true, token).expect("the name is free");
    world.pass(10);
    world.sweep().await;
    assert_eq!((world.status("R0").await, world.on_github().len()), ("offline".into(), 2), "its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_look_nor_a_repeat_nor_a_removal_nor_the_end_of_the_token_takes_it_for_the_registrations() {
    let world = warm(Duration::from_secs(2)).await;
    beside_a_late_one(&world, "looked-at").await;
    let answer = world.post("/api/v1/runners/looked-at/refresh", "blue", json!({})).await;
    assert_eq!((answer.status, answer.str("status")), (200, "pending"), "{}", answer.text);

    beside_a_late_one(&world, "removed").await;
    let answer = world.delete("/api/v1/runners/removed", "blue").await;
    assert_eq!((answer.status, answer.str("status")), (200, "deleted"), "{}", answer.text);
    let events = world.log("event_type = 'deprovisioned'").await;
    assert_eq!(events[0]["event_data"]["github_runner_id"], json!(null), "it never registered");

    beside_a_late_one(&world, "overdue").await;
    world.sql("UPDATE runners SET expires_at = now() - interval '1 s' WHERE name = 'overdue'").await;
    assert_eq!(world.on_github(), ["warm", "looked-at", "removed", "overdue"]);
    assert_eq!(world.sweep().await.orphans, 3);
    assert_eq!(world.on_github(), ["warm"]);
    assert_eq!(world.status("overdue").await, "deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_of_the_registration_gets_a_fresh_token_all_the_same() {
    let world = warm(Duration::from_secs(2)).await;
    let headers = [("idempotency-key", "k")];
    let again = async |name: &str| {
        let sent = Some(json!({ "runner_name": name }));
        world.call(reqwest::Method::POST, PROVISION, &world.token("blue"), &headers, sent).await
    };
    assert_eq!(again("r0").await.status, 201);
    world.sql("UPDATE runners SET name = 'elsewhere' WHERE name = 'r0'").await;
    fail(&world, "r0").await;
    // As `unknown` in `late`: made by the request that was lost.
    assert_eq!(world.jit("r0").await.status, 201);
    world.sql("DELETE FROM runners WHERE name = 'r0' AND status = 'pending'").await;
    world.sql("UPDATE runners SET name = 'r0' WHERE name = 'elsewhere'").await;
    assert_eq!(world.on_github(), ["warm", "r0"]);
    let answer = again("r0").await;
    assert_eq!(answer.status, 201, "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_runner_that_has_not_connected_stays_under_a_watched_name() {
    let world = warm(Duration::from_secs(2)).await;
    fail(&world, "r0").await;
    let answer = register(&world, "r0").await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    world.github.register(ORG, "r0", &[], true, answer.str("registration_token")).expect("a good token");
    world.pass(10);
    let report = world.sweep().await;
    assert_eq!((report.orphans, world.status("r0").await.as_str()), (0, "offline"));
    assert_eq!(world.on_github(), ["warm", "r0"]);
}

/// A slow request, which a repair gives up; and its successor of the same name, whose runner GitHub has made when the
/// slow one hears of it.
async fn slow_and_its_successor(world: &World, slow: Action, successor: Action) {
    world.github.clear_calls();
    world.github.fail(on_post(slow));
    world.github.fail(on_post(successor));
    let (given_up, answer) = tokio::join!(world.jit("r1"), async {
        eventually("the slow request", async || world.posts() == 1).await;
        world.pass(60);
        assert_eq!(world.sweep().await.repaired, 1);
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.jit("R1").await
    });
    assert!(given_up.status >= 400, "{}", given_up.text);
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(world.github.connect_jit(answer.str("encoded_jit_config")).expect("it is there"), "R1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_request_that_was_given_up_does_not_take_its_successors_runner_for_an_orphan() {
    let world = warm(Duration::from_secs(3)).await;
    let slow = Action::Delay { millis: 1_500 };
    slow_and_its_successor(&world, slow, Action::ActThenDelay { millis: 2_500 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_one_whose_answer_is_lost_take_it_for_what_it_made_itself() {
    let world = warm(Duration::from_secs(3)).await;
    slow_and_its_successor(&world, Action::Hang, Action::ActThenDelay { millis: 2_800 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_only_a_lost_request_of_ours_holds_is_free() {
    let world = warm(Duration::from_secs(2)).await;
    for (name, path) in [("jit", super::JIT), ("registration", PROVISION)] {
        assert_eq!(world.jit(name).await.status, 201);
        let lost =
            "UPDATE runners SET status = 'failed', may_appear = true, updated_at = now(), deleted_at = now(),
                    github_runner_id = NULL WHERE name =";
        world.sql(&format!("{lost} '{name}'")).await;
        let answer = world.post(path, "blue", json!({ "runner_name": name.to_uppercase() })).await;
        assert_eq!(answer.status, 201, "{name}: {}", answer.text);
        let removed = world.log(&format!("event_type = 'orphan_removed' AND runner_name = '{name}'")).await;
        assert_eq!((removed.len(), removed[0]["subject"].as_str()), (1, Some("blue-user")), "{removed:?}");
    }
    assert_eq!(world.on_github(), ["warm", "JIT"]);
    assert_agree(&world).await;
}
