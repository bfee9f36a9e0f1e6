//! What a caller wished holds when something goes wrong on the way, and what has come back is left alone.

use std::time::Duration;

use runner_broker::dev::github::{Action, Canned, Fault};
use serde_json::json;

use crate::support::{ORG, World};

const REGISTRATION: &str = "/api/v1/runners/provision";

async fn with_an_auditor() -> World {
    let world = World::new().await;
    let policy = format!(
        "{}\n[[auditor]]\nissuer = \"ISSUER\"\nclaims = {{ team = \"watch\" }}\n",
        crate::support::team("blue", "")
    );
    world.policy(&policy).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_did_not_want_to_wait_goes_back_when_the_runner_is_busy_by_the_time_of_the_sweep() {
    for (query, after_the_sweep) in [("", "active"), ("?force_when_idle=true", "deleting")] {
        let world = World::new().await;
        world.connected("b1").await;
        world.github.fail(Fault::new("DELETE", "/runners/", Action::Respond(Canned::status(503))).always());
        let answer = world.delete(&format!("/api/v1/runners/b1{query}"), "blue").await;
        assert_eq!(answer.refusal(), (503, "GITHUB_UNAVAILABLE"), "{}", answer.text);
        world.github.clear_faults();
        world.github.start_job(ORG, "b1").unwrap();
        world.pass(120);
        world.sweep().await;
        assert_eq!(world.status("b1").await, after_the_sweep, "{query}");
        assert_eq!(world.on_github(), ["b1"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_runner_that_has_come_back_unseen_is_left_alone() {
    let world = World::new().await;
    world.connected("b1").await;
    world.sql("UPDATE runners SET status = 'offline'").await;
    world.pass(25 * 3600);
    // The list cannot be read, so the row still says what it said a day ago.
    world.github.fail(Fault::new("GET", "per_page", Action::Respond(Canned::status(500))).always());
    world.sweep().await;
    assert_eq!(world.on_github(), ["b1"]);
    assert_eq!(world.status("b1").await, "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_request_stays_watched_although_the_second_one_was_refused() {
    let world = World::with(|config| config.github.timeout = Duration::from_millis(900)).await;
    assert_eq!(world.jit("warm").await.status, 201);
    world.pass(10);
    let late = Action::RespondThenAct { answer: Canned::status(502), millis: 1_500 };
    world.github.fail(Fault::new("POST", "generate-jitconfig", late));
    let refused = Action::Respond(Canned::status(422));
    world.github.fail(Fault::new("POST", "generate-jitconfig", refused));
    let answer = world.jit("b1").await;
    assert_eq!(answer.refusal(), (502, "GITHUB_REFUSED"), "{}", answer.text);
    assert_eq!(world.sql("SELECT may_appear FROM runners WHERE name = 'b1'").await, ["t"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_is_not_issued_for_the_name_of_somebody_elses_runner() {
    let world = World::new().await;
    world.github.plant(ORG, "Prod-7", &["prod"], false).unwrap();
    let answer = world.post(REGISTRATION, "blue", json!({ "runner_name": "prod-7" })).await;
    assert_eq!(answer.refusal(), (409, "RUNNER_NAME_TAKEN"), "{}", answer.text);
    world.sweep().await;
    assert_eq!(world.delete("/api/v1/runners/prod-7", "blue").await.str("status"), "failed");
    assert_eq!(world.on_github(), ["Prod-7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_for_a_group_whose_name_cannot_be_had_is_refused_before_a_token_is_issued() {
    let world = World::new().await;
    world.policy(&crate::support::team("blue", "runner_groups = [77]")).await;
    let answer = world.post(REGISTRATION, "blue", json!({ "runner_name": "r1" })).await;
    assert_eq!(answer.refusal(), (403, "RUNNER_GROUP_NOT_ALLOWED"), "{}", answer.text);
    assert_eq!(world.posts(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_auditor_tries_beyond_looking_is_in_the_log() {
    let world = with_an_auditor().await;
    assert_eq!(world.jit("b1").await.status, 201);
    assert_eq!(world.delete("/api/v1/runners/b1", "watch").await.refusal(), (403, "FORBIDDEN"));
    let events = world.log("event_type = 'access_refused'").await;
    assert_eq!((events.len(), &events[0]["subject"]), (1, &json!("watch-user")));
    assert_eq!(events[0]["runner_name"], "b1");
}
