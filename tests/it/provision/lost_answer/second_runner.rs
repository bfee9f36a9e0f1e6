//! A row that got its runner by a second request: what the first one makes once that runner is gone does not stay.

use std::time::Duration;

use runner_broker::dev::github::{Action, Canned, Fault};
use serde_json::json;

use super::{assert_agree, on_post, warm};
use crate::support::{Answer, ORG, World, eventually};

/// Later than everything that a test does until then, however slow the machine.
const LATE: Action = Action::RespondThenAct {
    answer: Canned { status: 503, headers: Vec::new(), body: String::new() },
    millis: 3_000,
};

/// Until the late act, then as many sweeps as it takes to miss the handed out one for good, and one more.
async fn after_the_late_act(world: &World, name: &str, what: &str) {
    eventually("the late act", async || world.on_github() == ["warm", name]).await;
    let known = world.column(name, "github_runner_id").await;
    let mut orphans = 0;
    for _ in 0..3 {
        world.pass(2);
        orphans += world.sweep().await.orphans;
    }
    assert_eq!((orphans, world.on_github()), (1, vec!["warm".to_owned()]), "{what}");
    assert_agree(world).await;
    assert_eq!(world.status(name).await, "deleted", "{what}");
    assert_eq!(world.column(name, "github_runner_id").await, known, "{what}: the row's own runner");
    let last = world.events(name).await.pop();
    assert_eq!(last.as_deref(), Some("orphan_removed"), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_request_that_acts_once_the_second_ones_runner_has_gone_leaves_nothing() {
    let world = warm(Duration::from_secs(2)).await;
    for way in ["vanished", "did its job", "was removed"] {
        let name = way.replace(' ', "-");
        world.github.fail(on_post(LATE));
        let answer = world.jit(&name).await;
        assert_eq!(answer.status, 201, "{way}: {}", answer.text);
        match way {
            "vanished" => world.github.remove(ORG, &name).expect("a runner"),
            "did its job" => {
                world.github.connect_jit(answer.str("encoded_jit_config")).expect("a good config");
                world.github.start_job(ORG, &name).expect("a runner");
                world.github.finish_job(ORG, &name).expect("a job");
            }
            _ => assert_eq!(world.delete(&format!("/api/v1/runners/{name}"), "blue").await.status, 200),
        }
        after_the_late_act(&world, &name, way).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_one_of_a_repeat_and_one_of_the_generation_before() {
    let world = warm(Duration::from_secs(2)).await;
    for lost in [2, 1] {
        let name = format!("generation-{lost}");
        let ask = async |generation| -> Answer {
            if generation == lost {
                world.github.fail(on_post(LATE));
            }
            world.jit_with_key(json!({ "runner_name": name }), &name).await
        };
        for generation in [1, 2] {
            let answer = ask(generation).await;
            assert_eq!(answer.status, 201, "{name}: {}", answer.text);
        }
        world.github.remove(ORG, &name).expect("a runner");
        after_the_late_act(&world, &name, &name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_one_of_a_repeat_that_was_killed_and_whose_row_a_repair_gave_back() {
    let world = warm(Duration::from_secs(2)).await;
    let ask = async || world.jit_with_key(json!({ "runner_name": "b1" }), "k").await;
    assert_eq!(ask().await.status, 201);
    let former = world.column("b1", "github_runner_id").await;
    // The repair finds the former runner, and the request takes it off GitHub all the same, before it is killed.
    world.sql("UPDATE runners SET status = 'requested', generation = 2 WHERE name = 'b1'").await;
    world.pass(60);
    assert_eq!(world.sweep().await.repaired, 1);
    assert_eq!(
        (world.status("b1").await, world.column("b1", "github_runner_id").await),
        ("pending".into(), former)
    );
    let row = "UPDATE runners SET name = 'aside' WHERE name = 'b1'";
    world.sql(row).await;
    world.github.remove(ORG, "b1").expect("a runner");
    assert_eq!(world.jit("b1").await.status, 201, "what the request makes late");
    world.sql("DELETE FROM runners WHERE name = 'b1'").await;
    world.sql("UPDATE runners SET name = 'b1' WHERE name = 'aside'").await;
    after_the_late_act(&world, "b1", "given back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_was_handed_out_is_no_orphan_when_github_shows_it_again() {
    let world = warm(Duration::from_secs(2)).await;
    world.github.fail(on_post(Action::Respond(Canned::status(503))));
    assert_eq!(world.jit("b1").await.status, 201);
    assert_eq!(world.column("b1", "may_appear").await, "t", "a request was lost");
    world
        .sql(
            "UPDATE runners SET status = 'deleted', updated_at = now(), deleted_at = now() WHERE name = 'b1'",
        )
        .await;
    world.pass(61);
    let report = world.sweep().await;
    assert_eq!((report.orphans, report.unmanaged), (0, 1));
    assert_eq!(world.on_github(), ["warm", "b1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_lost_request_can_have_made_is_not_watched_for() {
    let world = warm(Duration::from_secs(2)).await;
    assert_eq!(world.jit("b1").await.status, 201);
    world.github.fail(on_post(LATE));
    let renamed = world.post(super::JIT, "blue", json!({ "runner_name_prefix": "p" })).await;
    assert_eq!(renamed.status, 201, "{}", renamed.text);
    world.github.fail(Fault::new("POST", "generate-jitconfig", Action::Respond(Canned::status(422))));
    assert_eq!(world.jit("refused").await.refusal(), (502, "GITHUB_REFUSED"));
    for name in ["b1", renamed.str("runner_name"), "refused"] {
        assert_eq!(world.column(name, "may_appear").await, "f", "{name}");
    }
}
