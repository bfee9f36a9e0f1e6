//! Limits under races: quota, rate and names hold however many ask at once.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{Answer, World, team};

const JIT: &str = "/api/v1/runners/jit";
const PROVISION: &str = "/api/v1/runners/provision";

/// How many answers there are of each kind.
fn counted(answers: &[Answer]) -> BTreeMap<(u16, &str), usize> {
    let mut counts = BTreeMap::new();
    answers.iter().for_each(|answer| *counts.entry(answer.refusal()).or_insert(0) += 1);
    counts
}

const LIVE: &str =
    "SELECT id FROM runners WHERE status IN ('requested', 'pending', 'active', 'offline', 'deleting')";

#[tokio::test(flavor = "multi_thread")]
async fn of_200_at_once_a_team_with_max_runners_10_gets_exactly_10() {
    let world = World::new().await;
    world.policy(&team("blue", "max_runners = 10")).await;
    // Two in three are JIT runners; every other has an idempotency key of its own.
    let answers = join_all((0..200).map(async |n| {
        let path = if n % 3 == 0 { PROVISION } else { JIT };
        let body = json!({ "runner_name_prefix": "b" });
        let key = format!("key-{n}");
        let headers = [("idempotency-key", key.as_str())];
        let headers = if n % 2 == 0 { &headers[..] } else { &[] };
        world.call(reqwest::Method::POST, path, &world.token("blue"), headers, Some(body)).await
    }))
    .await;
    assert_eq!(counted(&answers), [((201, ""), 10), ((403, "QUOTA_EXCEEDED"), 190)].into());
    assert_eq!(world.sql(LIVE).await.len(), 10);
    let jit = answers.iter().filter(|answer| !answer.str("encoded_jit_config").is_empty()).count();
    assert_eq!((world.on_github().len(), world.posts()), (jit, 10), "GitHub was asked for no more");
    assert_eq!(world.refused_provisions().await, "190");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_with_one_name_in_any_case_exactly_one_gets_it() {
    let world = World::new().await;
    let answers = join_all((0..64).map(|n| world.jit(["one-name", "One-Name", "ONE-NAME"][n % 3]))).await;
    assert_eq!(counted(&answers), [((201, ""), 1), ((409, "RUNNER_NAME_TAKEN"), 63)].into());
    assert_eq!(
        (world.on_github().len(), world.posts()),
        (1, 1),
        "a name is claimed before GitHub hears of it"
    );
    assert_eq!(world.sql(LIVE).await.len(), 1);
    let told = "SELECT event_type || ' ' || count(*) FROM audit_log GROUP BY event_type ORDER BY 1";
    let told: Vec<String> =
        world.sql(told).await.into_iter().filter(|row| row.starts_with("provision")).collect();
    assert_eq!(told[1..], ["provision_requested 1", "provisioned 1"]);
    assert_eq!(world.refused_provisions().await, "63");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_holds_under_100_at_once_and_its_minute_passes() {
    let world = World::new().await;
    world.policy(&team("blue", "requests_per_minute = 7")).await;
    let ask = || world.post(JIT, "blue", json!({ "runner_name_prefix": "b" }));
    let answers = join_all((0..100).map(|_| ask())).await;
    assert_eq!(counted(&answers), [((201, ""), 7), ((429, "RATE_LIMITED"), 93)].into());
    for answer in answers.iter().filter(|answer| answer.status == 429) {
        let seconds: u64 = answer.header("retry-after").parse().expect("a Retry-After in seconds");
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    world.pass(30);
    assert_eq!(ask().await.status, 429, "the minute has not passed");
    world.pass(31);
    assert_eq!(ask().await.status, 201);
    assert_eq!(
        world.sql("SELECT 1 FROM team_requests").await.len(),
        1,
        "what no longer matters is forgotten"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_token_counts_in_the_quota_until_it_ends_even_if_its_runner_is_deleted() {
    let world = World::new().await;
    world.policy(&team("blue", "max_runners = 1")).await;
    let answer = world.post(PROVISION, "blue", json!({ "runner_name": "r1" })).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(world.delete("/api/v1/runners/r1", "blue").await.status, 200);
    assert_eq!(world.status("r1").await, "deleted");
    assert_eq!(
        world.jit("b1").await.refusal(),
        (403, "QUOTA_EXCEEDED"),
        "the token still registers a runner"
    );
    world.pass(3600 + 60);
    assert_eq!(world.jit("b1").await.status, 201, "now it does not");

    // A JIT runner has no such token.
    assert_eq!(world.delete("/api/v1/runners/b1", "blue").await.status, 200);
    assert_eq!(world.jit("b2").await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_prefers_repeatable_reads_does_not_loosen_the_quota() {
    let world = World::new().await;
    let set = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = \
               ''repeatable read''', current_database()); END $$";
    world.sql(set).await;
    world.policy(&team("blue", "max_runners = 5")).await;
    // Fills the pool with connections that begin so.
    join_all((0..100).map(|_| world.get("/api/v1/runners", "blue"))).await;
    let ask = |n: usize| world.jit_with_key(json!({ "runner_name_prefix": "b" }), ["a", "b"][n % 2]);
    let keyed = join_all((0..2).map(ask)).await;
    let others =
        join_all((0..60).map(|_| world.post(JIT, "blue", json!({ "runner_name_prefix": "b" })))).await;
    let granted = keyed.iter().chain(&others).filter(|answer| answer.status == 201).count();
    assert_eq!((granted, world.sql(LIVE).await.len()), (5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_quotas_rates_and_names_at_once_lock_in_one_order() {
    let world = World::new().await;
    world.policy(&team("blue", "max_runners = 1000\nrequests_per_minute = 1000")).await;
    let answers = join_all((0..120).map(async |n: usize| {
        let body = json!({ "runner_name": format!("b{}", n % 10) });
        match n % 3 {
            0 => world.jit_with_key(body, &format!("key-{}", n % 4)).await,
            1 => world.post(JIT, "blue", body).await,
            _ => world.post(PROVISION, "blue", body).await,
        }
    }))
    .await;
    assert!(answers.iter().all(|answer| answer.status < 500), "{:?}", counted(&answers));
    assert_eq!(world.sql(LIVE).await.len(), 10);
}
