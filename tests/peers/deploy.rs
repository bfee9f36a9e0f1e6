//! The Helm chart as Helm renders it, held against what Kubernetes and the operators of others know.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::tools::{fetched_program, here, node_with, python_program, run};

const LIMIT: Duration = Duration::from_secs(120);

/// The oldest that the chart takes, the last one without a kubelet that sleeps before a stop, and the newest one.
pub const KUBERNETES: [&str; 3] = ["1.27", "1.29", "1.37"];

/// The sets of values that everything is rendered with; the first: what `values.yaml` says.
pub const SETS: [&str; 4] = ["default", "minimal", "own-tls", "everything"];

/// Where the chart is.
pub fn chart_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/helm/runner-broker")
}

/// Helm, and what reads YAML.
pub struct Chart {
    helm: PathBuf,
    python: PathBuf,
}

/// Manifests of one release, called `rb`, in the namespace `ci`.
pub struct Manifests(pub Vec<Value>);

impl Chart {
    /// `None`: the test is to be skipped.
    pub fn found() -> Option<Chart> {
        let helm = fetched_program("helm")?;
        let python = python_program("kubernetes-validate")?.with_file_name("python");
        Some(Chart { helm, python })
    }

    fn helm(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.helm);
        command.args(arguments).arg(chart_folder()).env_clear().env("HOME", "/nonexistent");
        command
    }

    /// As YAML; `more` are further arguments.
    async fn template(&self, set: &str, kubernetes: &str, more: &[&str]) -> String {
        let mut command = self.helm(&["template", "--namespace", "ci", "rb"]);
        command.args(["--kube-version", &format!("{kubernetes}.0")]).args(values_of(set)).args(more);
        run(&mut command, LIMIT).await
    }

    /// Checked strictly against the schemas of this version.
    pub async fn render(&self, set: &str, kubernetes: &str, more: &[&str]) -> Manifests {
        let yaml = self.template(set, kubernetes, more).await;
        Manifests(json(&self.python, &[kubernetes], &yaml).await)
    }

    /// With what the newest version knows.
    pub async fn newest(&self, set: &str, more: &[&str]) -> Manifests {
        self.render(set, KUBERNETES[KUBERNETES.len() - 1], more).await
    }

    /// Any file of YAML documents.
    pub async fn yaml(&self, path: &Path) -> Vec<Value> {
        json(&self.python, &[], &std::fs::read_to_string(path).expect("a file")).await
    }

    /// Why these arguments are refused.
    pub async fn refusal(&self, more: &[&str]) -> String {
        let output = self.helm(&["template", "rb"]).args(more).output().await.expect("helm");
        assert!(!output.status.success(), "{more:?} is taken");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// The arguments that name a set's file.
fn values_of(set: &str) -> Vec<PathBuf> {
    let file = chart_folder().join(format!("ci/{set}-values.yaml"));
    if set == SETS[0] { Vec::new() } else { vec!["--values".into(), file] }
}

/// YAML documents as JSON, by `manifests.py`.
async fn json(python: &Path, arguments: &[&str], yaml: &str) -> Vec<Value> {
    let mut command = Command::new(python);
    command.arg(here("manifests.py")).args(arguments);
    serde_json::from_str(&piped(command, yaml).await).expect("JSON")
}

/// What a program says to this; panics with its complaints if it fails.
async fn piped(mut command: Command, input: &str) -> String {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().expect("a program");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    let feeding = tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.expect("in time");
    let output = output.expect("its output");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    feeding.await.expect("no panic").expect("all of it");
    String::from_utf8(output.stdout).expect("text")
}

impl Manifests {
    pub fn all(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|document| document["kind"] == kind).collect()
    }

    /// The one of this kind whose name ends like this.
    pub fn one(&self, kind: &str, ending: &str) -> &Value {
        let name = |document: &Value| document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let found: Vec<_> =
            self.all(kind).into_iter().filter(|document| name(document).ends_with(ending)).collect();
        assert_eq!(found.len(), 1, "{kind} …{ending}");
        found[0]
    }

    /// The pods of everything that makes some, with the kind that does.
    pub fn pods(&self) -> Vec<(&str, &Value)> {
        let pods = self.0.iter().filter_map(|document| match document["kind"].as_str()? {
            kind @ ("Deployment" | "Job") => Some((kind, &document["spec"]["template"])),
            "Pod" => Some(("Pod", document)),
            _ => None,
        });
        pods.collect()
    }

    /// The pod that serves.
    pub fn server(&self) -> &Value {
        &self.one("Deployment", "")["spec"]["template"]
    }
}

/// The entry of a list of {name, …}.
pub fn named<'v>(list: &'v Value, name: &str) -> Option<&'v Value> {
    list.as_array()?.iter().find(|entry| entry["name"] == name)
}

