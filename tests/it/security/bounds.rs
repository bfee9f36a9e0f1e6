//! What callers whom the policy names can cost: rows and bytes of the log by being refused, and calls at GitHub.

use reqwest::Method;
use runner_broker::dev::github::{Action, Fault, Limits};
use serde_json::json;

use crate::support::{Answer, ORG, REPO, World, team};

/// Rows of the log and their bytes.
async fn log_size(world: &World) -> (i64, i64) {
    let query = "SELECT count(*) || ' ' || coalesce(sum(pg_column_size(e.*)), 0) FROM audit_log e";
    let sizes = world.sql(query).await.pop().expect("a row");
    let (rows, bytes) = sizes.split_once(' ').expect("two numbers");
    (rows.parse().unwrap(), bytes.parse().unwrap())
}

/// A world with teams blue (one runner at most, and it is there) and red, an admin and an auditor.
async fn at_its_limit() -> World {
    let world = World::with_people().await;
    for number in 0..3 {
        assert_eq!(world.jit(&format!("b{number}")).await.status, 201);
    }
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_that_is_refused_again_and_again_does_not_fill_the_log() {
    let world = at_its_limit().await;
    let before = log_size(&world).await;
    let labels: Vec<String> = (0..100).map(|n| format!("{n:03}{}", "x".repeat(250))).collect();
    for number in 0..400 {
        // Another subject, name and label each time: the caller chooses those.
        let who = world.issuer.mint(json!({ "sub": format!("repo:{number}"), "team": "blue" }));
        let body = json!({ "runner_name": format!("x{number}"), "labels": labels });
        let refused = world.call(Method::POST, "/api/v1/runners/jit", &who, &[], Some(body)).await;
        assert_eq!(refused.refusal(), (403, "LABEL_POLICY_VIOLATION"));
    }
    world.pass(60);
    world.broker.flush_refusals().await.expect("a database");
    let after = log_size(&world).await;
    let (rows, bytes) = (after.0 - before.0, after.1 - before.1);
    assert!((1..40).contains(&rows) && bytes < 400_000, "{rows} rows, {bytes} bytes");
    let largest = "SELECT max(length(to_json(e)::text)) FROM audit_log e";
    assert!(world.sql(largest).await[0].parse::<i64>().unwrap() < 8192);
    let first = world.log("event_type = 'provision_refused' AND runner_name = 'x0'").await.remove(0);
    assert_eq!(first["event_data"]["labels"].as_array().unwrap().len(), 20);
    assert_eq!(first["event_data"]["labels_count"], 100);
    let counted = world.log("event_type = 'provision_refused' AND event_data ? 'further'").await;
    assert_eq!(counted.len(), 1);
    assert_eq!(counted[0]["event_data"], json!({ "further": 390, "teams_and_roles": "blue" }));
    assert_eq!(counted[0]["team"], "blue", "for its members to read");

    // Another team's refusal has its own row at once, and a minute later so has the next of this one.
    let red = json!({ "runner_name": "r1", "labels": ["gpu"] });
    assert_eq!(world.post("/api/v1/runners/jit", "red", red).await.status, 403);
    assert_eq!(world.jit("b9").await.refusal(), (403, "QUOTA_EXCEEDED"));
    assert_eq!(world.log("runner_name IN ('r1', 'b9')").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_who_may_change_nothing_writes_nothing_beyond_a_few_rows() {
    let world = at_its_limit().await;
    let before = log_size(&world).await;
    for number in 0..150 {
        let path = match number % 3 {
            0 => "/api/v1/runners/b0".to_owned(),
            1 => format!("/api/v1/runners/b{}", number % 2),
            _ => "/api/v1/runners/b2/remove-token".to_owned(),
        };
        let method = if number % 3 == 2 { Method::POST } else { Method::DELETE };
        let who = world.issuer.mint(json!({ "sub": format!("watch-{number}"), "team": "watch" }));
        let refused: Answer = world.call(method, &path, &who, &[], None).await;
        assert_eq!(refused.status, 403, "{}", refused.text);
    }
    for _ in 0..20 {
        assert_eq!(world.get("/api/v1/admin/identities", "blue").await.status, 403);
    }
    world.broker.flush_refusals().await.expect("a database");
    let rows = log_size(&world).await.0 - before.0;
    assert!((1..18).contains(&rows), "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_team_does_not_use_up_githubs_hour_by_asking_about_its_runners() {
    let world = World::with_people().await;
    let (blue, red) = (team("blue", ""), team("red", ""));
    world.policy(&(blue + &red)).await;
    world.registration("r1").await;
    world.connected("b1").await;
    world.github.set_limits(Some(Limits { core: 400, registration: 400, ..Limits::default() }));
    let before = world.github.calls().len();
    let mut refused = 0;
    for number in 0..300 {
        let path = match number % 3 {
            0 => "/api/v1/runners/b1/refresh",
            1 => "/api/v1/runners/r1/refresh",
            _ => "/api/v1/runners/r1/remove-token",
        };
        let who = world.issuer.mint(json!({ "sub": format!("{number}"), "team": "blue" }));
        let answer = world.call(Method::POST, path, &who, &[], None).await;
        if answer.status == 429 {
            assert_eq!(answer.str("error_code"), "RATE_LIMITED");
            assert!(
                (1..=60).contains(&answer.header("retry-after").parse().unwrap()),
                "{:?}",
                answer.headers
            );
            refused += 1;
        }
    }
    let calls = world.github.calls().len() - before;
    assert!(calls <= 60 && refused >= 240, "{calls} calls, {refused} refused");
    let red = json!({ "runner_name": "red-1" });
    assert_eq!(world.post("/api/v1/runners/jit", "red", red).await.status, 201);
    let red = json!({ "runner_name": "red-2" });
    assert_eq!(world.post("/api/v1/runners/provision", "red", red).await.status, 201);
    world.pass(10);
    let now_and_then = world.post("/api/v1/runners/b1/refresh", "blue", json!({}));
    assert_eq!(now_and_then.await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_runner_is_not_asked_for_without_end() {
    let world = World::new().await;
    world.connected("b1").await;
    let job = world.github.queue_job(REPO, "build", &["self-hosted"]);
    world.github.take_job(job.id, ORG, "b1").expect("an idle runner");
    let before = (log_size(&world).await.0, world.github.calls().len());
    let mut refused = 0;
    for _ in 0..100 {
        match world.delete("/api/v1/runners/b1", "blue").await.refusal() {
            (409, "RUNNER_BUSY") => {}
            (429, "RATE_LIMITED") => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    let (rows, calls) = (log_size(&world).await.0 - before.0, world.github.calls().len() - before.1);
    assert!(rows < 40 && calls < 40 && refused > 80, "{rows} rows, {calls} calls, {refused} refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_github_does_not_answer_is_not_tried_without_end() {
    let world = World::new().await;
    world.connected("b1").await;
    let away = Fault::new("DELETE", "runners/", Action::Drop).always();
    world.github.fail(away);
    let rows = log_size(&world).await.0;
    let mut refused = 0;
    for _ in 0..60 {
        match world.delete("/api/v1/runners/b1?force_when_idle=true", "blue").await.status {
            503 => {}
            429 => refused += 1,
            other => panic!("{other}"),
        }
    }
    let rows = log_size(&world).await.0 - rows;
    assert!(rows < 40 && refused > 40, "{rows} rows, {refused} refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_githubs_hour_is_for_teams_that_have_used_little_of_it() {
    let world = World::with_people().await;
    world.policy(&(team("blue", "") + &team("red", ""))).await;
    world.github.set_limits(Some(Limits { registration: 60, ..Limits::default() }));
    let mut answers = Vec::new();
    for number in 0..60 {
        answers.push(world.jit(&format!("b{number}")).await);
    }
    let refused = answers.iter().find(|answer| answer.status != 201).expect("a refusal");
    assert_eq!(refused.refusal(), (503, "GITHUB_RATE_LIMITED"));
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    let red = json!({ "runner_name": "red-1" });
    assert_eq!(world.post("/api/v1/runners/jit", "red", red).await.status, 201);
    let refused_by_github = |status: Option<u16>| matches!(status, Some(403 | 429));
    assert!(!world.github.calls().iter().any(|call| refused_by_github(call.status)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remove_token_follows_the_methods_that_the_team_has_now() {
    let world = World::new().await;
    world.registration("r1").await;
    let path = "/api/v1/runners/r1/remove-token";
    assert_eq!(world.post(path, "blue", json!({})).await.status, 201);
    world.policy(&team("blue", r#"methods = ["jit"]"#)).await;
    let refused = world.post(path, "blue", json!({})).await;
    assert_eq!(refused.refusal(), (403, "METHOD_NOT_ALLOWED_BY_POLICY"));
    let log = world.log("event_type = 'remove_token_failed'").await;
    assert_eq!(log[0]["error_code"], "METHOD_NOT_ALLOWED_BY_POLICY");
    assert_eq!(world.github.calls().iter().filter(|call| call.path.ends_with("/remove-token")).count(), 1);
}
