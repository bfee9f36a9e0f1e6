//! Lists: every page or none, and nothing paid for what did not change.

use chrono::TimeDelta;
use futures_util::future::join_all;
use runner_broker::dev::github::{Action, Canned, Fault, Settings};
use runner_broker::github::{CachedPage, Error, Listing};

use super::{World, org, soon};

async fn crowd(runners: usize) -> World {
    let world = World::warm().await;
    for i in 0..runners {
        world.fake.plant("octo-org", &format!("r-{i}"), &["x"], false).unwrap();
    }
    world
}

async fn list(world: &World, known: Vec<CachedPage>) -> Result<Listing, Error> {
    world.github.list_runners(&org(), known, soon()).await
}

fn core_left(world: &World) -> u64 {
    let budgets = world.github.budgets();
    budgets.iter().find(|of| of.installation != "app" && of.resource == "core").unwrap().remaining
}

#[tokio::test]
async fn every_page_is_read() {
    let world = crowd(250).await;
    let before = world.clock.now();
    let listing = list(&world, Vec::new()).await.unwrap();
    assert_eq!(
        (listing.pages.len(), listing.runners().count(), listing.changed.clone()),
        (3, 250, vec![1, 2, 3])
    );
    assert!(listing.started_at >= before && listing.started_at <= world.clock.now());
    let names: std::collections::HashSet<_> = listing.runners().map(|runner| &runner.name).collect();
    assert_eq!(names.len(), 250);
    let empty = crowd(0).await;
    assert_eq!(list(&empty, Vec::new()).await.unwrap().runners().count(), 0);
}

#[tokio::test]
async fn what_did_not_change_costs_nothing() {
    let world = crowd(250).await;
    let first = list(&world, Vec::new()).await.unwrap();
    let left = core_left(&world);
    world.fake.clear_calls();
    // The cache may have been through the database.
    let kept = serde_json::to_string(&first.pages).unwrap();
    let second = list(&world, serde_json::from_str(&kept).unwrap()).await.unwrap();
    assert!(world.fake.calls().iter().all(|call| call.status == Some(304)));
    assert_eq!((world.fake.calls().len(), core_left(&world), second.changed), (3, left, vec![]));
    assert_eq!(second.pages, first.pages);

    world.fake.connect("octo-org", "r-120").unwrap();
    world.fake.clear_calls();
    let third = list(&world, second.pages).await.unwrap();
    let statuses: Vec<_> = world.fake.calls().iter().map(|call| call.status).collect();
    assert_eq!((statuses, third.changed.clone()), (vec![Some(304), Some(200), Some(304)], vec![2]));
    assert_eq!(third.runners().filter(|runner| runner.online).count(), 1);
}

#[tokio::test]
async fn pages_that_came_or_went_are_noticed() {
    let world = crowd(100).await;
    let one = list(&world, Vec::new()).await.unwrap();
    world.fake.plant("octo-org", "more", &["x"], false).unwrap();
    let two = list(&world, one.pages).await.unwrap();
    assert_eq!((two.pages.len(), two.runners().count(), two.changed), (2, 101, vec![1, 2]));
    world.fake.remove("octo-org", "more").unwrap();
    let back = list(&world, two.pages).await.unwrap();
    assert_eq!((back.pages.len(), back.runners().count(), back.changed), (1, 100, vec![1]));
}

#[tokio::test]
async fn a_list_without_its_last_page_is_an_error() {
    for action in [Action::Respond(Canned::status(502)), Action::Truncate, Action::Html { status: 200 }] {
        let world = crowd(250).await;
        world.fail(Fault::new("GET", "page=3", action).always());
        let failed = list(&world, Vec::new()).await.unwrap_err();
        assert!(matches!(failed, Error::Unavailable { maybe_done: false, .. }), "{failed:?}");
    }
    let world = World::new();
    let absent = world.github.list_runners(&"absent-org".parse().unwrap(), Vec::new(), soon()).await;
    assert!(matches!(absent, Err(Error::NotFound { .. })), "not an empty list");
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_is_no_list() {
    let world = crowd(1).await;
    world.fail(Fault::new("GET", "/actions/runners", Action::Respond(Canned::status(304))));
    assert!(matches!(list(&world, Vec::new()).await, Err(Error::Refused { status: 304, .. })));
}

#[tokio::test]
async fn a_group_is_found_by_name_on_any_page_and_remembered() {
    let world = World::with(Settings::default(), |_| ());
    for i in 0..150 {
        world.fake.add_group("octo-org", &format!("g-{i}"));
    }
    let gpu = world.fake.add_group("octo-org", "GPU nodes");
    world.fake.set_latency(std::time::Duration::from_millis(20));
    let target = org();
    let all = join_all((0..20).map(|_| world.github.group_id(&target, "gpu nodes", soon()))).await;
    assert!(all.iter().all(|id| id.as_ref().unwrap() == &gpu));
    assert_eq!(world.asked("GET", "/runner-groups"), 2, "two pages, once");
    assert_eq!(world.github.group_id(&org(), "Default", soon()).await.unwrap(), Some(1));

    assert_eq!(world.github.group_id(&org(), "new", soon()).await.unwrap(), None);
    let new = world.fake.add_group("octo-org", "new");
    world.clock.advance(TimeDelta::seconds(50));
    assert_eq!(world.github.group_id(&org(), "new", soon()).await.unwrap(), None);
    assert_eq!(world.asked("GET", "/runner-groups"), 2, "an absence is believed for a minute");
    world.clock.advance(TimeDelta::seconds(11));
    assert_eq!(world.github.group_id(&org(), "new", soon()).await.unwrap(), new);
    world.fake.clear_calls();
    world.clock.advance(TimeDelta::minutes(4));
    assert_eq!(world.github.group_id(&org(), "new", soon()).await.unwrap(), new);
    assert!(world.fake.calls().is_empty(), "a presence for five");
    world.clock.advance(TimeDelta::minutes(2));
    world.github.group_id(&org(), "new", soon()).await.unwrap();
    assert_eq!(world.asked("GET", "/runner-groups"), 2);
}

#[tokio::test]
async fn a_group_is_found_by_id_in_the_same_list() {
    let world = World::new();
    let id = world.fake.add_group("octo-org", "GPU nodes").unwrap();
    assert_eq!(world.github.group_id(&org(), "gpu nodes", soon()).await.unwrap(), Some(id));
    assert_eq!(world.github.group_name(&org(), id, soon()).await.unwrap().as_deref(), Some("GPU nodes"));
    assert_eq!(world.github.group_name(&org(), 999, soon()).await.unwrap(), None);
    assert_eq!(world.github.group_name(&org(), 1, soon()).await.unwrap(), None, "the default group");
    assert_eq!(world.asked("GET", "/runner-groups"), 1);
}

#[tokio::test]
async fn a_repository_has_only_the_default_group() {
    let world = World::new();
    let repo = "octo-org/hello".parse().unwrap();
    assert_eq!(world.github.group_id(&repo, "Default", soon()).await.unwrap(), Some(1));
    assert_eq!(world.github.group_id(&repo, "ml", soon()).await.unwrap(), None);
    assert!(world.fake.calls().is_empty());
}
