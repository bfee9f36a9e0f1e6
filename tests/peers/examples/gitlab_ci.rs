//! `gitlab-ci/`: the job's script, with the token and the variables that GitLab gives it.

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;

use super::schemas::{documents, text};
use super::stage::{Stage, ended, spawn};
use crate::support::ORG;

#[tokio::test(flavor = "multi_thread")]
async fn a_gitlab_job_is_a_runner() {
    let Some(documents) = documents("gitlab-ci/.gitlab-ci.yml").await else { return };
    // The image's.
    let Some(stage) = Stage::new(&["curl", "jq"]).await else { return };
    let runner = stage.unpack_runner("runner");
    stage.copy("bootstrap.sh");
    let job = &documents[0]["github-runner"];

    let mut environment = Vec::new();
    for (name, value) in job["variables"].as_object().expect("variables") {
        // Where the image has the runner.
        environment
            .push((name.as_str(), text(value).replace("/home/runner", runner.to_str().expect("UTF-8"))));
    }
    for (name, token) in job["id_tokens"].as_object().expect("tokens") {
        let claims = json!({ "sub": "project_path:ml/github-runner:ref_type:branch:ref:main",
            "project_path": "ml/github-runner", "ref_protected": "true" });
        assert_eq!(token["aud"], super::stage::BROKER);
        environment.push((name.as_str(), stage.token(claims)));
    }
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let script: Vec<&str> = job["script"].as_array().expect("a script").iter().map(text).collect();
    let start = || {
        let mut command = stage.command("/bin/sh", &environment);
        spawn(command.args(["-e", "-c", &script.join("\n")]).process_group(0))
    };

    let child = start();
    stage.gets_a_job("gitlab-").await;
    let (status, said) = ended(child).await;
    assert!(status.success(), "{status}: {said}");
    stage.kept_its_secrets(Some(&runner));

    // Cancelled before a job came: all that the job started is told to end.
    let child = start();
    stage.online("gitlab-").await;
    let group = child.id().and_then(|id| Pid::from_raw(id as i32)).expect("a running process");
    kill_process_group(group, Signal::TERM).expect("our own");
    let (_, said) = ended(child).await;
    assert!(stage.site.github.runners(ORG).is_empty(), "{said}");
}
