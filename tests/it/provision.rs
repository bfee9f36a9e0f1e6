//! Provisioning, end to end.

use serde_json::json;

use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_and_a_name_give_a_jit_runner_that_github_the_table_and_the_log_know() {
    let world = World::new().await;
    let body = json!({ "runner_name": "b1", "labels": ["Docker"] });
    let answer = world.post("/api/v1/runners/jit", "blue", body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("location"), format!("/api/v1/runners/{}", answer.str("runner_id")));
    assert_eq!(answer.body["labels"], json!(["docker", "linux", "self-hosted", "x64"]));

    let started = world.github.connect_jit(answer.str("encoded_jit_config"));
    assert_eq!(started.expect("a configuration that works"), "b1");
    assert_eq!(world.status("b1").await, "pending");
    assert_eq!(world.events("b1").await, ["provision_requested", "provisioned"]);
}
