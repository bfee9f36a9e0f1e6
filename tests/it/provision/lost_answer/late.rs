//! GitHub acts after it has answered: what appears then is taken away, and nothing else is.

use std::time::Duration;

use runner_broker::dev::github::{Action, Canned};
use serde_json::json;

use super::{JIT, assert_agree, on_post, warm};
use crate::support::{ORG, World, eventually};

pub(super) fn late(millis: u64) -> Action {
    Action::RespondThenAct { answer: Canned::status(502), millis }
}

/// Fails `name`, exact, so that nothing is on GitHub but its name stays watched.
pub(super) async fn fail(world: &World, name: &str) {
    world.github.fail(on_post(Action::Respond(Canned::status(502))).times(2));
    assert_eq!(world.jit(name).await.refusal(), (503, "GITHUB_UNAVAILABLE"));
    assert_eq!(world.status(name).await, "failed");
}

/// A runner of this name that no row knows: as if made by somebody else's App, never started.
async fn unknown(world: &World, name: &str, labels: &[&str]) {
    let answer = world.post(JIT, "blue", json!({ "runner_name": name, "labels": labels })).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let id = answer.str("runner_id");
    world.sql(&format!("DELETE FROM runners WHERE id = '{id}'")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_appears_after_its_provision_failed_is_removed_by_a_sweep() {
    let world = warm(Duration::from_secs(2)).await;
    world.github.fail(on_post(late(400)));
    world.github.fail(on_post(Action::Respond(Canned::status(502))));
    assert_eq!(world.jit("b1").await.refusal(), (503, "GITHUB_UNAVAILABLE"));
    eventually("the late act", async || world.on_github() == ["warm", "b1"]).await;
    world.pass(50 * 60);
    assert_eq!(world.sweep().await.orphans, 1);
    assert_eq!(world.on_github(), ["warm"]);
    assert_agree(&world).await;
    let removed = world.log("event_type = 'orphan_removed'").await;
    assert_eq!((removed.len(), &removed[0]["runner_name"]), (1, &json!("b1")));
    assert_eq!(removed[0]["severity"], json!("warning"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suffix_that_was_given_up_stays_watched_and_the_one_that_was_handed_out_stays() {
    let world = warm(Duration::from_secs(2)).await;
    world.github.fail(on_post(late(600)));
    let answer = world.post(JIT, "blue", json!({ "runner_name_prefix": "p" })).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    eventually("the late act", async || world.on_github().len() == 3).await;
    assert_eq!(world.sweep().await.orphans, 1);
    assert_eq!(world.on_github(), ["warm", answer.str("runner_name")]);
    assert_agree(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exact_name_asked_for_twice_is_made_once_however_late_the_first_act_comes() {
    let world = warm(Duration::from_secs(2)).await;
    // Before the second request arrives, or after.
    for millis in [0, 400] {
        world.github.fail(on_post(late(millis)));
        let answer = world.jit("b1").await;
        eventually("both acts", async || world.posts() >= 2).await;
        match answer.status {
            201 => {
                let config = answer.str("encoded_jit_config");
                assert_eq!(world.github.connect_jit(config).expect("a good config"), "b1");
                assert_eq!(world.on_github(), ["warm", "b1"]);
                world.github.disconnect(ORG, "b1").expect("a runner");
                world.delete("/api/v1/runners/b1", "blue").await;
            }
            status => assert_eq!((status, answer.str("error_code")), (503, "GITHUB_UNAVAILABLE")),
        }
        world.sweep().await;
        assert_eq!(world.on_github(), ["warm"]);
        assert_agree(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_name_is_ours_only_unstarted_with_our_labels_and_known_to_no_row() {
    let world = warm(Duration::from_secs(2)).await;
    for name in ["started", "others", "again", "planted", "ours"] {
        fail(&world, name).await;
    }
    unknown(&world, "started", &[]).await;
    world.github.connect(ORG, "started").expect("a runner");
    world.github.disconnect(ORG, "started").expect("a runner");
    unknown(&world, "others", &["docker"]).await;
    world.github.plant(ORG, "planted", &[], true).expect("a runner");
    assert_eq!(world.jit("Again").await.status, 201, "the caller tried again and has it now");
    unknown(&world, "ours", &[]).await;
    assert_eq!(world.sweep().await.orphans, 1);
    let mut left = world.on_github();
    left.sort();
    assert_eq!(left, ["Again", "others", "planted", "started", "warm"], "only what is ours has gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_watched_for_an_hour_and_no_longer() {
    let world = warm(Duration::from_secs(2)).await;
    fail(&world, "b1").await;
    unknown(&world, "b1", &[]).await;
    world.pass(3601);
    assert_eq!(world.sweep().await.orphans, 0);
    assert!(world.on_github().contains(&"b1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_sweeps_are_rare_a_name_is_watched_until_the_second_one() {
    let world = World::with(|config| {
        config.github.timeout = Duration::from_secs(2);
        config.broker.sync_interval = Duration::from_secs(3600);
    })
    .await;
    world.pass(10);
    fail(&world, "b1").await;
    world.sweep().await;
    unknown(&world, "b1", &[]).await;
    world.pass(3601);
    assert_eq!(world.sweep().await.orphans, 1);
    assert!(world.on_github().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_whose_name_github_said_was_taken_is_never_taken_for_ours() {
    let world = warm(Duration::from_secs(2)).await;
    // Just what we would make, but another broker's.
    unknown(&world, "theirs", &[]).await;
    assert_eq!(world.jit("Theirs").await.refusal(), (409, "RUNNER_NAME_TAKEN"));
    assert_eq!(world.sweep().await.orphans, 0);
    world.pass(60);
    world.sweep().await;
    assert_eq!(world.on_github(), ["warm", "theirs"]);
    assert_eq!(world.status("Theirs").await, "failed");
}
