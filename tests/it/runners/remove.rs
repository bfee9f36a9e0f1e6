//! Removal: by its team or an admin, by id or name, of idle, busy and unstarted runners.

use reqwest::Method;
use runner_broker::dev::github::{Action, Canned, Fault};
use serde_json::json;

use crate::support::{Answer, ORG, World};

async fn force(world: &World, name: &str) -> Answer {
    world.delete(&format!("/api/v1/runners/{name}?force_when_idle=true"), "blue").await
}

fn deletes(world: &World) -> usize {
    world.github.calls().iter().filter(|call| call.method == "DELETE").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_removed_by_its_id_or_its_name_and_a_repeat_is_fine() {
    let world = World::new().await;
    let first = world.jit("b1").await;
    world.jit("b2").await;
    for named in [first.str("runner_id"), "B2"] {
        let path = format!("/api/v1/runners/{named}");
        let answer = world.delete(&path, "blue").await;
        assert_eq!((answer.status, answer.str("status")), (200, "deleted"), "{}", answer.text);
        assert_eq!(answer.str("message"), "removed from GitHub");
        let again = world.delete(&path, "blue").await;
        assert_eq!((again.status, again.str("status")), (200, "deleted"), "{}", again.text);
        assert_eq!(again.str("message"), "was already gone");
    }
    assert!(world.github.runners(ORG).is_empty());
    let events = ["provision_requested", "provisioned", "deprovision_requested", "deprovisioned"];
    assert_eq!(world.events("b1").await, events);
    assert_eq!(world.events("b2").await, events);
    assert_eq!(deletes(&world), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_github_has_no_more_is_deleted_all_the_same() {
    let world = World::new().await;
    world.jit("b1").await;
    world.github.remove(ORG, "b1").unwrap();
    let answer = world.delete("/api/v1/runners/b1", "blue").await;
    assert_eq!((answer.status, answer.str("status")), (200, "deleted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_runner_is_left_as_it_was() {
    let world = World::new().await;
    for (name, swept) in [("seen", true), ("unseen", false)] {
        world.connected(name).await;
        if swept {
            world.sweep().await;
        }
        let before = world.status(name).await;
        world.github.start_job(ORG, name).unwrap();
        let answer = world.delete(&format!("/api/v1/runners/{name}"), "blue").await;
        assert_eq!(answer.refusal(), (409, "RUNNER_BUSY"), "{}", answer.text);
        assert_eq!(world.status(name).await, before);
        assert_eq!(world.column(name, "busy || ' ' || coalesce(deleting_from, '-')").await, "true -");
        assert_eq!(world.events(name).await.last().unwrap(), "deprovision_refused");
        assert!(world.github.runner(ORG, name).is_some());
        world.github.remove(ORG, name).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_runner_is_removed_once_idle_if_asked_so_after_growing_pauses() {
    let world = World::new().await;
    world.connected("b1").await;
    world.github.start_job(ORG, "b1").unwrap();
    let answer = force(&world, "b1").await;
    assert_eq!((answer.status, answer.str("status")), (202, "deleting"), "{}", answer.text);
    let mut tried = deletes(&world);
    for minutes in [1, 2, 4, 8, 15, 15] {
        world.pass(60 * minutes - 1);
        world.sweep().await;
        assert_eq!(deletes(&world), tried, "not before {minutes} min");
        world.pass(1);
        assert_eq!(world.sweep().await.removed, 0);
        tried += 1;
        assert_eq!(deletes(&world), tried, "after {minutes} min");
        assert_eq!(world.status("b1").await, "deleting");
    }
    world.sql("UPDATE runners SET ephemeral = false").await;
    world.github.disconnect(ORG, "b1").unwrap();
    world.github.remove(ORG, "b1").unwrap();
    world.pass(15 * 60);
    assert_eq!(world.sweep().await.removed, 1);
    assert_eq!(world.status("b1").await, "deleted");
    let events = world.events("b1").await;
    let removal = ["deprovision_requested", "deprovision_refused", "deprovisioned"];
    assert_eq!(events[events.len() - 3..], removal, "only the first refusal is news");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_delete_does_not_call_off_a_removal_that_waits_for_idleness() {
    let world = World::new().await;
    world.connected("b1").await;
    world.github.start_job(ORG, "b1").unwrap();
    assert_eq!(force(&world, "b1").await.status, 202);
    let answer = world.delete("/api/v1/runners/b1", "blue").await;
    assert_eq!(answer.refusal(), (409, "RUNNER_BUSY"));
    assert_eq!(world.status("b1").await, "deleting");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_github_did_not_answer_is_finished_by_the_next_sweep() {
    let world = World::new().await;
    world.jit("b1").await;
    world.github.fail(Fault::new("DELETE", "", Action::Respond(Canned::status(502))).times(3));
    let answer = world.delete("/api/v1/runners/b1", "blue").await;
    assert_eq!(answer.refusal(), (503, "GITHUB_UNAVAILABLE"));
    assert_ne!(answer.header("retry-after"), "");
    assert_eq!(world.status("b1").await, "deleting");
    assert_eq!(world.sweep().await.removed, 1);
    assert_eq!(world.status("b1").await, "deleted");
    let events = ["deprovision_requested", "deprovision_failed", "deprovisioned"];
    assert_eq!(world.events("b1").await[2..], events);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_github_keeps_refusing_does_not_fill_the_log() {
    let world = World::new().await;
    world.jit("b1").await;
    world.github.fail(Fault::new("DELETE", "", Action::Respond(Canned::status(501))).always());
    assert_eq!(world.delete("/api/v1/runners/b1", "blue").await.status, 503);
    for _ in 0..4 {
        world.pass(15 * 60);
        assert_eq!(world.sweep().await.failures, 1);
    }
    let failed = world.events("b1").await.into_iter().filter(|kind| kind == "deprovision_failed").count();
    assert_eq!(failed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_find_no_runner_auditors_may_only_look_admins_may_all() {
    let world = World::with_people().await;
    assert_eq!(world.jit("b1").await.status, 201);
    for path in ["/api/v1/runners/b1", "/api/v1/runners/nonesuch"] {
        assert_eq!(world.delete(path, "red").await.refusal(), (404, "RUNNER_NOT_FOUND"));
        assert_eq!(world.get(path, "red").await.refusal(), (404, "RUNNER_NOT_FOUND"));
    }
    assert_eq!(world.get("/api/v1/runners/b1", "watch").await.status, 200);
    for path in ["/api/v1/runners/b1/refresh", "/api/v1/runners/b1/remove-token"] {
        assert_eq!(world.post(path, "watch", json!({})).await.refusal(), (403, "FORBIDDEN"), "{path}");
        assert_eq!(world.post(path, "red", json!({})).await.refusal(), (404, "RUNNER_NOT_FOUND"), "{path}");
    }
    assert_eq!(world.delete("/api/v1/runners/b1", "watch").await.refusal(), (403, "FORBIDDEN"));
    assert_eq!(world.status("b1").await, "pending");
    assert_eq!(world.delete("/api/v1/runners/b1", "boss").await.status, 200);
    let who = "SELECT subject FROM audit_log WHERE event_type = 'deprovisioned'";
    assert_eq!(world.sql(who).await, ["boss-user"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unused_registration_is_deleted_and_its_token_still_counts_in_the_quota() {
    let world = World::with_people().await;
    for i in 0..3 {
        world.registration(&format!("r{i}")).await;
    }
    let answer = world.delete("/api/v1/runners/r0", "blue").await;
    assert_eq!((answer.status, answer.str("status")), (200, "deleted"));
    assert!(answer.str("message").contains("never registered with GitHub"), "{}", answer.text);
    assert_eq!(world.events("r0").await.last().unwrap(), "deprovisioned");
    let fourth = world.jit("b1").await;
    assert_eq!(fourth.refusal(), (403, "QUOTA_EXCEEDED"));
    world.pass(3_601);
    world.sweep().await;
    assert_eq!(world.jit("b1").await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_the_sweep_has_not_seen_is_looked_up_by_name() {
    let world = World::new().await;
    for (name, busy) in [("idle", false), ("busy", true)] {
        let token = world.registration(name).await;
        world.github.register(ORG, name, &["linux"], false, &token).unwrap();
        world.github.connect(ORG, name).unwrap();
        if busy {
            world.github.start_job(ORG, name).unwrap();
        }
    }
    let answer = world.delete("/api/v1/runners/idle", "blue").await;
    assert_eq!((answer.status, answer.str("message")), (200, "removed from GitHub"));
    assert!(world.github.runner(ORG, "idle").is_none());
    assert_eq!(force(&world, "busy").await.status, 202);
    world.github.finish_job(ORG, "busy").unwrap();
    world.pass(61);
    assert_eq!(world.sweep().await.removed, 1);
    assert!(world.github.runner(ORG, "busy").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_deletes_at_once_are_both_answered_well() {
    let world = World::new().await;
    for i in 0..8 {
        let path = format!("/api/v1/runners/b{i}");
        world.jit(&format!("b{i}")).await;
        let (a, b, c) = tokio::join!(world.delete(&path, "blue"), world.delete(&path, "blue"), world.sweep());
        assert_eq!((a.status, b.status, c.failures), (200, 200, 0), "{} {}", a.text, b.text);
        let events = world.events(&format!("b{i}")).await;
        assert_eq!(events.iter().filter(|kind| *kind == "deprovisioned").count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_finds_the_live_runner_else_the_newest() {
    let world = World::new().await;
    let old = world.jit("b1").await;
    world.delete("/api/v1/runners/b1", "blue").await;
    let new = world.jit("b1").await;
    assert_eq!(world.get("/api/v1/runners/b1", "blue").await.str("runner_id"), new.str("runner_id"));
    // A live one that is older than one that is gone.
    world
        .sql(&format!(
            "UPDATE runners SET status = 'deleted' WHERE id = '{0}';
             UPDATE runners SET status = 'active' WHERE id <> '{0}'",
            new.str("runner_id")
        ))
        .await;
    assert_eq!(world.get("/api/v1/runners/B1", "blue").await.str("runner_id"), old.str("runner_id"));
    world.sql("UPDATE runners SET status = 'deleted'").await;
    assert_eq!(world.get("/api/v1/runners/b1", "blue").await.str("runner_id"), new.str("runner_id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remove_token_is_for_the_registration_flow_works_and_is_in_the_log_as_its_hash() {
    let world = World::new().await;
    let token = world.registration("r1").await;
    world.github.register(ORG, "r1", &["linux"], false, &token).unwrap();
    let answer = world.post("/api/v1/runners/r1/remove-token", "blue", json!({})).await;
    assert_eq!((answer.status, answer.header("cache-control")), (201, "no-store"), "{}", answer.text);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, answer.str("remove_token").as_bytes());
    let logged = "SELECT event_data->>'credential_sha256' FROM audit_log
                  WHERE event_type = 'remove_token_issued' AND runner_name = 'r1'";
    assert_eq!(world.sql(logged).await, [hex::encode(digest)]);
    world.github.unregister(ORG, "r1", answer.str("remove_token")).expect("a token that works");

    world.jit("b1").await;
    let jit = world.post("/api/v1/runners/b1/remove-token", "blue", json!({})).await;
    assert_eq!(jit.refusal(), (422, "INVALID_REQUEST"));
    world.delete("/api/v1/runners/r1", "blue").await;
    let gone = world.post("/api/v1/runners/r1/remove-token", "blue", json!({})).await;
    assert_eq!(gone.refusal(), (422, "INVALID_REQUEST"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remove_token_that_github_refuses_is_in_the_log_with_its_code() {
    let world = World::new().await;
    world.registration("r1").await;
    world.github.fail(Fault::new("POST", "remove-token", Action::Respond(Canned::status(500))));
    let path = "/api/v1/runners/r1/remove-token";
    let answer = world.call(Method::POST, path, &world.token("blue"), &[], Some(json!({}))).await;
    assert_eq!(answer.refusal(), (503, "GITHUB_UNAVAILABLE"));
    let logged = "SELECT error_code FROM audit_log WHERE event_type = 'remove_token_failed'";
    assert_eq!(world.sql(logged).await, ["GITHUB_UNAVAILABLE"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_runner_whose_removal_lost_its_answers_is_again_what_it_was_unless_somebody_waits_for_it() {
    for waits in [false, true] {
        let world = World::new().await;
        world.connected("b1").await;
        world.sweep().await;
        world.github.start_job(ORG, "b1").unwrap();
        world.github.fail(Fault::new("DELETE", "runners/", Action::ActThenDrop).always());
        let path = format!("/api/v1/runners/b1?force_when_idle={waits}");
        assert_eq!(world.delete(&path, "blue").await.refusal(), (503, "GITHUB_UNAVAILABLE"));
        world.github.disconnect(ORG, "b1").unwrap();
        world.pass(60);
        assert_eq!(world.sweep().await.failures, 1);
        world.github.clear_faults();
        world.sweep().await;
        assert_eq!(world.status("b1").await, "deleting", "GitHub is left alone for a minute");
        world.pass(61);
        world.sweep().await;
        let expected = if waits { "deleting" } else { "active" };
        assert_eq!(world.status("b1").await, expected, "it is busy");
        world.github.finish_job(ORG, "b1").unwrap();
        world.pass(16 * 60);
        world.sweep().await;
        world.pass(2);
        world.sweep().await;
        assert_eq!(world.status("b1").await, "deleted");
    }
}
