//! The budgets, and what is said when they end.

use chrono::TimeDelta;
use runner_broker::dev::github::{Action, Fault, Limits, Settings};
use serde_json::{Value, json};

use super::client::World;

const RUNNERS: &str = "/orgs/octo-org/actions/runners";

fn limited(limits: Limits) -> World {
    World::with(Settings { limits: Some(limits), ..Settings::default() })
}

#[test]
fn the_hourly_budget_is_counted_told_and_ends() {
    let world = limited(Limits { core: 3, ..Limits::default() });
    let token = world.token(Value::Null);
    for left in [2, 1, 0] {
        let answer = world.get(RUNNERS, &token);
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (200, left));
        assert_eq!(answer.number("x-ratelimit-limit"), 3);
        assert_eq!(answer.number("x-ratelimit-used"), 3 - left);
        assert_eq!(answer.header("x-ratelimit-resource"), Some("core"));
    }
    let over = world.get(RUNNERS, &token);
    assert_eq!((over.status, over.number("x-ratelimit-remaining")), (403, 0));
    let wait = over.number("x-ratelimit-reset") - world.clock.now().timestamp();
    assert!((3_500..=3_600).contains(&wait), "{wait}");
    assert_eq!(world.jit(&token, "a").status, 201, "another bucket");
    world.clock.advance(TimeDelta::minutes(60));
    assert_eq!(world.get(RUNNERS, &world.token(Value::Null)).status, 200);
}

#[test]
fn jit_and_registration_have_a_bucket_of_their_own() {
    let world = limited(Limits { registration: 2, ..Limits::default() });
    let token = world.token(Value::Null);
    let made = world.jit(&token, "a");
    assert_eq!(made.header("x-ratelimit-resource"), Some("actions_runner_registration"));
    assert_eq!((made.number("x-ratelimit-limit"), made.number("x-ratelimit-remaining")), (2, 1));
    let path = format!("{RUNNERS}/registration-token");
    assert_eq!(world.ask("POST", &path, &token, Value::Null).status, 201);
    assert_eq!(world.ask("POST", &path, &token, Value::Null).status, 403);
    let overview = world.get("/rate_limit", &token).body;
    assert_eq!(overview["resources"]["actions_runner_registration"]["remaining"], 0);
    assert_eq!(overview["resources"]["core"]["used"], 0, "asking is free");
}

#[test]
fn a_304_costs_nothing() {
    let world = limited(Limits { core: 2, ..Limits::default() });
    let token = world.token(Value::Null);
    let held = format!("If-None-Match: {}\r\n", world.get(RUNNERS, &token).header("etag").unwrap());
    for _ in 0..5 {
        let same = world.ask_with("GET", RUNNERS, &token, Value::Null, &held);
        assert_eq!((same.status, same.number("x-ratelimit-remaining")), (304, 1));
    }
}

#[test]
fn points_of_a_minute_end_with_a_retry_after() {
    let world = limited(Limits { points: 11, ..Limits::default() });
    let token = world.token(Value::Null);
    assert_eq!(world.jit(&token, "a").status, 201);
    assert_eq!(world.jit(&token, "b").status, 201);
    let over = world.jit(&token, "c");
    assert_eq!(over.status, 403);
    assert!(over.message().contains("secondary rate limit"));
    assert!((1..=61).contains(&over.number("retry-after")));
    assert_eq!(world.get(RUNNERS, &token).status, 200, "a read costs one");
    world.clock.advance(TimeDelta::seconds(61));
    assert_eq!(world.jit(&token, "c").status, 201);
}

#[test]
fn too_many_calls_at_once_are_turned_away() {
    let world = limited(Limits { concurrent: 2, ..Limits::default() });
    let token = world.token(Value::Null);
    world.github.fail(Fault::new("GET", "page=7", Action::ActThenDelay { millis: 800 }).times(2));
    let slow = || world.send("GET", &format!("{RUNNERS}?page=7"), &token, Value::Null, "");
    let _under_way = (slow(), slow());
    let arrived = || world.github.calls().iter().filter(|call| call.path.ends_with("page=7")).count();
    while arrived() < 2 {
        std::thread::yield_now();
    }
    let third = world.get(RUNNERS, &token);
    assert_eq!(third.status, 429);
    assert!(third.number("retry-after") > 0);
    std::thread::sleep(std::time::Duration::from_millis(1_000));
    assert_eq!(world.get(RUNNERS, &token).status, 200);
}

#[test]
fn without_limits_the_budget_never_ends() {
    let world = World::new();
    let token = world.token(Value::Null);
    assert!(world.get(RUNNERS, &token).number("x-ratelimit-remaining") > 1_000_000);
    world.github.set_limits(Some(Limits { core: 1, ..Limits::default() }));
    assert_eq!(world.get(RUNNERS, &token).status, 403, "what is used stays used");
}

#[test]
fn a_limit_can_be_asked_for() {
    let world = World::new();
    let token = world.token(Value::Null);
    world.github.fail(Fault::new("POST", "jitconfig", Action::RateLimited { reset_seconds: 90 }));
    world.github.fail(Fault::new("POST", "jitconfig", Action::SecondaryLimit { retry_after_seconds: 7 }));
    world.github.fail(Fault::new("POST", "jitconfig", Action::PermissionMissing));
    let primary = world.jit(&token, "a");
    assert_eq!((primary.status, primary.number("x-ratelimit-remaining")), (403, 0));
    assert_eq!(primary.header("x-ratelimit-resource"), Some("actions_runner_registration"));
    assert!((88..=90).contains(&(primary.number("x-ratelimit-reset") - world.clock.now().timestamp())));
    let secondary = world.jit(&token, "a");
    assert_eq!((secondary.status, secondary.number("retry-after")), (403, 7));
    let permission = world.jit(&token, "a");
    assert_eq!(permission.message(), "Resource not accessible by integration");
    let accepted = permission.header("x-accepted-github-permissions");
    assert_eq!(accepted, Some("organization_self_hosted_runners=write"));
    assert_eq!(permission.header("retry-after"), None);
    assert_eq!(world.jit(&token, "a").status, 201);
    assert_eq!(world.github.runners("octo-org").len(), 1);
    assert_eq!(world.github.calls().last().map(|call| json!(call.status)), Some(json!(201)));
}
