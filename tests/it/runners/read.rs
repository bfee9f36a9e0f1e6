//! Reading runners: pages, filters, totals, and who sees what.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::World;

/// Adds rows past the broker, the newest last: `<prefix>-<i>` of `team`.
async fn fill(world: &World, prefix: &str, team: &str, count: u32) {
    world
        .sql(&format!(
            "INSERT INTO runners (id, name, target, team, status, method, labels, ephemeral, runner_group_id,
                 issuer, subject, provisioned_by, created_at, updated_at, requested_at)
             SELECT ('00000000-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid, '{prefix}-' || i, 'octo-org',
                 '{team}', 'deleted', 'jit', '{{linux}}', true, 1, 'i', 's', 'p', now(), now(), now()
             FROM generate_series(1, {count}) i"
        ))
        .await;
}

async fn names(world: &World, query: &str) -> Vec<String> {
    let answer = world.get(&format!("/api/v1/runners?{query}"), "blue").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    of(&answer.body)
}

fn of(page: &Value) -> Vec<String> {
    let runners = page["runners"].as_array().expect("runners");
    runners.iter().map(|runner| runner["runner_name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_visit_each_runner_once_and_newest_first_while_others_are_added() {
    let world = World::new().await;
    fill(&world, "b", "blue", 120).await;
    let (mut visited, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let answer = world.get(&format!("/api/v1/runners?limit=50{cursor}"), "blue").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.body["total"], json!(120 + pages), "with those that were added");
        visited.extend(of(&answer.body));
        pages += 1;
        assert_eq!(world.jit(&format!("new-{pages}")).await.status, 201);
        match answer.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(pages, 3);
    let wanted: Vec<String> = (1..=120).rev().map(|i| format!("b-{i}")).collect();
    assert_eq!(visited, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_holds_the_rest_exactly_is_the_last() {
    let world = World::new().await;
    fill(&world, "b", "blue", 4).await;
    let first = world.get("/api/v1/runners?limit=2", "blue").await;
    let cursor = first.str("next_cursor").to_owned();
    let second = world.get(&format!("/api/v1/runners?limit=2&cursor={cursor}"), "blue").await;
    assert_eq!(of(&second.body), ["b-2", "b-1"]);
    assert_eq!(second.body["next_cursor"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_filter_filters() {
    let world = World::new().await;
    let body = json!({ "runner_name": "gpu_1", "labels": ["Docker"] });
    assert_eq!(world.post("/api/v1/runners/jit", "blue", body).await.status, 201);
    world.connected("cpu-1").await;
    let body = json!({ "runner_name": "long-lived", "ephemeral": false });
    assert_eq!(world.post("/api/v1/runners", "blue", body).await.status, 201);
    world.sweep().await;
    assert_eq!(names(&world, "").await, ["long-lived", "cpu-1", "gpu_1"]);
    assert_eq!(names(&world, "status=active").await, ["cpu-1"]);
    assert_eq!(names(&world, "status=pending&label=DOCKER").await, ["gpu_1"]);
    assert_eq!(names(&world, "label=docker").await, ["gpu_1"]);
    assert_eq!(names(&world, "ephemeral=false").await, ["long-lived"]);
    assert_eq!(names(&world, "q=PU").await, ["cpu-1", "gpu_1"]);
    assert_eq!(names(&world, "q=pu_1").await, ["gpu_1"], "a part of a name, not a pattern");
    assert!(names(&world, "q=%25").await.is_empty());
    assert_eq!(names(&world, "team=blue&q=long").await, ["long-lived"]);
    assert!(names(&world, "team=red").await.is_empty());
    assert!(names(&world, "status=failed").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_total_stops_at_ten_thousand_and_says_so() {
    let world = World::new().await;
    fill(&world, "b", "blue", 10_000).await;
    let answer = world.get("/api/v1/runners?limit=1", "blue").await;
    assert_eq!((&answer.body["total"], &answer.body["total_capped"]), (&json!(10_000), &json!(false)));
    world.jit("one-more").await;
    let answer = world.get("/api/v1/runners?limit=1", "blue").await;
    assert_eq!((&answer.body["total"], &answer.body["total_capped"]), (&json!(10_000), &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_or_cursor_that_is_none_is_refused_with_its_name() {
    let world = World::new().await;
    fill(&world, "b", "blue", 210).await;
    assert_eq!(names(&world, "").await.len(), 50);
    assert_eq!(names(&world, "limit=1").await.len(), 1);
    assert_eq!(names(&world, "limit=200").await.len(), 200);
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("cursor=next", "cursor"),
        ("status=alive", "status"),
    ] {
        let answer = world.get(&format!("/api/v1/runners?{query}"), "blue").await;
        assert_eq!(answer.refusal(), (422, "INVALID_REQUEST"), "{query}");
        assert_eq!(answer.body["errors"][0]["field"], json!(field), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_sees_its_own_runners_admins_and_auditors_all_strangers_none() {
    let world = World::with_people().await;
    for team in ["blue", "red"] {
        let body = json!({ "runner_name": team });
        assert_eq!(world.post("/api/v1/runners/jit", team, body).await.status, 201);
    }
    for (who, sees) in [
        ("blue", vec!["blue"]),
        ("red", vec!["red"]),
        ("both", vec!["red", "blue"]),
        ("boss", vec!["red", "blue"]),
        ("watch", vec!["red", "blue"]),
    ] {
        let answer = world.get("/api/v1/runners", who).await;
        assert_eq!(of(&answer.body), sees, "{who}");
        assert_eq!(answer.body["total"], json!(sees.len()), "{who}");
    }
    assert!(of(&world.get("/api/v1/runners?team=red", "blue").await.body).is_empty());
    let stranger = world.get("/api/v1/runners", "nobody").await;
    assert!(stranger.body["runners"].as_array().is_none_or(Vec::is_empty), "{}", stranger.text);
    assert_eq!(world.get("/api/v1/runners/blue", "nobody").await.refusal(), (404, "RUNNER_NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_shows_all_that_the_contract_names_and_its_events() {
    let world = World::new().await;
    world.connected("b1").await;
    world.sweep().await;
    let answer = world.get("/api/v1/runners/b1", "blue").await;
    let fields: HashSet<&str> = answer.body.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted = "runner_id runner_name status github_runner_id runner_group_id labels ephemeral busy method \
                  team target provisioned_by created_at updated_at registered_at last_seen_at deleted_at events";
    assert_eq!(fields, wanted.split_whitespace().collect());
    let events = answer.body["events"].as_array().unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["runner_state_changed", "provisioned", "provision_requested"]);
    assert_eq!(events[0]["user_identity"], json!("system:sync"));
    assert!(answer.str("created_at").ends_with('Z'), "in UTC");
}

#[tokio::test(flavor = "multi_thread")]
async fn me_tells_what_each_team_has_used() {
    let world = World::new().await;
    world.jit("b1").await;
    world.registration("r1").await;
    world.jit("gone").await;
    world.delete("/api/v1/runners/gone", "blue").await;
    world.delete("/api/v1/runners/r1", "blue").await;
    let me = world.get("/api/v1/auth/me", "blue").await;
    assert_eq!(me.body["teams"][0]["live_runners"], json!(2), "the token of r1 is still good");
}
