//! GitHub's own example payloads, in every order and as often as it likes.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::support::World;

/// Event, name and body of every payload in `tests/webhooks`.
fn payloads() -> Vec<(String, String, Value)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/webhooks");
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .expect("the payloads")
        .map(|entry| entry.expect("a payload").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_str().expect("a name").to_owned();
            let event = name.split('.').next().unwrap_or_default().to_owned();
            let text = std::fs::read_to_string(&path).expect("a payload");
            (event, name, serde_json::from_str(&text).expect("JSON"))
        })
        .collect();
    found.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(found.len(), 22);
    found
}

/// What is known in the end, whatever the order was.
async fn known(world: &World) -> Vec<String> {
    world
        .sql(
            "SELECT (to_jsonb(j) - ARRAY['created_at', 'changed_at', 'queued_seen_at'])::text FROM jobs j
             UNION ALL SELECT target || ' ' || coalesce(blocked, 'not blocked') FROM installations
             UNION ALL SELECT id || ' is not finished' FROM webhook_deliveries
                 WHERE finished_at IS NULL OR failure IS NOT NULL ORDER BY 1",
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_payload_is_accepted_as_it_is() {
    let world = World::new().await;
    for (event, name, body) in payloads() {
        let answer = world.deliver(&event, &name, &body).await;
        let asks = body["workflow_job"]["labels"].as_array();
        let hosted = body["workflow_job"]["runner_group_name"] == "GitHub Actions";
        let used = event != "ping" && !(asks.is_some() && hosted);
        assert_eq!(answer.status, if used { 202 } else { 200 }, "{name}: {answer:?}");
    }
    world.broker.work_off().await.unwrap();
    assert_eq!(world.count("webhook_deliveries WHERE finished_at IS NULL OR failure IS NOT NULL").await, "0");
    // One is for a self-hosted runner; its `queued` and `waiting` are of the same second, and queued is further.
    assert_eq!(world.sql("SELECT id || ' ' || state FROM jobs").await, ["12877621891 queued"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_and_repetition_leaves_the_same() {
    let world = World::new().await;
    let seed: u64 =
        std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut all = payloads();
    // All of them are for self-hosted runners here, so that each has a row.
    for (event, _, body) in &mut all {
        if event == "workflow_job" {
            body["workflow_job"]["labels"] = json!(["self-hosted", "gpu"]);
        }
    }
    let mut expected: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for round in 0..25 {
        world.sql("TRUNCATE webhook_deliveries, jobs, installations").await;
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.extend((0..10).map(|_| rng.random_range(0..all.len())));
        if round > 0 {
            order.shuffle(&mut rng);
        }
        for (number, &at) in order.iter().enumerate() {
            let (event, name, body) = &all[at];
            // Under the id that it had before, or sent anew.
            let id = if rng.random_bool(0.5) { name.clone() } else { format!("{name} {number}") };
            let answer = world.deliver(event, &id, body).await;
            assert!(matches!(answer.status, 200 | 202), "{name}: {answer:?}");
            if rng.random_bool(0.2) {
                world.broker.work_off().await.unwrap();
            }
        }
        world.broker.work_off().await.unwrap();
        let known = known(&world).await;
        let first = expected.entry("known").or_insert_with(|| known.clone());
        assert_eq!(*first, known, "round {round} of SEED={seed}, in the order {order:?}");
    }
    let known = &expected["known"];
    assert_eq!(known.len(), 4 + 2, "{known:#?}");
    assert!(
        known.iter().any(|row| row.contains("codertocat") && row.contains("not installed")),
        "{known:#?}"
    );
}
