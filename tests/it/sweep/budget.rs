//! GitHub's budget: what has not changed costs nothing of it, and when it runs low the sweep leaves it to
//! provisions.

use runner_broker::dev::github::{Action, Canned, Fault, Limits};

use crate::support::{ORG, World};

const LIST: &str = "per_page=100&page=";

/// GitHub says so much is left of 1000, for the next 50 minutes. The floor is 50, low is below 250.
fn left(world: &World, remaining: u64) {
    let reset = world.clock.now().timestamp() + 3_000;
    let told = Canned::status(200)
        .header("x-ratelimit-limit", "1000")
        .header("x-ratelimit-remaining", &remaining.to_string())
        .header("x-ratelimit-reset", &reset.to_string())
        .header("x-ratelimit-resource", "core")
        .body(r#"{"total_count": 0, "runners": []}"#);
    world.github.fail(Fault::new("GET", LIST, Action::Respond(told)).always());
}

async fn result(world: &World) -> Vec<String> {
    world.sql("SELECT result FROM sync_targets").await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_little_left_a_target_is_swept_less_often() {
    let world = World::new().await;
    // Half of what is between the floor and a quarter: half as often.
    left(&world, 150);
    assert_eq!(world.sweep().await.postponed, 0);
    world.pass(121);
    assert_eq!(world.sweep().await.postponed, 1);
    assert_eq!((world.lists().len(), result(&world).await), (1, vec!["postponed".to_owned()]));
    let error = world.sql("SELECT error FROM sync_targets").await.remove(0);
    assert!(error.starts_with("GitHub's budget is at 150 of 1000: swept again from"), "{error}");
    world.pass(120);
    assert_eq!(world.sweep_wanted().await.postponed, 0, "its time has come, without a round");
    assert_eq!((world.lists().len(), result(&world).await), (2, vec!["complete".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_does_not_make_it_more_often() {
    let world = World::new().await;
    left(&world, 150);
    world.sweep().await;
    for _ in 0..3 {
        world.pass(10);
        world.want(ORG).await;
        assert_eq!(world.sweep_wanted().await.postponed, 1);
    }
    assert_eq!(world.lists().len(), 1);
    world.pass(220);
    world.sweep_wanted().await;
    assert_eq!(world.lists().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_floor_nothing_is_swept_before_the_hour_is_over() {
    let world = World::new().await;
    world.connected("b1").await;
    left(&world, 50);
    world.sweep().await;
    for _ in 0..3 {
        world.pass(900);
        let report = world.sweep().await;
        assert_eq!((report.postponed, report.failures), (1, 0));
    }
    assert_eq!(world.lists().len(), 1);
    world.github.clear_faults();
    world.pass(301);
    assert_eq!(world.sweep().await.postponed, 0);
    assert_eq!(world.lists().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_quarter_left_each_round_sweeps() {
    let world = World::new().await;
    left(&world, 250);
    for _ in 0..3 {
        assert_eq!(world.sweep().await.postponed, 0);
    }
    assert_eq!(world.lists().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_met_in_the_middle_of_a_list_is_waited_out() {
    let world = World::new().await;
    world.connected("b1").await;
    world.github.plant_many(ORG, "other", 100, &[]).unwrap();
    world.github.fail(Fault::new("GET", "&page=2", Action::RateLimited { reset_seconds: 600 }));
    let report = world.sweep().await;
    assert_eq!((report.failures, report.unmanaged, report.moved), (1, 0, 0));
    assert_eq!(result(&world).await, ["postponed"]);
    world.pass(300);
    assert_eq!(world.sweep().await.postponed, 1);
    world.pass(301);
    let report = world.sweep_wanted().await;
    assert_eq!((report.failures, report.unmanaged, report.moved), (0, 100, 1));
    assert_eq!(result(&world).await, ["complete"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_list_costs_nothing_of_the_hour() {
    let world = World::new().await;
    world.github.plant_many(ORG, "other", 250, &[]).unwrap();
    world.github.set_limits(Some(Limits { core: 10_000, points: 100_000, ..Limits::default() }));
    world.sweep().await;
    let remaining = |world: &World| {
        let budgets = world.broker.github().budgets();
        budgets
            .iter()
            .find(|budget| budget.resource == "core" && budget.installation != "app")
            .unwrap()
            .remaining
    };
    let before = remaining(&world);
    for _ in 0..3 {
        world.sweep().await;
    }
    assert_eq!(remaining(&world), before);
}
