//! Answers of GitHub's that get lost, and those that refuse: the caller is told, and no orphan stays.

mod late;
mod refused;
mod registered;
mod second_runner;

use std::time::{Duration, Instant};

use runner_broker::dev::github::{Action, Canned, Fault};
use serde_json::{Value, json};

use crate::support::{Answer, ORG, World, eventually};

const JIT: &str = "/api/v1/runners/jit";

/// A world that has its installation token, no longer a fresh one.
async fn warm(timeout: Duration) -> World {
    let world = World::with(|config| config.github.timeout = timeout).await;
    assert_eq!(world.jit("warm").await.status, 201);
    world.pass(10);
    world
}

fn on_post(action: Action) -> Fault {
    Fault::new("POST", "generate-jitconfig", action)
}

/// Every live row has its runner, every runner its row, and nothing is in between.
async fn assert_agree(world: &World) {
    let between = world.sql("SELECT name FROM runners WHERE status IN ('requested', 'deleting')").await;
    assert!(between.is_empty(), "in between: {between:?}");
    let live = "SELECT name FROM runners WHERE status IN ('pending', 'active', 'offline') AND method = 'jit'";
    let (mut rows, mut runners) = (world.sql(live).await, world.on_github());
    rows.sort();
    runners.sort();
    assert_eq!(rows, runners);
}

/// Both ways of naming a runner.
fn names() -> [Value; 2] {
    [json!({ "runner_name": "exact" }), json!({ "runner_name_prefix": "prefix" })]
}

