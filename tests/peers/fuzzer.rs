//! PyPI `schemathesis`: whatever the OpenAPI document allows, and what it does not, is sent; the answers are held
//! against the document.

use std::time::Duration;

use serde_json::json;
use tokio::process::Command;

use crate::support::{ORG, World};
use crate::tools::{here, python_program, run};

const LIMIT: Duration = Duration::from_secs(300);

/// For each operation.
const EXAMPLES: &str = "100";

#[tokio::test(flavor = "multi_thread")]
async fn no_request_gets_an_answer_that_the_openapi_document_does_not_have() {
    let Some(schemathesis) = python_program("schemathesis") else { return };
    let world = World::new().await;
    // What `schemathesis.toml` names.
    for (path, name) in [("jit", "peer-jit"), ("provision", "peer-registration")] {
        let body = json!({ "runner_name": name });
        let answer = world.post(&format!("/api/v1/runners/{path}"), "blue", body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut fuzz = Command::new(schemathesis);
    fuzz.arg("--config-file").arg(here("schemathesis.toml")).arg("run");
    fuzz.arg(format!("{}/openapi.json", world.url));
    fuzz.args(["--max-examples", EXAMPLES, "--seed", "1", "--continue-on-failure"]);
    run(fuzz.current_dir(folder.path()).env("BROKER_TOKEN", world.token("blue")), LIMIT).await;

    // Whatever came, GitHub has no runner that the table does not know.
    let known = world.sql("SELECT github_runner_id FROM runners WHERE github_runner_id IS NOT NULL").await;
    for runner in world.github.runners(ORG) {
        assert!(known.contains(&runner.id.to_string()), "nobody knows {}", runner.name);
    }
}
