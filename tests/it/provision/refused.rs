//! What the policy refuses: with which code, how it is logged, and that GitHub never hears of it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{ORG, World, team};

const PROVISION: &str = "/api/v1/runners/provision";
const JIT: &str = "/api/v1/runners/jit";

fn body(more: Value) -> Value {
    let mut body = json!({ "runner_name": "x1" });
    body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_code_and_its_event_and_github_hears_of_none() {
    let world = World::new().await;
    world.github.add_group(ORG, "vault");
    let secret = r#"
        allowed_labels = ["secret-pattern-.*"]
        required_labels = ["secret-required"]
        methods = ["jit"]
        targets = ["octo-org/secret-*", "octo-org"]
        runner_groups = ["Default", 4711]
        "#;
    world.policy(&[team("blue", secret), team("green", "max_runners = 0")].concat()).await;
    for (path, caller, sent, status, code, detail) in [
        (
            JIT,
            "blue",
            json!({ "labels": ["gpu", "a b"] }),
            403,
            "LABEL_POLICY_VIOLATION",
            "Labels ['a b', 'gpu'] not permitted by policy",
        ),
        (
            JIT,
            "blue",
            json!({ "labels": ["ubuntu-latest"] }),
            403,
            "LABEL_POLICY_VIOLATION",
            "Labels ['ubuntu-latest'] not permitted by policy",
        ),
        (
            PROVISION,
            "blue",
            json!({}),
            403,
            "METHOD_NOT_ALLOWED_BY_POLICY",
            "Method 'registration_token' not permitted by policy",
        ),
        (
            JIT,
            "blue",
            json!({ "repository": "octo-org/octo-repo" }),
            403,
            "TARGET_NOT_ALLOWED",
            "Target 'octo-org/octo-repo' not permitted by policy",
        ),
        (
            JIT,
            "blue",
            json!({ "organization": "other-org" }),
            403,
            "TARGET_NOT_ALLOWED",
            "Target 'other-org' not permitted by policy",
        ),
        (
            JIT,
            "blue",
            json!({ "runner_group": "vault" }),
            403,
            "RUNNER_GROUP_NOT_ALLOWED",
            "Runner group 'vault' not permitted by policy",
        ),
        (
            JIT,
            "blue",
            json!({ "runner_group_id": 99 }),
            403,
            "RUNNER_GROUP_NOT_ALLOWED",
            "Runner group '99' not permitted by policy",
        ),
        (JIT, "blue", json!({ "team": "green" }), 403, "NO_TEAM", "You are not in a team 'green'"),
        (JIT, "green", json!({}), 403, "QUOTA_EXCEEDED", "Team 'green' has reached its limit of 0 runners"),
    ] {
        let answer = world.post(path, caller, body(sent.clone())).await;
        assert_eq!(answer.refusal(), (status, code), "{sent}: {}", answer.text);
        assert_eq!(answer.str("detail"), detail);
        assert!(!answer.text.contains("secret") && !answer.text.contains("4711"), "{}", answer.text);
        let events = world.log(&format!("request_id = '{}'", answer.str("request_id"))).await;
        assert_eq!(events.len(), 1, "{sent}: {events:?}");
        let event = &events[0];
        assert_eq!(event["event_type"], json!("provision_refused"));
        assert_eq!((&event["error_code"], &event["success"]), (&json!(code), &json!(false)));
        assert_eq!(event["runner_name"], json!("x1"));
        let (team, rule) = match code {
            // He is in no such team, so none reads of it.
            "NO_TEAM" => (Value::Null, Value::Null),
            _ => (json!(caller), json!(format!("team {caller}, member 1"))),
        };
        assert_eq!((&event["team"], &event["policy_rule"]), (&team, &rule), "{sent}");
    }
    assert_eq!(world.posts(), 0);
    assert!(world.on_github().is_empty());
    assert!(world.sql("SELECT id FROM runners").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_of_two_teams_must_name_one_and_is_told_his_own() {
    let world = World::new().await;
    let both = team("blue", "").replace(r#"team = "blue""#, r#"sub = "blue-user""#);
    world
        .policy(
            &[both, team("Sky Blue", "").replace(r#""Sky Blue" }"#, r#""blue" }"#), team("red", "")].concat(),
        )
        .await;
    let answer = world.jit("x1").await;
    assert_eq!(answer.refusal(), (422, "TEAM_REQUIRED"));
    let detail = answer.str("detail");
    assert!(detail.contains("blue, Sky Blue") && !detail.contains("red"), "{detail}");
    let events = world.log("event_type = 'provision_refused'").await;
    assert_eq!((events.len(), &events[0]["team"]), (1, &Value::Null), "neither team is meant");

    let answer = world.post(JIT, "blue", body(json!({ "team": "sky blue" }))).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(world.sql("SELECT team FROM runners").await, ["Sky Blue"]);
    assert_eq!(world.posts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_a_team_exists_cannot_be_learnt_from_the_answer() {
    let world = World::new().await;
    world.policy(&[team("blue", ""), team("exists", "")].concat()).await;
    let mut answers = Vec::new();
    for asked in ["exists", "absent"] {
        for token in [world.token("blue"), world.token("nobody")] {
            let sent = Some(body(json!({ "team": asked })));
            let answer = world.call(Method::POST, JIT, &token, &[], sent).await;
            assert_eq!(answer.refusal(), (403, "NO_TEAM"));
            let mut problem = answer.body.clone();
            problem["request_id"] = json!("");
            answers.push(problem.to_string().replace(asked, "TEAM"));
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_logged_at_once_and_then_as_a_count_each_minute() {
    let world = World::new().await;
    let logged = async || -> Vec<Value> {
        let events = world.log("event_type = 'caller_refused'").await;
        events.iter().map(|event| event["event_data"]["further"].clone()).collect()
    };
    let knock = async |times: usize| {
        for n in 0..times {
            let token = world.issuer.mint(json!({ "sub": format!("stranger-{n}") }));
            let answer = world.call(Method::POST, JIT, &token, &[], Some(body(json!({})))).await;
            assert_eq!(answer.refusal(), (403, "NO_TEAM"));
        }
    };
    knock(5).await;
    assert_eq!(logged().await, [Value::Null], "the first one at once, the others are only counted");
    world.broker.flush_refusals().await.expect("a database");
    assert_eq!(logged().await, [Value::Null, json!(4)]);
    knock(3).await;
    world.broker.flush_refusals().await.expect("a database");
    assert_eq!(logged().await, [Value::Null, json!(4), json!(3)], "one event a minute while they come");
    world.broker.flush_refusals().await.expect("a database");
    world.broker.flush_refusals().await.expect("a database");
    knock(1).await;
    assert_eq!(
        logged().await.last(),
        Some(&Value::Null),
        "after a quiet minute the first one counts as news"
    );
    let who = world.log("event_type = 'caller_refused'").await;
    assert_eq!((&who[0]["subject"], &who[0]["error_code"]), (&json!("stranger-0"), &json!("NO_TEAM")));
    assert_eq!(
        (&who[1]["subject"], &who[1]["user_identity"]),
        (&Value::Null, &json!("system:authentication"))
    );
    assert_eq!(world.posts(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn explaining_says_what_a_provision_would_be_told_and_does_nothing() {
    let world = World::new().await;
    world.policy(&team("blue", "max_runners = 1\nrequests_per_minute = 1")).await;
    let explain = async |more: Value| {
        let mut sent = body(more);
        sent["method"] = json!("jit");
        world.post("/api/v1/policy/explain", "blue", sent).await
    };
    let answer = explain(json!({ "labels": ["docker"] })).await;
    assert_eq!((answer.status, &answer.body["allowed"], answer.str("team")), (200, &json!(true), "blue"));
    assert_eq!(answer.body["labels"], json!(["docker", "linux", "self-hosted", "x64"]));
    let answer = explain(json!({ "labels": ["gpu"] })).await;
    assert_eq!((answer.status, answer.str("error_code")), (200, "LABEL_POLICY_VIOLATION"));
    assert_eq!((&answer.body["allowed"], answer.str("team")), (&json!(false), "blue"));
    assert!(world.sql("SELECT id FROM runners").await.is_empty());
    assert!(world.sql("SELECT id FROM audit_log WHERE event_type <> 'policy_applied'").await.is_empty());

    assert_eq!(world.jit("b1").await.status, 201);
    assert_eq!(explain(json!({})).await.str("error_code"), "QUOTA_EXCEEDED");
    world.sql("UPDATE runners SET status = 'deleted'").await;
    assert_eq!(explain(json!({})).await.str("error_code"), "RATE_LIMITED");
    world.pass(61);
    assert_eq!(explain(json!({})).await.body["allowed"], json!(true));
    assert_eq!(world.posts(), 1);
}
