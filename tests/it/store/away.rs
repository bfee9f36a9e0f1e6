//! Postgres goes away: nothing is handed out that it does not know, and all works again once it is back.

use std::time::Duration;

use runner_broker::dev::github::{Action, Fault};
use runner_broker::dev::postgres::{Options, Postgres};
use serde_json::json;

use crate::support::{World, eventually};

/// A server of the test's own, and a world on it.
async fn world() -> (Postgres, World) {
    let postgres = tokio::task::spawn_blocking(|| Postgres::start(&Options::temporary()));
    let postgres = postgres.await.expect("a thread").expect("a Postgres");
    let url = postgres.url("postgres");
    let world = World::on(&url, |config| config.github.timeout = Duration::from_secs(5)).await;
    (postgres, world)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_github_is_not_asked_and_it_works_again_by_itself() {
    let (postgres, world) = world().await;
    assert_eq!(world.jit("b1").await.status, 201);
    world.github.clear_calls();
    for crash in [false, true] {
        match crash {
            false => postgres.stop(),
            true => postgres.kill(),
        }
        // Of a killed server some processes outlive it for a moment, each with its connection of the pool.
        eventually("no Postgres", async || {
            for _ in 0..32 {
                if world.broker.store().ping().await.is_ok() {
                    return false;
                }
            }
            true
        })
        .await;
        for path in ["/api/v1/runners/jit", "/api/v1/runners/provision"] {
            let answer = world.post(path, "blue", json!({ "runner_name": "b2" })).await;
            assert_eq!(answer.refusal(), (503, "DATABASE_UNAVAILABLE"), "{}", answer.text);
            assert!(!answer.header("retry-after").is_empty());
        }
        // A refusal cannot be kept in the log, so it is not given either.
        let sent = json!({ "runner_name": "b2", "labels": ["gpu"] });
        let answer = world.post("/api/v1/runners/jit", "blue", sent).await;
        assert_eq!(answer.refusal(), (503, "DATABASE_UNAVAILABLE"), "{}", answer.text);
        assert!(world.github.calls().is_empty(), "{:?}", world.github.calls());
        postgres.restart().expect("a Postgres");
        let name = format!("after-{crash}");
        let answer = world.jit(&name).await;
        assert_eq!(answer.status, 201, "at once: {}", answer.text);
        world.github.clear_calls();
    }
    assert_eq!(world.on_github(), ["b1", "after-false", "after-true"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_whose_refusal_could_not_be_written_is_news_the_next_time() {
    let (postgres, world) = world().await;
    let knock = || world.post("/api/v1/runners/jit", "nobody", json!({ "runner_name": "x" }));
    postgres.stop();
    assert_eq!(knock().await.refusal(), (503, "DATABASE_UNAVAILABLE"));
    postgres.restart().expect("a Postgres");
    assert_eq!(knock().await.refusal(), (403, "NO_TEAM"));
    assert_eq!(world.log("event_type = 'caller_refused'").await.len(), 1);
    // A count that cannot be written is kept until it can.
    assert_eq!(knock().await.refusal(), (403, "NO_TEAM"));
    postgres.stop();
    assert!(world.broker.flush_refusals().await.is_err());
    postgres.restart().expect("a Postgres");
    world.broker.flush_refusals().await.expect("a database");
    let counted = world.log("event_type = 'caller_refused'").await;
    assert_eq!(counted.last().expect("an event")["event_data"]["further"], json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_whose_result_cannot_be_written_is_taken_off_github_again() {
    let (postgres, world) = world().await;
    assert_eq!(world.jit("b0").await.status, 201);
    world.github.fail(Fault::new("POST", "jitconfig", Action::ActThenDelay { millis: 1500 }));
    let gone = async {
        eventually("the runner on GitHub", async || world.on_github() == ["b0", "b1"]).await;
        postgres.stop();
    };
    let (answer, ()) = tokio::join!(world.jit("b1"), gone);
    assert_eq!(answer.refusal(), (503, "DATABASE_UNAVAILABLE"), "{}", answer.text);
    assert_eq!(world.on_github(), ["b0"], "nobody was given it");

    postgres.restart().expect("a Postgres");
    assert_eq!(world.status("b1").await, "requested");
    assert_eq!(world.jit("b1").await.refusal(), (409, "RUNNER_NAME_TAKEN"), "until the sweep has looked");
    world.pass(30);
    assert_eq!(world.sweep().await.repaired, 1);
    assert_eq!((world.status("b1").await.as_str(), world.status("b0").await.as_str()), ("failed", "pending"));
    assert_eq!(world.jit("b1").await.status, 201);
    assert_eq!(world.on_github(), ["b0", "b1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_github_away_too_the_sweep_removes_what_was_not_handed_out() {
    let (postgres, world) = world().await;
    assert_eq!(world.jit("b0").await.status, 201);
    world.github.fail(Fault::new("POST", "jitconfig", Action::ActThenDelay { millis: 1500 }));
    world.github.fail(Fault::new("DELETE", "", Action::Drop).always());
    let gone = async {
        eventually("the runner on GitHub", async || world.on_github() == ["b0", "b1"]).await;
        postgres.stop();
    };
    let (answer, ()) = tokio::join!(world.jit("b1"), gone);
    assert_eq!(answer.refusal(), (503, "DATABASE_UNAVAILABLE"), "{}", answer.text);
    assert_eq!(world.on_github(), ["b0", "b1"]);
    world.github.clear_faults();
    postgres.restart().expect("a Postgres");
    world.pass(30);
    world.sweep().await;
    assert_eq!(world.on_github(), ["b0"]);
    assert_eq!(world.events("b1").await.last().map(String::as_str), Some("provision_failed"));
}
