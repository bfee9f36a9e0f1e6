//! How often somebody may try.

use runner_broker::broker::people::caller::Origin;
use runner_broker::broker::people::sign_in_limit::Step;
use serde_json::json;

use super::visitor::Visitor;
use crate::people::identities::replica;
use crate::support::World;

async fn behind_a_proxy() -> World {
    World::with(|config| config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await
}

fn from(world: &World, address: &str) -> Visitor {
    world.visitor().with_header("x-forwarded-for", address)
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_come_to_nothing_are_limited_for_each_address() {
    let world = behind_a_proxy().await;
    let visitor = from(&world, "192.0.2.1");
    for _ in 0..20 {
        visitor.begin("dev", "/").await;
    }
    let answer = visitor.get("/sign-in/dev").await;
    assert_eq!(answer.status, 429, "{}", answer.text);
    let wait: u64 = answer.header("retry-after").parse().expect("seconds");
    assert!((1..=300).contains(&wait), "{wait}");
    assert!(answer.text.contains("Too many attempts to sign in"), "{}", answer.text);
    from(&world, "192.0.2.2").begin("dev", "/").await;
    assert_eq!(visitor.get("/sign-in").await.status, 200, "the page itself costs nothing");
    world.pass(301);
    visitor.begin("dev", "/").await;
    world.broker.flush_refusals().await.unwrap();
    let events = world.log("event_type = 'sign_in_refused' AND error_code = 'RATE_LIMITED'").await;
    assert_eq!(events.len(), 1, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_that_somebody_makes_up_are_limited_as_well() {
    let world = behind_a_proxy().await;
    let visitor = from(&world, "192.0.2.1");
    for _ in 0..20 {
        assert_eq!(visitor.get("/sign-in/dev/callback?code=x&state=y").await.status, 400);
    }
    assert_eq!(visitor.get("/sign-in/dev/callback?code=x&state=y").await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_replicas_count_together_and_a_network_of_ipv6_is_one() {
    let world = behind_a_proxy().await;
    for number in 0..20 {
        from(&world, &format!("2001:db8:1:2::{number}")).begin("dev", "/").await;
    }
    let other = replica(&world, 2);
    let at = |address: &str| Origin { address: Some(address.into()), ..Origin::default() };
    let refused = other.count_attempt(Step::Begin, &at("2001:db8:1:2:ffff::1")).await.expect_err("too many");
    assert_eq!(refused.code(), "RATE_LIMITED");
    other.count_attempt(Step::Begin, &at("2001:db8:1:3::1")).await.expect("another network");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_signs_in_does_not_use_up_what_his_colleagues_have() {
    let world = behind_a_proxy().await;
    for number in 0..30 {
        from(&world, "192.0.2.1").sign_in(&format!("user-{number}"), json!({ "team": "blue" })).await;
    }
    assert_eq!(world.sql("SELECT DISTINCT count FROM sign_in_attempts").await, ["0"]);
}
