//! Deadlines: runners that never start, tokens that nobody uses, runners that stay offline.

use std::time::Duration;

use runner_broker::dev::github::{Action, Canned, Fault};

use crate::support::{ORG, World};

const HOUR: i64 = 3_600;

#[tokio::test(flavor = "multi_thread")]
async fn a_jit_runner_that_has_not_started_by_its_deadline_is_removed_from_github() {
    let world = World::new().await;
    world.jit("b1").await;
    world.pass(HOUR - 60);
    world.sweep().await;
    assert_eq!(world.status("b1").await, "pending");
    world.pass(61);
    assert_eq!(world.sweep().await.removed, 1);
    assert!(world.github.runner(ORG, "b1").is_none());
    assert_eq!(world.status("b1").await, "deleted");
    let events = ["provision_requested", "provisioned", "deprovision_requested", "deprovisioned"];
    assert_eq!(world.events("b1").await, events);
    let reason = "SELECT event_data->>'reason' FROM audit_log WHERE event_type = 'deprovisioned'";
    assert_eq!(world.sql(reason).await, ["start deadline"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_started_unseen_stays() {
    let world = World::new().await;
    for name in ["online", "was-online"] {
        world.connected(name).await;
    }
    world.github.disconnect(ORG, "was-online").unwrap();
    world.pass(HOUR + 1);
    assert_eq!(world.sweep().await.removed, 0);
    assert_eq!(world.status("online").await, "active");
    assert_eq!(world.status("was-online").await, "offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_github_removed_before_its_deadline_is_deleted() {
    let world = World::with(|config| config.broker.sync_enabled = false).await;
    world.jit("b1").await;
    world.github.remove(ORG, "b1").unwrap();
    world.pass(HOUR + 1);
    assert_eq!(world.sweep().await.removed, 1);
    assert_eq!(world.status("b1").await, "deleted");
    assert_eq!(world.moves("b1").await, ["pending>deleted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_nobody_used_ends_with_its_token() {
    let world = World::new().await;
    let used = world.registration("used").await;
    world.registration("unused").await;
    world.github.register(ORG, "used", &["linux"], false, &used).unwrap();
    world.pass(HOUR + 1);
    let report = world.sweep().await;
    assert_eq!((report.removed, report.failures), (1, 0));
    assert_eq!(world.status("unused").await, "deleted");
    assert_eq!(world.moves("unused").await, ["pending>deleted"]);
    assert_eq!(world.status("used").await, "offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_stays_offline_for_too_long_is_removed() {
    let world = World::new().await;
    world.connected("b1").await;
    world.sweep().await;
    world.github.disconnect(ORG, "b1").unwrap();
    world.sweep().await;
    world.pass(23 * HOUR);
    world.sweep().await;
    assert_eq!(world.status("b1").await, "offline");
    world.pass(HOUR);
    assert_eq!(world.sweep().await.removed, 1);
    assert_eq!(world.status("b1").await, "deleted");
    assert!(world.github.runner(ORG, "b1").is_none());
    let reason = "SELECT event_data->>'reason' FROM audit_log WHERE event_type = 'deprovisioned'";
    assert_eq!(world.sql(reason).await, ["stale"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_not_stale_because_nobody_looked_for_a_day() {
    let world = World::new().await;
    world.connected("b1").await;
    world.sweep().await;
    world.pass(30 * HOUR);
    world.github.disconnect(ORG, "b1").unwrap();
    world.sweep().await;
    assert_eq!(world.status("b1").await, "offline");
    world.pass(25 * HOUR);
    world.sweep().await;
    assert_eq!(world.status("b1").await, "deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_sync_deadlines_are_kept_and_nothing_is_listed() {
    let world = World::with(|config| config.broker.sync_enabled = false).await;
    world.jit("late").await;
    world.connected("b1").await;
    world.jit("died").await;
    world.sql("UPDATE runners SET status = 'requested', github_runner_id = NULL WHERE name = 'died'").await;
    world.pass(HOUR + 1);
    world.github.clear_calls();
    let report = world.sweep().await;
    assert_eq!((report.repaired, report.removed, report.seen), (1, 1, 0));
    assert_eq!(world.status("late").await, "deleted");
    assert_eq!(world.status("died").await, "failed");
    assert!(!world.github.calls().iter().any(|call| call.path.contains("runners?per_page")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_configured() {
    let world = World::with(|config| config.broker.jit_start_deadline = Duration::from_secs(60)).await;
    world.jit("b1").await;
    world.pass(61);
    assert_eq!(world.sweep().await.removed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_runner_that_github_does_not_tell_of_is_looked_at_after_a_pause() {
    let world = World::new().await;
    world.jit("bad").await;
    world.jit("good").await;
    let id = world.github.runner(ORG, "bad").unwrap().id;
    world.pass(HOUR + 1);
    let lookup = format!("runners/{id}");
    world.github.fail(Fault::new("GET", &lookup, Action::Respond(Canned::status(500))).always());
    for _ in 0..3 {
        world.sweep().await;
    }
    assert_eq!(world.status("good").await, "deleted");
    let asked = world.github.calls().iter().filter(|call| call.path.ends_with(&lookup)).count();
    assert_eq!(asked, 2 * 3, "twice, each with two repeats");
    world.github.clear_faults();
    world.pass(61);
    world.sweep().await;
    assert_eq!(world.status("bad").await, "deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_github_is_away_a_sweep_asks_some_times_and_leaves_the_rest_to_the_next() {
    let world = World::new().await;
    for i in 0..8 {
        world.jit(&format!("b{i}")).await;
    }
    world.pass(HOUR + 1);
    world.github.clear_calls();
    world.github.fail(Fault::new("", "", Action::Respond(Canned::status(503))).always());
    world.github.fail(Fault::everywhere(Action::Respond(Canned::status(503))));
    let report = world.sweep().await;
    assert_eq!(report.failures, 8 + 1, "all rows, and the list");
    let rows = world.github.calls().iter().filter(|call| !call.path.contains("per_page")).count();
    assert!(rows <= 3 * 3, "{rows}");
    world.github.clear_faults();
    assert_eq!(world.sweep().await.removed, 8);
}
