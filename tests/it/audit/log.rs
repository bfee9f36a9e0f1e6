//! The audit log: who may read what of it, and that nobody changes it.

use serde_json::{Value, json};

use crate::database::connect;
use crate::support::{Answer, World};

/// Two teams, an admin, an auditor; a runner of each team, and a refusal of each.
async fn busy_world() -> World {
    let world = World::with_people().await;
    for team in ["blue", "red"] {
        let body = json!({ "runner_name": format!("{team}-1") });
        assert_eq!(world.post("/api/v1/runners/jit", team, body).await.status, 201);
        let body = json!({ "runner_name": format!("{team}-2"), "labels": ["gpu"] });
        assert_eq!(world.post("/api/v1/runners/jit", team, body).await.status, 403);
    }
    world
}

async fn read(world: &World, query: &str, who: &str) -> Answer {
    let answer = world.get(&format!("/api/v1/audit?{query}"), who).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    answer
}

/// `event_type runner` of each, newest first.
async fn logs(world: &World, query: &str, who: &str) -> Vec<String> {
    let answer = read(world, query, who).await;
    let logs = answer.body["logs"].as_array().expect("logs").iter();
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or("-").to_owned();
    logs.map(|event| format!("{} {}", text(event, "event_type"), text(event, "runner_name"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_read_their_own_and_their_teams_events_admins_and_auditors_all() {
    let world = busy_world().await;
    let blue = ["provision_refused blue-2", "provisioned blue-1", "provision_requested blue-1"];
    let red = ["provision_refused red-2", "provisioned red-1", "provision_requested red-1"];
    assert_eq!(logs(&world, "", "blue").await, blue);
    assert_eq!(logs(&world, "", "red").await, red);
    for who in ["boss", "watch"] {
        let all = logs(&world, "", who).await;
        assert_eq!(all[..6], [red, blue].concat());
        assert_eq!(all[6], "policy_applied -");
    }
    // An admin's act on a team's runner is the team's to see.
    world.delete("/api/v1/runners/blue-1", "boss").await;
    assert_eq!(logs(&world, "", "blue").await[0], "deprovisioned blue-1");
    // One's own, without a team: a stranger sees his refusals and no other.
    world.post("/api/v1/runners/jit", "nobody", json!({ "runner_name": "x" })).await;
    let own = read(&world, "", "nobody").await;
    let own = own.body["logs"].as_array().unwrap();
    assert!(own.iter().all(|event| event["subject"] == json!("nobody-user")), "{own:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_filter_filters_and_none_opens_another_teams_events() {
    let world = busy_world().await;
    let id = world.get("/api/v1/runners/red-1", "red").await.str("runner_id").to_owned();
    let red = ["provisioned red-1", "provision_requested red-1"];
    assert_eq!(
        logs(&world, "event_type=provisioned", "watch").await,
        ["provisioned red-1", "provisioned blue-1"]
    );
    assert_eq!(logs(&world, "runner=red-1", "watch").await, red);
    assert_eq!(logs(&world, "runner=RED-1", "watch").await, red, "names are compared without case");
    assert_eq!(logs(&world, &format!("runner={id}"), "watch").await, red);
    assert_eq!(logs(&world, "team=red&success=false", "watch").await, ["provision_refused red-2"]);
    assert_eq!(logs(&world, "user=red-user&success=true", "watch").await, red);
    assert!(logs(&world, "user=nobody", "watch").await.is_empty());
    for query in ["team=red", "runner=red-1", "user=red-user", &format!("runner={id}")] {
        assert!(logs(&world, query, "blue").await.is_empty(), "{query}");
    }
    let times =
        "SELECT to_char(timestamp, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM audit_log ORDER BY id DESC";
    let times = world.sql(times).await;
    let since = logs(&world, &format!("since={}", times[1]), "watch").await;
    assert_eq!(since, ["provision_refused red-2", "provisioned red-1"]);
    let until = logs(&world, &format!("until={}&limit=1", times[1]), "watch").await;
    assert_eq!(until, ["provision_requested red-1"]);
    let bad = world.get("/api/v1/audit?since=yesterday", "watch").await;
    assert_eq!(bad.refusal(), (422, "INVALID_REQUEST"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_visit_each_event_once() {
    let world = busy_world().await;
    let all = logs(&world, "", "watch").await;
    let (mut visited, mut cursor) = (Vec::new(), String::new());
    loop {
        let query = format!("limit=3{cursor}");
        let answer = read(&world, &query, "watch").await;
        visited.extend(logs(&world, &query, "watch").await);
        // What is added meanwhile is newer, and disturbs nobody.
        world.post("/api/v1/runners/jit", "blue", json!({ "runner_name": "b3", "labels": ["gpu"] })).await;
        match answer.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(visited, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_says_all_that_the_contract_names() {
    let world = busy_world().await;
    let answer = read(&world, "event_type=provisioned&runner=blue-1", "blue").await;
    let event = &answer.body["logs"][0];
    let mut fields: Vec<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted = "id timestamp event_type severity success user_identity issuer subject team runner_id \
                  runner_name target request_id request_ip user_agent policy_rule event_data error_code \
                  error_message";
    let mut wanted: Vec<&str> = wanted.split_whitespace().collect();
    fields.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(fields, wanted);
    for (field, value) in
        [("subject", "blue-user"), ("team", "blue"), ("target", "octo-org"), ("request_ip", "127.0.0.1")]
    {
        assert_eq!(event[field], json!(value), "{field}");
    }
    assert_ne!(event["policy_rule"], Value::Null);
    assert_ne!(event["request_id"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_the_log() {
    let world = busy_world().await;
    let before = world.sql("SELECT a::text FROM audit_log a ORDER BY id").await;
    let (client, _connection) = connect(world.database_url()).await;
    for statement in [
        "UPDATE audit_log SET success = true WHERE id = 1",
        "DELETE FROM audit_log WHERE id = 1",
        "TRUNCATE audit_log",
        "WITH gone AS (DELETE FROM audit_log RETURNING id) SELECT count(*) FROM gone",
        "INSERT INTO audit_log (id, timestamp, event_type, severity, success, user_identity)
             OVERRIDING SYSTEM VALUE SELECT id, now(), 'x', 'info', true, 'me' FROM audit_log LIMIT 1
             ON CONFLICT (id) DO UPDATE SET success = false",
    ] {
        let err = client.batch_execute(statement).await.expect_err(statement);
        let said = err.as_db_error().expect("Postgres' word").message();
        assert!(said.contains("append-only"), "{statement}: {said}");
    }
    assert_eq!(world.sql("SELECT a::text FROM audit_log a ORDER BY id").await, before);
}
