//! `github-actions/`: the workflow's steps, with what Actions gives them, and the machine that they reach by ssh.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::process::Command;

use super::outside::Ask;
use super::private_root::quoted;
use super::schemas::{documents, text};
use super::stage::{BROKER, Stage, ended, spawn, token};
use crate::process::until;
use crate::support::ORG;
use crate::tools::machine_program;

/// What the step gets as its secret.
const SSH_KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nfor the lab\n-----END OPENSSH PRIVATE KEY-----";

/// A run of the workflow.
struct Run {
    stage: Stage,
    workflow: Value,
    temp: PathBuf,
    output: PathBuf,
}

impl Run {
    async fn new() -> Option<Run> {
        let workflow = documents("github-actions/own-runner.yml").await?.remove(0);
        // All of them on ubuntu-latest; of ssh only the name, since no machine can be reached from here.
        let needed = Stage::with(&["bash", "curl", "jq", "uname"], |site| {
            let claims = json!({ "sub": "repo:octo-org/octo-repo:environment:own-machine", "repository_id": "74",
                "repository_owner_id": "65",
                "workflow_ref": "octo-org/octo-repo/.github/workflows/own-runner.yml@refs/heads/main" });
            let issued = token(site, claims);
            Arc::new(move |ask: &Ask| {
                let right = ask.what == "GET pipelines.actions.example.com/42/idtoken"
                    && ask.field("audience") == BROKER
                    && ask.header("authorization") == "Bearer of-this-job";
                right.then(|| json!({ "count": 1, "value": issued }).to_string().into_bytes())
            })
        });
        let stage = needed.await?;
        let (temp, output) = (stage.home.join("temp"), stage.home.join("output"));
        std::fs::create_dir(&temp).expect("a folder");
        std::fs::write(&output, "").expect("a file");
        let run = Run { stage, workflow, temp, output };
        run.set_up_the_machine();
        Some(run)
    }

    /// The machine at the other end, and an ssh that goes no further: it holds what ssh would hold, and does what sshd
    /// does for a key with a forced command.
    fn set_up_the_machine(&self) {
        let machine = self.stage.home.join("machine");
        std::fs::create_dir(&machine).expect("a folder");
        let runner = self.stage.unpack_runner("actions-runner");
        let start = self.stage.copy("github-actions/start-runner.sh");
        let tools = self.stage.home.with_file_name("tools");
        let ssh = format!(
            r#"#!/bin/bash
set -eu
[ "$*" = "-i $RUNNER_TEMP/key -o UserKnownHostsFile=$RUNNER_TEMP/known_hosts -o StrictHostKeyChecking=yes -o BatchMode=yes runner@lab.example.com start-runner.sh" ]
[ "$(cat "$RUNNER_TEMP/key")" = "$SSH_KEY" ] && [ "$(cat "$RUNNER_TEMP/known_hosts")" = "lab.example.com ssh-ed25519 AAAA" ]
exec env -i PATH={tools} HOME={machine} ACTIONS_RUNNER={runner} {start}
"#,
            tools = quoted(&tools),
            machine = quoted(&machine),
            runner = quoted(&runner),
            start = quoted(&start),
        );
        let file = self.stage.home.join("ssh");
        std::fs::write(&file, ssh).expect("a file");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("our own");
        self.stage.add_tool("ssh", &file);
    }

    /// What the steps so far have set.
    fn outputs(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(&self.output).expect("a file");
        text.lines()
            .map(|line| line.split_once('=').expect("NAME=VALUE"))
            .map(|(a, b)| (a.into(), b.into()))
            .collect()
    }

    /// `${{ … }}` by what this run has.
    fn evaluated(&self, text: &str) -> String {
        let Some((before, rest)) = text.split_once("${{") else { return text.to_owned() };
        let (expression, after) = rest.split_once("}}").expect("an end");
        let expression = expression.trim();
        let output =
            |name: &str| self.outputs().into_iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let value = match expression.rsplit_once('.').expect("a path") {
            ("secrets", "SSH_KEY") => SSH_KEY.to_owned(),
            ("secrets", "SSH_KNOWN_HOSTS") => "lab.example.com ssh-ed25519 AAAA".to_owned(),
            ("needs.runner.outputs", name) => {
                let outputs = &self.workflow["jobs"]["runner"]["outputs"];
                assert_eq!(text_of(&outputs[name]), format!("${{{{ steps.ask.outputs.{name} }}}}"));
                output(name).expect("an output")
            }
            _ => panic!("{expression}?"),
        };
        format!("{before}{value}{}", self.evaluated(after))
    }