/// How an answer gets lost, with the act done or not.
fn losses() -> Vec<Action> {
    let canned = Canned::status;
    vec![
        Action::Drop,
        Action::ActThenDrop,
        Action::Truncate,
        Action::Html { status: 200 },
        Action::Html { status: 502 },
        Action::Respond(canned(500)),
        Action::Respond(canned(502)),
        Action::Respond(canned(503)),
        Action::ActThenRespond(canned(500)),
        Action::ActThenRespond(canned(502)),
        Action::ActThenRespond(canned(503)),
        Action::ActThenRespond(canned(201).body(r#"{"runner": {}}"#)),
    ]
}

/// One provision under this fault, and what must hold after it.
async fn try_once(world: &World, sent: &Value, fault: Fault, what: &str) -> Answer {
    world.github.clear_calls();
    world.github.fail(fault);
    let answer = world.post(JIT, "blue", sent.clone()).await;
    world.github.clear_faults();
    let asked = world.posts();
    assert!(asked <= 2, "{what}: asked {asked} times");
    // An answer lost is looked up before GitHub is asked again.
    let calls = world.github.calls();
    let is_post = |path: &str| path.ends_with("generate-jitconfig");
    if let Some(first) = calls.iter().position(|call| is_post(&call.path)) {
        let second = calls[first + 1..].iter().position(|call| is_post(&call.path));
        let looked = calls[first + 1..].iter().position(|call| call.path.contains("runners?name="));
        assert!(second.is_none() || looked < second, "{what}: repeated blindly: {calls:?}");
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn after_one_lost_answer_the_caller_gets_a_runner_all_the_same_and_only_that() {
    let world = warm(Duration::from_secs(2)).await;
    for action in losses() {
        for sent in names() {
            let what = format!("{action:?}, {sent}");
            let answer = try_once(&world, &sent, on_post(action.clone()), &what).await;
            assert_eq!(answer.status, 201, "{what}: {}", answer.text);
            let name = world.github.connect_jit(answer.str("encoded_jit_config")).expect("a good config");
            assert_eq!(name, answer.str("runner_name"), "{what}");
            assert_agree(&world).await;
            world.github.disconnect(ORG, &name).expect("a runner");
            assert_eq!(world.delete(&format!("/api/v1/runners/{name}"), "blue").await.status, 200);
        }
    }
    let failed = world.log("event_type = 'provision_failed'").await;
    assert_eq!(failed.len(), losses().len(), "one for each suffix that was given up");
    assert!(failed.iter().all(|event| event["error_code"] == "GITHUB_UNAVAILABLE"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_two_lost_answers_the_caller_gets_503_and_nothing_stays_on_github() {
    let world = warm(Duration::from_secs(2)).await;
    for action in losses() {
        for sent in names() {
            let what = format!("{action:?}, {sent}");
            let answer = try_once(&world, &sent, on_post(action.clone()).times(2), &what).await;
            assert_eq!(answer.refusal(), (503, "GITHUB_UNAVAILABLE"), "{what}: {}", answer.text);
            assert!(!answer.header("retry-after").is_empty());
            assert_eq!(world.on_github(), ["warm"], "{what}");
            assert_agree(&world).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_in_time_is_a_lost_one_and_the_caller_is_not_kept_for_longer_than_three_calls() {
    let timeout = Duration::from_millis(700);
    let world = warm(timeout).await;
    for action in [Action::Hang, Action::ActThenDelay { millis: 2500 }] {
        for (sent, times) in names().into_iter().zip([1, 2]) {
            let what = format!("{action:?}, {sent}, {times} times");
            let begun = Instant::now();
            let answer = try_once(&world, &sent, on_post(action.clone()).times(times), &what).await;
            assert!(begun.elapsed() < 3 * timeout + Duration::from_secs(1), "{what}: {:?}", begun.elapsed());
            match times {
                1 => {
                    assert_eq!(answer.status, 201, "{what}: {}", answer.text);
                    assert_agree(&world).await;
                    let path = format!("/api/v1/runners/{}", answer.str("runner_id"));
                    assert_eq!(world.delete(&path, "blue").await.status, 200);
                }
                _ => assert_eq!(answer.refusal(), (503, "GITHUB_UNAVAILABLE"), "{what}"),
            }
            assert_eq!(world.on_github(), ["warm"], "{what}");
            assert_agree(&world).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_github_that_never_answers_costs_a_caller_three_calls_at_most() {
    let timeout = Duration::from_millis(500);
    let world = World::with(|config| config.github.timeout = timeout).await;
    world.github.fail(Fault::everywhere(Action::Hang));
    for sent in [json!({ "runner_name": "cold" }), json!({ "runner_name_prefix": "cold" })] {
        let begun = Instant::now();
        let answer = world.post(JIT, "blue", sent).await;
        assert_eq!(answer.refusal(), (503, "GITHUB_UNAVAILABLE"), "{}", answer.text);
        assert!(begun.elapsed() < 3 * timeout + Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    world.github.clear_faults();
    assert_agree(&world).await;
    assert_eq!(world.status("cold").await, "failed", "GitHub never heard of it, so nothing is left open");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_looked_up_or_removed_at_once_is_removed_by_one_sweep() {
    let world = warm(Duration::from_secs(2)).await;
    for (n, hindrance) in [
        Fault::new("GET", "runners?name=", Action::Respond(Canned::status(500))),
        Fault::new("GET", "runners?name=", Action::Drop),
        Fault::new("DELETE", "runners/", Action::Respond(Canned::status(502))),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("b{n}");
        world.github.fail(hindrance.clone().always());
        let answer =
            try_once(&world, &json!({ "runner_name": name }), on_post(Action::ActThenDrop), &name).await;
        assert_eq!(answer.refusal(), (503, "GITHUB_UNAVAILABLE"), "{hindrance:?}: {}", answer.text);
        assert_eq!(world.status(&name).await, "requested", "open: nobody knows yet");
        assert_eq!(world.on_github(), ["warm", &name], "there it is");

        world.sweep().await;
        assert_eq!(world.status(&name).await, "requested", "the request could still be at work");
        world.pass(10);
        let report = world.sweep().await;
        assert_eq!((report.repaired, report.failures), (1, 0));
        assert_eq!(world.status(&name).await, "failed");
        assert_eq!(world.on_github(), ["warm"], "{hindrance:?}");
        assert_agree(&world).await;
        assert_eq!(world.events(&name).await.last().map(String::as_str), Some("provision_failed"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_registration_token_fails_its_row_and_is_not_asked_for_again() {
    let world = warm(Duration::from_secs(2)).await;
    for action in losses() {
        world.github.clear_calls();
        world.github.fail(Fault::new("POST", "registration-token", action.clone()));
        let answer = world.post("/api/v1/runners/provision", "blue", json!({ "runner_name": "r1" })).await;
        assert_eq!(answer.refusal(), (503, "GITHUB_UNAVAILABLE"), "{action:?}: {}", answer.text);
        assert_eq!((world.posts(), world.status("r1").await.as_str()), (1, "failed"), "{action:?}");
        world.github.clear_faults();
    }
    let answer = world.post("/api/v1/runners/provision", "blue", json!({ "runner_name": "r1" })).await;
    assert_eq!(answer.status, 201, "the name is free again: {}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_somebody_else_holds_is_taken_even_when_the_answer_is_lost() {
    let world = warm(Duration::from_secs(2)).await;
    world.github.plant(ORG, "theirs", &["gpu"], false).expect("a foreign runner");
    let sent = json!({ "runner_name": "Theirs" });
    let answer = try_once(&world, &sent, on_post(Action::Respond(Canned::status(502))), "foreign").await;
    assert_eq!(answer.refusal(), (409, "RUNNER_NAME_TAKEN"), "{}", answer.text);
    assert_eq!((world.posts(), world.on_github().len()), (1, 2));
    eventually("a row that is settled", async || world.status("Theirs").await == "failed").await;
}
