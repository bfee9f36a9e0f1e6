//! Repair: provisions whose request died leave no runner that no row knows, and take nothing from anybody.

use runner_broker::dev::github::{Action, Canned, Fault};
use serde_json::json;

use crate::support::{ORG, World};

/// Older than any request can still be at work: three times GITHUB_TIMEOUT_SECONDS and 2 s.
const INTERRUPTED: i64 = 3 * 2 + 3;

/// A JIT provision whose process died before its last step: `requested`, with its runner on GitHub.
async fn died_after_github(world: &World, name: &str) {
    assert_eq!(world.jit(name).await.status, 201);
    world
        .sql(&format!(
            "UPDATE runners SET status = 'requested', github_runner_id = NULL, facts_at = NULL,
                 expires_at = NULL, registered_at = NULL WHERE name = '{name}'"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_provision_is_finished_once_its_request_can_no_longer_be_at_work() {
    let world = World::new().await;
    died_after_github(&world, "b1").await;
    assert_eq!(world.sweep().await.repaired, 0);
    assert_eq!(world.status("b1").await, "requested");
    assert!(world.github.runner(ORG, "b1").is_some());

    world.pass(INTERRUPTED);
    let report = world.sweep().await;
    assert_eq!((report.repaired, report.failures), (1, 0));
    assert_eq!(world.status("b1").await, "failed");
    assert!(world.github.runner(ORG, "b1").is_none());
    let events = ["provision_requested", "provisioned", "runner_state_changed", "provision_failed"];
    assert_eq!(world.events("b1").await, events);
    assert_eq!(world.moves("b1").await, ["requested>deleting"]);
    let removed = "SELECT event_data->>'runner_removed_from_github' FROM audit_log
                   WHERE event_type = 'provision_failed'";
    assert_eq!(world.sql(removed).await, ["true"]);
    assert_eq!(world.jit("b1").await.status, 201, "its name is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_died_before_github_heard_of_it_is_only_failed() {
    let world = World::new().await;
    died_after_github(&world, "b1").await;
    world.github.remove(ORG, "b1").unwrap();
    world.pass(INTERRUPTED);
    assert_eq!(world.sweep().await.repaired, 1);
    assert_eq!(world.status("b1").await, "failed");
    let removed = "SELECT event_data->>'runner_removed_from_github' FROM audit_log
                   WHERE event_type = 'provision_failed'";
    assert_eq!(world.sql(removed).await, ["false"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_runner_of_that_name_stays() {
    let world = World::new().await;
    for name in ["labels", "started", "known"] {
        died_after_github(&world, name).await;
    }
    world.github.set_labels(ORG, "labels", &["self-hosted", "linux", "x64", "gpu"]).unwrap();
    world.github.connect(ORG, "started").unwrap();
    let known = world.github.runner(ORG, "known").unwrap().id;
    world.jit("other").await;
    world.sql(&format!("UPDATE runners SET github_runner_id = {known} WHERE name = 'other'")).await;
    world.pass(INTERRUPTED);
    assert_eq!(world.sweep().await.repaired, 3);
    for name in ["labels", "started", "known"] {
        assert_eq!(world.status(name).await, "failed");
        assert!(world.github.runner(ORG, name).is_some(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_registration_is_only_failed() {
    let world = World::new().await;
    world.registration("r1").await;
    world.sql("UPDATE runners SET status = 'requested', expires_at = NULL").await;
    world.github.plant(ORG, "r1", &[], true).unwrap();
    world.github.clear_calls();
    world.pass(INTERRUPTED);
    assert_eq!(world.sweep().await.repaired, 1);
    assert_eq!(world.status("r1").await, "failed");
    assert!(world.github.runner(ORG, "r1").is_some());
    assert!(world.github.calls().iter().all(|call| !call.path.contains("name=r1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_interrupted_in_its_middle_is_finished_by_the_next_sweep() {
    let world = World::new().await;
    died_after_github(&world, "b1").await;
    world.sql("UPDATE runners SET status = 'deleting', deleting_from = NULL").await;
    let answer = world.delete("/api/v1/runners/b1", "blue").await;
    assert_eq!(answer.refusal(), (409, "RUNNER_BUSY"), "it is the sweep's");
    assert_eq!(world.sweep().await.repaired, 1);
    assert_eq!(world.status("b1").await, "failed");
    assert!(world.github.runner(ORG, "b1").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_github_does_not_answer_is_tried_again_by_the_next_sweep_then_after_pauses() {
    let world = World::new().await;
    died_after_github(&world, "b1").await;
    world.pass(INTERRUPTED);
    let lookup = || Fault::new("GET", "name=b1", Action::Respond(Canned::status(500))).times(3);
    for _ in 0..2 {
        world.github.fail(lookup());
        assert_eq!(world.sweep().await.failures, 1);
        assert_eq!(world.status("b1").await, "deleting");
    }
    assert_eq!(world.sweep().await.repaired, 0, "not within the pause");
    world.pass(61);
    assert_eq!(world.sweep().await.repaired, 1);
    assert_eq!(world.status("b1").await, "failed");
    let events = ["provision_requested", "provisioned", "runner_state_changed", "provision_failed"];
    assert_eq!(world.events("b1").await, events);
}

/// A repeat of an idempotency key that died right after its intent.
async fn died_in_a_repeat(world: &World, path: &str) {
    let body = json!({ "runner_name": "b1" });
    let token = world.token("blue");
    let headers = [("idempotency-key", "k1")];
    let first = world.call(reqwest::Method::POST, path, &token, &headers, Some(body)).await;
    assert_eq!(first.status, 201, "{}", first.text);
    world.sql("UPDATE runners SET status = 'requested', generation = 2, requested_at = now()").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_repeat_whose_former_runner_has_started_leaves_it_its_row() {
    let world = World::new().await;
    died_in_a_repeat(&world, "/api/v1/runners/jit").await;
    world.github.connect(ORG, "b1").unwrap();
    world.pass(INTERRUPTED);
    assert_eq!(world.sweep().await.repaired, 1);
    assert!(world.github.runner(ORG, "b1").is_some());
    assert_eq!(world.status("b1").await, "active");
    assert_eq!(world.moves("b1").await, ["requested>deleting", "deleting>pending", "pending>active"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_one_that_was_interrupted_again_between_claim_and_end() {
    let world = World::new().await;
    died_in_a_repeat(&world, "/api/v1/runners/jit").await;
    world.github.connect(ORG, "b1").unwrap();
    world.sql("UPDATE runners SET status = 'deleting', deleting_from = NULL").await;
    assert_eq!(world.sweep().await.repaired, 1);
    assert_eq!(world.status("b1").await, "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_repeat_takes_no_runner_away_that_was_handed_out() {
    let world = World::new().await;
    died_in_a_repeat(&world, "/api/v1/runners/jit").await;
    world.pass(INTERRUPTED);
    assert_eq!(world.sweep().await.repaired, 1);
    assert_eq!(world.status("b1").await, "pending");
    world.github.connect(ORG, "b1").expect("it is there");
    // Its key still stands for it.
    world.sweep().await;
    let repeated = world.jit_with_key(json!({ "runner_name": "b1" }), "k1").await;
    assert_eq!(repeated.refusal(), (409, "IDEMPOTENCY_KEY_SPENT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_an_interrupted_repeat_wanted_with_other_labels_has_not_drifted() {
    let world = World::new().await;
    died_in_a_repeat(&world, "/api/v1/runners/jit").await;
    world.sql("UPDATE runners SET labels = labels || '{since-then}'::text[]").await;
    world.pass(INTERRUPTED);
    assert_eq!(world.sweep().await.repaired, 1);
    world.sweep().await;
    assert_eq!(world.status("b1").await, "pending");
    assert!(world.log("event_type = 'label_drift_detected'").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_repeat_of_a_registration_keeps_the_row_that_its_first_token_may_still_use() {
    let world = World::new().await;
    died_in_a_repeat(&world, "/api/v1/runners/provision").await;
    world.pass(INTERRUPTED);
    assert_eq!(world.sweep().await.repaired, 1);
    assert_eq!(world.status("b1").await, "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_appears_late_under_a_failed_name_is_removed() {
    let world = World::new().await;
    died_after_github(&world, "b1").await;
    let late = Canned::status(200).body(r#"{"total_count": 0, "runners": []}"#);
    world.github.fail(Fault::new("GET", "name=b1", Action::Respond(late)));
    world.pass(INTERRUPTED);
    let report = world.sweep().await;
    assert_eq!((report.repaired, report.orphans), (1, 1));
    assert!(world.github.runner(ORG, "b1").is_none());
    assert_eq!(world.events("b1").await.last().map(String::as_str), Some("orphan_removed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_name_that_is_in_use_again_keeps_its_new_runner() {
    let world = World::new().await;
    died_after_github(&world, "b1").await;
    world.github.remove(ORG, "b1").unwrap();
    world.pass(INTERRUPTED);
    assert_eq!(world.sweep().await.repaired, 1);
    // The next provision of that name: GitHub has made its runner, its row does not say so yet.
    assert_eq!(world.jit("b1").await.status, 201);
    world
        .sql("UPDATE runners SET status = 'requested', github_runner_id = NULL WHERE status = 'pending'")
        .await;
    assert_eq!(world.sweep().await.orphans, 0);
    assert!(world.github.runner(ORG, "b1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_always_fail_do_not_keep_the_others_waiting() {
    let world = World::new().await;
    died_after_github(&world, "good").await;
    // More than one sweep takes, and older: their organisation is gone.
    world
        .sql(
            "INSERT INTO runners (id, name, target, team, status, method, labels, ephemeral, runner_group_id,
                 issuer, subject, provisioned_by, created_at, updated_at, requested_at)
             SELECT ('00000000-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid, 'bad-' || i, 'gone-org',
                 'blue', 'deleting', 'jit', '{linux}', true, 1, 'i', 's', 'p', now(), now(), now()
             FROM generate_series(1, 600) i",
        )
        .await;
    world.sql("UPDATE runners SET status = 'deleting', deleting_from = NULL WHERE name = 'good'").await;
    for _ in 0..2 {
        world.sweep().await;
    }
    assert_eq!(world.status("good").await, "failed");
}