#[tokio::test(flavor = "multi_thread")]
async fn helms_strict_look_at_the_chart_finds_nothing_for_any_set_of_values() {
    let Some(chart) = Chart::found() else { return };
    for set in SETS {
        let mut command = chart.helm(&["lint", "--strict"]);
        let said = run(command.args(values_of(set)), LIMIT).await;
        assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{set}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rendered_has_only_fields_that_each_kubernetes_knows() {
    let Some(chart) = Chart::found() else { return };
    for set in SETS {
        for kubernetes in KUBERNETES {
            let manifests = chart.render(set, kubernetes, &[]).await;
            assert_eq!(manifests.all("Deployment").len(), 1, "{set} for {kubernetes}");
            assert_eq!(manifests.all("Job").len(), 1, "{set} for {kubernetes}");
        }
    }
    // The other way round: the check is not asleep.
    let yaml = chart.template("default", "1.37", &[]).await.replace("replicas:", "replica:");
    let mut command = Command::new(&chart.python);
    command.arg(here("manifests.py")).arg("1.37");
    let refused = tokio::spawn(async move { piped(command, &yaml).await }).await;
    assert!(refused.is_err(), "a misspelt field is taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_resources_have_only_fields_that_their_operators_know() {
    let Some(chart) = Chart::found() else { return };
    let Some(node) = node_with("@kubernetes-models/prometheus-operator") else { return };
    let manifests = chart.newest("everything", &[]).await;
    let mut command = Command::new(node);
    command.arg(here("custom-resources.mjs"));
    let checked = piped(command, &Value::Array(manifests.0).to_string()).await;
    assert_eq!(checked.trim(), "HTTPRoute PrometheusRule ServiceMonitor");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_can_be_packed_and_be_a_part_of_another() {
    let Some(chart) = Chart::found() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display().to_string();
    run(&mut chart.helm(&["package", "--destination", &path]), LIMIT).await;
    let parent = folder.path().join("parent");
    std::fs::create_dir_all(parent.join("charts")).expect("a folder");
    let packed = format!("runner-broker-{}.tgz", env!("CARGO_PKG_VERSION"));
    std::fs::rename(folder.path().join(&packed), parent.join("charts").join(&packed)).expect("the package");
    let about = "apiVersion: v2\nname: parent\nversion: 1.0.0\n";
    std::fs::write(parent.join("Chart.yaml"), about).expect("a file");
    let values = "global: { region: here }\nrunner-broker:\n  prometheusRule: { enabled: true }\n";
    std::fs::write(parent.join("values.yaml"), values).expect("a file");
    let mut command = Command::new(&chart.helm);
    let yaml = run(command.args(["template", "rb"]).arg(&parent), LIMIT).await;
    // Files that are not templates came along too.
    assert!(yaml.contains("alert: RunnerBrokerDown"), "{yaml}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_values_that_the_readme_shows_are_taken() {
    let Some(chart) = Chart::found() else { return };
    let readme = chart_folder().join("../../README.md");
    let readme = std::fs::read_to_string(readme).expect("deploy/README.md");
    let values = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("values");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), values).expect("a file");
    let more = ["--values".to_owned(), file.path().display().to_string()];
    let manifests = chart.newest("default", &[&more[0], &more[1]]).await;
    let url = named(&manifests.server()["spec"]["containers"][0]["env"], "PUBLIC_URL").expect("a variable");
    assert_eq!(url["value"], "https://broker.example.com");
    assert_eq!(manifests.all("Ingress").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_are_those_of_the_file_but_for_where_the_runbook_is_and_when_a_sweep_is_due() {
    let Some(chart) = Chart::found() else { return };
    let file = chart_folder().join("files/alerts.yaml");
    let as_written = chart.yaml(&file).await.remove(0);
    let more = ["--set", "prometheusRule.enabled=true"];
    let manifests = chart.newest("default", &more).await;
    assert_eq!(manifests.one("PrometheusRule", "")["spec"], as_written);
    // SYNC_INTERVAL_SECONDS is 300 there.
    let manifests = chart.newest("everything", &[]).await;
    let expected = as_written
        .to_string()
        .replace("\"docs/OPERATING.md", "\"https://git.example.com/runner-broker/blob/main/docs/OPERATING.md")
        .replace("> 900", "> 1500");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    assert_ne!(expected, as_written);
    assert_eq!(manifests.one("PrometheusRule", "")["spec"], expected);
    let dashboard = &manifests.one("ConfigMap", "-dashboard")["data"]["runner-broker.json"];
    let dashboard: Value = serde_json::from_str(dashboard.as_str().expect("a text")).expect("JSON");
    assert_eq!(dashboard["uid"], "runner-broker");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_refused_before_anything_is_installed() {
    let Some(chart) = Chart::found() else { return };
    for (set, why) in [
        ("config.OIDC_ISSUR=https://a", "OIDC_ISSUR"),
        ("config.SYNC_INTERVAL_SECONDS=0", "SYNC_INTERVAL_SECONDS"),
        ("config.UNMANAGED_RUNNERS=delete", "UNMANAGED_RUNNERS"),
        ("config.PUBLIC_URL=broker.example.com", "PUBLIC_URL"),
        ("replicas=3", "replicas"),
        ("containerPort=443", "containerPort"),
        ("tls.enabled=true", "tls.secretName"),
        ("ingress.enabled=true", "ingress.host"),
        ("httpRoute.enabled=true", "httpRoute.parentRefs"),
        ("policy.inline=a,policy.existingConfigMap=b", "not both"),
        ("podDisruptionBudget.maxUnavailable=0", "maxUnavailable"),
        ("migrate.secret.name=runner-broker-database", "migrate.secret"),
        ("extraEnv[0].name=PORT,extraEnv[0].value=1", "PORT is set by the chart"),
        ("extraEnv[0].name=GITHUB_TIMEOUT_SECONDS,extraEnv[0].value=1", "belongs into config"),
    ] {
        let refusal = chart.refusal(&["--set", set]).await;
        assert!(refusal.contains(why), "{set}: {refusal}");
    }
    let refusal = chart.refusal(&["--kube-version", "1.26.0"]).await;
    assert!(refusal.contains("1.27"), "{refusal}");
}
