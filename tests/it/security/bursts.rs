//! Bursts: far more refused tokens, or provisions, than usual are told of once.

use chrono::TimeDelta;
use futures_util::future::join_all;
use reqwest::Method;
use runner_broker::broker::Error;
use serde_json::json;

use crate::support::{World, eventually, team};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_refused_tokens_within_a_minute_are_one_burst() {
    let world = World::new().await;
    let refused = async |count: usize| {
        let call = || world.call(Method::GET, "/api/v1/auth/me", "no-token", &[], None);
        for answer in join_all((0..count).map(|_| call())).await {
            assert_eq!(answer.refusal(), (401, "INVALID_TOKEN"));
        }
    };
    let bursts = async || world.log("event_type = 'invalid_token_burst'").await;
    refused(99).await;
    world.broker.flush_refusals().await.unwrap();
    assert!(bursts().await.is_empty());
    refused(150).await;
    eventually("the burst", async || bursts().await.len() == 1).await;
    refused(150).await;
    world.broker.flush_refusals().await.unwrap();
    let found = bursts().await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["event_data"], json!({ "count": 100, "within_seconds": 60 }));
    assert_eq!((&found[0]["severity"], &found[0]["success"]), (&json!("warning"), &json!(false)));
    assert_eq!(found[0]["request_ip"], "127.0.0.1");
    // Each issuer of ours by itself.
    let expired = world.issuer.token().claim("sub", "x").time("exp", -100).mint();
    for _ in 0..100 {
        world.call(Method::GET, "/api/v1/auth/me", &expired, &[], None).await;
    }
    eventually("another", async || bursts().await.len() == 2).await;
    assert_eq!(bursts().await[1]["issuer"], world.issuer.url());
}

/// Puts so many provisions of `team` by `subject` into the log, at this many seconds ago.
async fn provisions(world: &World, team: &str, subject: &str, count: usize, seconds_ago: i64) {
    let at = (world.clock.now() - TimeDelta::seconds(seconds_ago)).to_rfc3339();
    world
        .sql(&format!(
            "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity, issuer, subject, team)
             SELECT '{at}', e, 'info', true, 'x', 'https://idp', '{subject}', '{team}'
             FROM generate_series(1, {count}), unnest(ARRAY['provision_requested', 'provisioned']) e"
        ))
        .await;
}

async fn bursts(world: &World) -> Vec<String> {
    let query = "SELECT concat_ws(' ', team, issuer, subject, event_data->>'count',
                     round((event_data->>'usual_count')::numeric), severity, user_identity)
                 FROM audit_log WHERE event_type = 'provision_burst' ORDER BY id";
    world.sql(query).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_or_caller_far_above_its_usual_rate_is_one_burst() {
    let world = World::new().await;
    let named = ["steady", "sudden", "few", "waves", "big"].map(|name| team(name, ""));
    world.policy(&named.concat()).await;
    let lease = world.lease().await;
    let look = async || world.broker.watch_provisions(&lease).await.unwrap();
    // Steady: 10 in each of many windows, then 39; the other team 10 and then 41.
    for (team, subject, now) in [("steady", "sam", 39), ("sudden", "sue", 41)] {
        for window in 1..20 {
            provisions(&world, team, subject, 10, 600 * window).await;
        }
        provisions(&world, team, subject, now, 60).await;
    }
    // Few, whatever was before; and a team whose every wave is as big as this one, days apart.
    provisions(&world, "few", "fay", 19, 60).await;
    for day in 1..4 {
        provisions(&world, "waves", "will", 100, 86_400 * day).await;
    }
    provisions(&world, "waves", "will", 120, 60).await;
    // One caller out of line in a team that is not.
    provisions(&world, "big", "many", 30, 3_000).await;
    provisions(&world, "big", "one", 25, 100).await;
    assert_eq!(look().await, 3);
    let found = [
        "sudden 41 10 high system:watch",
        "https://idp one 25 0 high system:watch",
        "https://idp sue 41 10 high system:watch",
    ];
    assert_eq!(bursts(&world).await, found);
    assert_eq!(look().await, 0, "once");
    world.pass(200);
    provisions(&world, "sudden", "sue", 200, 0).await;
    assert_eq!(look().await, 0, "it goes on");
    // An hour after, that has become usual; far more than that is another.
    world.pass(4_000);
    provisions(&world, "sudden", "sue", 80, 0).await;
    assert_eq!(look().await, 0);
    provisions(&world, "sudden", "sue", 200, 0).await;
    assert_eq!(look().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_real_provisions_is_seen_and_a_former_leader_reports_none() {
    let world = World::new().await;
    let answers = join_all(
        (0..25).map(|_| world.post("/api/v1/runners/jit", "blue", json!({ "runner_name_prefix": "b" }))),
    )
    .await;
    assert!(answers.iter().all(|answer| answer.status == 201));
    let lease = world.lease().await;
    world.sql("UPDATE leases SET expires_at = clock_timestamp() - interval '1 second'").await;
    let late = world.broker.watch_provisions(&lease).await;
    assert!(matches!(late, Err(Error::LeaseLost)), "{late:?}");
    assert!(bursts(&world).await.is_empty());
    let lease = world.lease().await;
    assert_eq!(world.broker.watch_provisions(&lease).await.unwrap(), 2);
    let team = "blue 25 0 high system:watch";
    let caller = format!("{} blue-user 25 0 high system:watch", world.issuer.url());
    assert_eq!(bursts(&world).await, [team, &caller]);
}
