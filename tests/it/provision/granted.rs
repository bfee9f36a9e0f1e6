//! Provisioning, end to end: what a caller gets, what GitHub is asked, what the table and the log keep.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use runner_broker::dev::github::{Action, Fault};
use serde_json::{Value, json};

use crate::support::{ORG, REPO, World, eventually, team};

const PROVISION: &str = "/api/v1/runners/provision";
const JIT: &str = "/api/v1/runners/jit";

fn sha256(text: &str) -> String {
    hex::encode(digest(&SHA256, text.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_and_a_name_give_a_jit_runner_that_github_the_table_and_the_log_know() {
    let world = World::new().await;
    let body = json!({ "runner_name": "b1", "labels": ["Docker"] });
    let answer = world.post(JIT, "blue", body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("location"), format!("/api/v1/runners/{}", answer.str("runner_id")));
    assert_eq!(answer.body["labels"], json!(["docker", "linux", "self-hosted", "x64"]));
    let config = answer.str("encoded_jit_config");
    assert_eq!(answer.str("run_command"), format!("ACTIONS_RUNNER_INPUT_JITCONFIG={config} ./run.sh"));

    let made = world.github.runner(ORG, "b1").expect("a runner");
    assert_eq!(answer.body["github_runner_id"], json!(made.id));
    assert_eq!(
        (made.group_id, made.labels),
        (1, ["docker", "linux", "self-hosted", "x64"].map(str::to_owned).into())
    );
    assert_eq!(world.posts(), 1, "one call for one runner");
    let started = world.github.connect_jit(config);
    assert_eq!(started.expect("a configuration that works"), "b1");
    assert_eq!(world.status("b1").await, "pending");
    assert_eq!(world.events("b1").await, ["provision_requested", "provisioned"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_who_had_what_from_where_by_which_rule_and_the_hash_of_what_was_handed_out() {
    let world = World::new().await;
    let headers = [("x-request-id", "my-request"), ("user-agent", "curl/8")];
    for (path, name, credential) in
        [(JIT, "j1", "encoded_jit_config"), (PROVISION, "r1", "registration_token")]
    {
        let body = json!({ "runner_name": name });
        let answer = world.call(Method::POST, path, &world.token("blue"), &headers, Some(body)).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let events = world.log(&format!("runner_name = '{name}'")).await;
        for event in &events {
            let said = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
            assert_eq!(said("user_identity"), "blue-user");
            assert_eq!(
                (said("issuer"), said("subject")),
                (world.issuer.url().to_owned(), "blue-user".into())
            );
            assert_eq!((said("team"), said("target")), ("blue".into(), ORG.into()));
            assert_eq!(said("runner_id"), answer.str("runner_id"));
            assert_eq!(said("policy_rule"), "team blue, member 1");
            assert_eq!(said("request_id"), answer.header("x-request-id"));
            assert_eq!(event["event_data"]["client_request_id"], "my-request");
            assert_eq!((said("request_ip"), said("user_agent")), ("127.0.0.1".into(), "curl/8".into()));
            assert_eq!((event["success"].clone(), said("severity")), (json!(true), "info".into()));
        }
        let credential = answer.str(credential);
        let data = &events[1]["event_data"];
        assert_eq!(data["credential_sha256"], json!(sha256(credential)));
        let seconds = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().expect("a time").timestamp();
        assert_eq!(seconds(data["expires_at"].as_str().unwrap_or("")), seconds(answer.str("expires_at")));
        for table in ["audit_log", "runners", "idempotency_keys"] {
            let rows = world.sql(&format!("SELECT t::text FROM {table} t")).await.concat();
            assert!(!rows.contains(credential), "{table} holds a credential");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_hands_out_a_token_and_the_command_that_uses_it() {
    let world = World::new().await;
    let body = json!({ "runner_name": "r1", "labels": ["linux-gpu", "docker"], "work_folder": "my work" });
    let answer = world.post(PROVISION, "blue", body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let token = answer.str("registration_token");
    assert_eq!(
        answer.str("configuration_command"),
        format!(
            "./config.sh --unattended --url https://github.com/octo-org --token {token} --name r1 \
             --labels 'docker,linux-gpu' --work 'my work' --ephemeral"
        )
    );
    assert_eq!(answer.str("github_url"), "https://github.com/octo-org");
    assert_eq!((&answer.body["ephemeral"], answer.header("cache-control")), (&json!(true), "no-store"));
    assert!(world.on_github().is_empty(), "GitHub knows no runner yet");
    assert_eq!(world.status("r1").await, "pending");
    world.github.register(ORG, "r1", &["docker", "linux-gpu"], true, token).expect("a token that works");

    let body = json!({ "runner_name": "r2", "ephemeral": false, "disable_update": true });
    let answer = world.post("/api/v1/runners", "blue", body).await;
    let command = answer.str("configuration_command");
    assert!(command.ends_with("--name r2 --work _work --disableupdate"), "{command}");
    assert_eq!(answer.body["ephemeral"], json!(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_group_is_found_by_name_or_id_and_the_default_one_needs_no_name() {
    let world = World::new().await;
    let id = world.github.add_group(ORG, "GPU pool").expect("a group");
    world.policy(&team("blue", r#"runner_groups = ["Default", "gpu POOL"]"#)).await;
    for (name, group, expected) in [
        ("g1", json!({ "runner_group": "Gpu Pool" }), id),
        ("g2", json!({ "runner_group_id": id }), id),
        ("g3", json!({}), 1),
        ("g4", json!({ "runner_group": "default" }), 1),
    ] {
        let mut body = json!({ "runner_name": name });
        body.as_object_mut().expect("an object").extend(group.as_object().cloned().unwrap_or_default());
        let answer = world.post(JIT, "blue", body.clone()).await;
        assert_eq!(answer.status, 201, "{body}: {}", answer.text);
        assert_eq!(world.github.runner(ORG, name).map(|runner| runner.group_id), Some(expected), "{body}");
        body["runner_name"] = json!(format!("{name}-r"));
        let answer = world.post(PROVISION, "blue", body.clone()).await;
        let command = answer.str("configuration_command");
        let named = command.contains("--runnergroup 'GPU pool'");
        assert_eq!(named, expected == id, "{command}");
        assert_eq!(command.contains("--runnergroup"), expected == id, "{command}");
    }
    let lists = world.github.calls().iter().filter(|call| call.path.contains("runner-groups")).count();
    assert_eq!(lists, 1, "groups are listed once and cached");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_a_target_of_its_own() {
    let world = World::new().await;
    let body = json!({ "runner_name": "b1", "repository": "Octo-Org/octo-repo" });
    assert_eq!(world.post(JIT, "blue", body.clone()).await.status, 201);
    assert_eq!(world.jit("b1").await.status, 201, "the organisation's names are others");
    assert!(world.github.runner(REPO, "b1").is_some() && world.github.runner(ORG, "b1").is_some());
    let body = json!({ "runner_name": "b2", "repository": REPO });
    let answer = world.post(PROVISION, "blue", body).await;
    assert!(answer.str("configuration_command").contains("--url https://github.com/octo-org/octo-repo "));
}

#[tokio::test(flavor = "multi_thread")]
async fn system_and_required_labels_are_added_and_may_be_named() {
    let world = World::new().await;
    world.policy(&team("blue", r#"required_labels = ["Blue", "cost-1"]"#)).await;
    let labels = ["self-hosted", "Windows", "ARM64", "blue", "docker", "DOCKER"];
    let body = json!({ "runner_name": "w1", "os": "windows", "arch": "arm64", "labels": labels });
    let answer = world.post(JIT, "blue", body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let expected = json!(["arm64", "blue", "cost-1", "docker", "self-hosted", "windows"]);
    assert_eq!(answer.body["labels"], expected);
    assert_eq!(json!(world.github.runner(ORG, "w1").expect("a runner").labels), expected);
    assert!(answer.str("run_command").ends_with("; .\\run.cmd"));

    let body = json!({ "runner_name": "m1", "os": "macos", "arch": "arm64" });
    let answer = world.post(PROVISION, "blue", body).await;
    assert!(answer.str("configuration_command").contains("--labels 'blue,cost-1' "), "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_gets_a_suffix_of_its_own_each_time() {
    let world = World::new().await;
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let answer = world.post(JIT, "blue", json!({ "runner_name_prefix": "ci.Worker" })).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let name = answer.str("runner_name").to_owned();
        let suffix = name.strip_prefix("ci.Worker-").expect("the prefix and a dash");
        let is_plain = suffix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        assert!(suffix.len() == 6 && is_plain, "{name}");
        assert!(world.github.runner(ORG, &name).is_some());
        names.insert(name);
    }
    assert_eq!(names.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_folder_reaches_the_runner() {
    let world = World::new().await;
    let body = json!({ "runner_name": "b1", "work_folder": "fast/disk" });
    let answer = world.post(JIT, "blue", body).await;
    let decode = |text: &str| -> Value {
        serde_json::from_slice(&BASE64_STANDARD.decode(text).expect("base64")).expect("JSON")
    };
    let files = decode(answer.str("encoded_jit_config"));
    assert_eq!(decode(files[".runner"].as_str().unwrap_or(""))["workFolder"], json!("fast/disk"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provision_whose_caller_hangs_up_still_ends_as_pending() {
    let world = World::new().await;
    world.github.fail(Fault::new("POST", "jitconfig", Action::Delay { millis: 600 }));
    let request = world
        .client()
        .post(format!("{}{JIT}", world.url))
        .bearer_auth(world.token("blue"))
        .json(&json!({ "runner_name": "b1" }))
        .timeout(Duration::from_millis(200));
    assert!(request.send().await.expect_err("no answer in that time").is_timeout());
    eventually("a provision that goes on", async || world.status("b1").await == "pending").await;
    assert_eq!(world.on_github(), ["b1"]);
    assert_eq!(world.events("b1").await, ["provision_requested", "provisioned"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_comes_after_a_repair_took_the_row_is_withdrawn() {
    let world = World::new().await;
    world.github.fail(Fault::new("POST", "jitconfig", Action::ActThenDelay { millis: 500 }));
    let claimed = async {
        eventually("the runner on GitHub", async || world.on_github() == ["b1"]).await;
        world.sql("UPDATE runners SET status = 'deleting' WHERE name = 'b1'").await;
    };
    let (answer, ()) = tokio::join!(world.jit("b1"), claimed);
    assert_eq!(answer.refusal(), (503, "DATABASE_UNAVAILABLE"), "{}", answer.text);
    assert!(!answer.header("retry-after").is_empty());
    assert!(world.on_github().is_empty(), "what nobody was given is gone again");
    assert_eq!(world.status("b1").await, "deleting", "the row is the repair's");
    assert_eq!(world.events("b1").await, ["provision_requested"]);
    world.sweep().await;
    assert_eq!(world.status("b1").await, "failed");
}
