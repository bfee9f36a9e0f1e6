//! `kubernetes/`: both containers' commands, in the order in which the kubelet starts and stops them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::schemas::{documents, text};
use super::stage::{BROKER, Stage, ended, spawn, terminate};
use crate::process::until;
use crate::support::ORG;

/// Where the image has GitHub's runner.
const IMAGES_RUNNER: &str = "/home/runner";

/// A pod of the Job: its volumes are folders of the stage's home, by their names.
struct Pod {
    stage: Stage,
    spec: Value,
}

impl Pod {
    async fn new() -> Option<Pod> {
        let documents = documents("kubernetes/job.yaml").await?;
        // The image's.
        let stage = Stage::new(&["curl", "jq"]).await?;
        let (account, job) = (&documents[0], &documents[1]);
        let spec = job["spec"]["template"]["spec"].clone();
        assert_eq!(spec["serviceAccountName"], account["metadata"]["name"]);
        for volume in spec["volumes"].as_array().expect("volumes") {
            std::fs::create_dir(stage.home.join(text(&volume["name"]))).expect("a folder");
        }
        std::fs::copy(super::example("bootstrap.sh"), stage.home.join("bootstrap/bootstrap.sh"))
            .expect("a copy");
        let projected = &spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"];
        assert_eq!(projected["audience"], BROKER);
        let (namespace, name) = (text(&job["metadata"]["namespace"]), text(&spec["serviceAccountName"]));
        let token = stage.token(json!({ "sub": format!("system:serviceaccount:{namespace}:{name}") }));
        let file = stage.home.join("token").join(text(&projected["path"]));
        std::fs::write(&file, token).expect("a file");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o400)).expect("our own");
        stage.unpack_runner("runner");
        Some(Pod { stage, spec })
    }

    /// A path or a command of a container, as it is here.
    fn outside(&self, container: &Value, inside: &str) -> String {
        let mounts = container["volumeMounts"].as_array().expect("mounts").iter();
        let mut all: Vec<(&str, &str)> =
            mounts.map(|mount| (text(&mount["mountPath"]), text(&mount["name"]))).collect();
        all.push((IMAGES_RUNNER, "runner"));
        all.into_iter().fold(inside.to_owned(), |text, (path, name)| {
            let here = self.stage.home.join(name).display().to_string();
            if text == path { here } else { text.replace(&format!("{path}/"), &format!("{here}/")) }
        })
    }

    fn command(&self, container: &Value, words: &[&Value]) -> Command {
        let words = words.iter().flat_map(|words| words.as_array().expect("words"));
        let mut words = words.map(|word| self.outside(container, text(word)));
        let program = words.next().expect("a program");
        let mut command = self.stage.command(program, &[]);
        command.args(words);
        for variable in container["env"].as_array().into_iter().flatten() {
            command.env(text(&variable["name"]), self.outside(container, text(&variable["value"])));
        }
        if let Some(folder) = container["workingDir"].as_str() {
            command.current_dir(self.outside(container, folder));
        }
        command
    }

    /// The sidecar, and the runner once the probe says that it may start.
    async fn start(&self) -> (Child, Child) {
        let (broker, runner) = (&self.spec["initContainers"][0], &self.spec["containers"][0]);
        let sidecar = spawn(&mut self.command(broker, &[&broker["command"], &broker["args"]]));
        until("the probe is content", async || {
            let probe = &broker["startupProbe"]["exec"]["command"];
            let words: Vec<String> = probe
                .as_array()
                .expect("words")
                .iter()
                .map(|word| self.outside(broker, text(word)))
                .collect();
            let status = self.stage.command(format!("/usr/bin/{}", words[0]), &[]).args(&words[1..]).status();
            status.await.is_ok_and(|status| status.success())
        })
        .await;
        let config = self.stage.home.join("jit/config");
        let mode = std::fs::metadata(&config).expect("a file").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
        (sidecar, spawn(&mut self.command(runner, &[&runner["command"], &runner["args"]])))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_service_account_makes_it_a_runner() {
    let Some(pod) = Pod::new().await else { return };
    let (sidecar, runner) = pod.start().await;
    pod.stage.gets_a_job("pod-").await;
    let (status, said) = ended(runner).await;
    assert!(status.success(), "{status}: {said}");
    // With the runner over, the kubelet stops the sidecar.
    terminate(&sidecar);
    let (_, said) = ended(sidecar).await;
    assert!(!said.contains("could not"), "{said}");
    pod.stage.kept_its_secrets(Some(&pod.stage.home.join("runner")));
    assert!(!Path::exists(&pod.stage.home.join("jit/config")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_deleted_before_it_had_a_job_leaves_nothing_on_github() {
    let Some(pod) = Pod::new().await else { return };
    let (sidecar, runner) = pod.start().await;
    let name = pod.stage.online("pod-").await;
    for container in [runner, sidecar] {
        terminate(&container);
        ended(container).await;
    }
    assert!(pod.stage.site.github.runners(ORG).is_empty());
    assert_eq!(pod.stage.site.status(&name).await, "deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_container_that_runs_the_job_has_no_token_and_no_time_is_too_short() {
    let Some(documents) = documents("kubernetes/job.yaml").await else { return };
    let pod = &documents[1]["spec"]["template"]["spec"];
    let mounts: Vec<&str> = pod["containers"][0]["volumeMounts"]
        .as_array()
        .expect("mounts")
        .iter()
        .map(|mount| text(&mount["name"]))
        .collect();
    assert_eq!(mounts, ["jit"]);
    assert_eq!(pod["automountServiceAccountToken"], false);
    // A call to the broker takes a minute at most, and one may be under way when the pod is stopped.
    let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().expect("a number"));
    assert!(grace >= Duration::from_secs(120));
}