    fn step(&self, job: &str, number: usize) -> Command {
        let the_job = &self.workflow["jobs"][job];
        let step = &the_job["steps"][number];
        let script = self.stage.home.join(format!("{job}-{number}.sh"));
        std::fs::write(&script, text(&step["run"])).expect("a file");
        let path = |path: &PathBuf| path.to_str().expect("UTF-8").to_owned();
        let mut command = self.stage.command(machine_program("bash").expect("was there"), &[]);
        command.args(["--noprofile", "--norc", "-eo", "pipefail"]).arg(script);
        command.env("GITHUB_RUN_ID", "1234").env("GITHUB_RUN_ATTEMPT", "1").env("GITHUB_JOB", job);
        command.env("GITHUB_OUTPUT", path(&self.output)).env("RUNNER_TEMP", path(&self.temp));
        if the_job["permissions"]["id-token"] == "write" {
            let url = "https://pipelines.actions.example.com/42/idtoken?api-version=2.0";
            command
                .env("ACTIONS_ID_TOKEN_REQUEST_URL", url)
                .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-this-job");
        }
        for place in [&self.workflow["env"], &step["env"]] {
            for (name, value) in place.as_object().into_iter().flatten() {
                command.env(name, self.evaluated(text(value)));
            }
        }
        command
    }

    async fn do_step(&self, job: &str, number: usize) -> String {
        let (status, said) = ended(spawn(&mut self.step(job, number))).await;
        assert!(status.success(), "{job}, step {number}: {status}: {said}");
        said
    }
}

fn text_of(value: &Value) -> String {
    text(value).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_brings_up_the_runner_that_its_second_job_runs_on() {
    let Some(run) = Run::new().await else { return };
    let said = run.do_step("runner", 0).await;
    assert!(said.contains("::add-mask::eyJ"), "{said}");
    let handed = run.temp.join("runner.json");
    assert_eq!(std::fs::metadata(&handed).expect("a file").permissions().mode() & 0o077, 0);
    run.do_step("runner", 1).await;
    let name = run.stage.online("lab-").await;
    let labels = run.stage.site.github.runner(ORG, &name).expect("a runner").labels;
    let wanted = run.workflow["jobs"]["work"]["runs-on"].as_array().expect("labels");
    for label in wanted.iter().map(|label| run.evaluated(text(label))) {
        assert!(labels.contains(&label), "{labels:?} lacks {label}");
    }
    assert!(run.outputs().contains(&("label".into(), "run-1234-1".into())));
    run.stage.kept_its_secrets(None);
    run.stage.gets_a_job("lab-").await;
    assert!(
        std::fs::read_dir(&run.temp)
            .expect("a folder")
            .all(|file| file.expect("a file").file_name() == "known_hosts")
    );
    // The folder that the runner had goes with it.
    let machine = run.stage.home.join("machine");
    until("the machine is as it was", async || {
        let entries = std::fs::read_dir(&machine).expect("a folder").flatten();
        entries.filter(|entry| entry.path().is_dir()).count() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_had_no_job_is_taken_off_github_by_the_workflows_last_job() {
    let Some(run) = Run::new().await else { return };
    run.do_step("runner", 0).await;
    run.do_step("runner", 1).await;
    let name = run.stage.online("lab-").await;
    run.do_step("tidy-up", 0).await;
    assert!(run.stage.site.github.runner(ORG, &name).is_none());
    assert_eq!(run.stage.site.status(&name).await, "deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_shown_in_the_run() {
    let Some(run) = Run::new().await else { return };
    let mut step = run.step("runner", 0);
    let (status, said) = ended(spawn(step.env("NAME_PREFIX", "no good"))).await;
    assert!(!status.success() && said.contains("::error::INVALID_REQUEST"), "{status}: {said}");
}
