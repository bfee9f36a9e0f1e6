//! The dashboard and the alert rules, at a real Prometheus that scrapes a real broker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use url::Url;

use crate::process::{Replica, Site};
use crate::support::{REPO, WEBHOOK_SECRET};
use crate::tools::{fetched_program, free_port, here, python_program, run};

const LIMIT: Duration = Duration::from_secs(60);

/// Metrics of what does not happen in this test; a panel of nothing else may stay empty.
const RARE: [&str; 6] = [
    "broker_alert",
    "broker_http_connections_shed_total",
    "broker_trace_batches_lost_total",
    "job_policy_checks_total",
    "sign_ins_total",
    "webhook_redeliveries_total",
];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn dashboard() -> Value {
    let text = fs::read_to_string(root("deploy/grafana/runner-broker.json")).expect("the dashboard");
    serde_json::from_str(&text).expect("JSON")
}

/// (the panel's title, the expression) of everything that the dashboard asks.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = |panel: &Value| panel["targets"].as_array().cloned().unwrap_or_default();
    let of = |panel: &Value| {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let expression = |target: Value| target["expr"].as_str().expect("an expression").to_owned();
        targets(panel).into_iter().map(expression).map(|one| (title.clone(), one)).collect::<Vec<_>>()
    };
    let mut found: Vec<_> = panels.iter().flat_map(of).collect();
    for annotation in dashboard["annotations"]["list"].as_array().into_iter().flatten() {
        found.push(("annotation".into(), annotation["expr"].as_str().expect("an expression").to_owned()));
    }
    found
}

/// With what Grafana would put in.
fn filled(expression: &str) -> String {
    let filled = expression.replace("$__rate_interval", "8s").replace("$namespace", ".*");
    let filled = filled.replace("$instance", ".*");
    assert!(!filled.contains('$'), "{filled}");
    filled
}

/// Prometheus with these rules, scraping one replica every second; killed when dropped.
struct Prometheus {
    _child: Child,
    url: String,
    folder: tempfile::TempDir,
}

impl Prometheus {
    async fn start(program: PathBuf, replica: &Replica) -> Prometheus {
        let folder = tempfile::tempdir().expect("a folder");
        let config = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [root("deploy/prometheus/alerts.yaml")],
            "scrape_configs": [{
                "job_name": "runner-broker",
                "static_configs": [{ "targets": [format!("127.0.0.1:{}", replica.port)] }],
            }],
        });
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config.to_string()).expect("a file");
        let address = format!("127.0.0.1:{}", free_port());
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let child = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .env("GOMAXPROCS", "1")
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("Prometheus");
        Prometheus { _child: child, url: format!("http://{address}/api/v1"), folder }
    }

    /// `None`: it does not answer yet.
    async fn get(&self, site: &Site, path: &str, query: &[(&str, &str)]) -> Option<Value> {
        let url = Url::parse_with_params(&format!("{}{path}", self.url), query).expect("a URL");
        let answer = site.client.get(url).send().await.ok()?;
        let body: Value = answer.json().await.ok()?;
        assert_eq!(body["status"], "success", "{path} {query:?}: {body}");
        Some(body["data"].clone())
    }

    /// Whether this has a value that is a number.
    async fn has(&self, site: &Site, expression: &str) -> bool {
        let Some(data) = self.get(site, "/query", &[("query", expression)]).await else { return false };
        let results = data["result"].as_array().cloned().unwrap_or_default();
        results.iter().any(|one| one["value"][1].as_str().is_some_and(|value| value != "NaN"))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// A little of everything, of which the names begin with `round`.
async fn exercise(site: &Site, replica: &Replica, round: usize) {
    let name = format!("r{round}");
    let made = site.jit(replica, &name).send().await.expect("an answer");
    assert_eq!(made.status(), 201);
    let refused = json!({ "runner_name": format!("{name}-no"), "labels": ["gpu"] });
    let refused = site.post(replica, "/api/v1/runners/jit", &refused).send().await.expect("an answer");
    assert_eq!(refused.status(), 403);
    site.get(replica, "/health/ready", "blue").await;
    site.github.queue_job(REPO, &name, &["self-hosted", "linux"]);
    replica.signal(Signal::HUP);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_has_data_at_a_prometheus_that_scrapes_the_broker_and_no_rule_is_set_off() {
    let Some(program) = fetched_program("prometheus") else { return };
    let site = Site::new().await;
    let key = site.file("audit.key").display().to_string();
    let output = site.command(&["audit-key", "generate", "--output", &key]).output().await;
    assert!(output.expect("the binary").status.success());
    let variables = [("AUDIT_SIGNING_KEY_PATH", key.as_str()), ("GITHUB_WEBHOOK_SECRET", WEBHOOK_SECRET)];
    let replica = site.serve_with(&variables).await;
    site.github.set_webhook(&format!("{}/api/v1/webhooks/github", replica.url), WEBHOOK_SECRET);
    let prometheus = Prometheus::start(program, &replica).await;

    let begun = Instant::now();
    let mut empty: Vec<_> =
        queries(&dashboard()).into_iter().map(|(title, asked)| (title, filled(&asked))).collect();
    let is_rare = |expression: &str| RARE.iter().any(|name| expression.contains(name));
    // Errors fail at once, whether there is data or not.
    empty.retain(|(title, expression)| {
        title != "Server errors by route" && title != "annotation" && !is_rare(expression)
    });
    assert!(empty.len() > 30, "{empty:?}");
    let mut round = 0;
    while !empty.is_empty() {
        assert!(begun.elapsed() < LIMIT, "no data: {empty:#?}\n{}", prometheus.log());
        exercise(&site, &replica, round).await;
        round += 1;
        let mut still = Vec::new();
        for (title, expression) in empty {
            if !prometheus.has(&site, &expression).await {
                still.push((title, expression));
            }
        }
        empty = still;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for (title, expression) in queries(&dashboard()) {
        let answer = prometheus.get(&site, "/query", &[("query", &filled(&expression))]).await;
        assert!(answer.is_some(), "{title}");
    }

    let rules = prometheus.get(&site, "/rules", &[]).await.expect("rules");
    let rules = rules["groups"][0]["rules"].as_array().expect("rules").clone();
    assert!(rules.len() > 10);
    for rule in rules {
        // The rule about security events may be: a refused token is none, but the broker knows best.
        assert_eq!(rule["health"], "ok", "{rule}");
        assert_eq!(rule["state"], "inactive", "{rule}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_hold_what_their_own_tests_say() {
    let Some(promtool) = fetched_program("promtool") else { return };
    let folder = root("deploy/prometheus");
    let mut check = Command::new(&promtool);
    run(check.current_dir(&folder).args(["check", "rules", "alerts.yaml"]), LIMIT).await;
    let mut test = Command::new(&promtool);
    let said = run(test.current_dir(&folder).args(["test", "rules", "alerts.test.yaml"]), LIMIT).await;
    assert!(said.contains("SUCCESS"), "{said}");
    // Each rule is set off in one of them.
    let (rules, tests) = (
        fs::read_to_string(folder.join("alerts.yaml")).expect("a file"),
        fs::read_to_string(folder.join("alerts.test.yaml")).expect("a file"),
    );
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let short = name.trim_start_matches("RunnerBroker");
        assert!(tests.contains(short), "{name} has no test");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grafanas_own_model_knows_every_field_of_the_dashboard() {
    let Some(python) = python_program("python") else { return };
    let Some(_) = python_program("kubernetes-validate") else { return };
    let mut read = Command::new(python);
    run(read.arg(here("dashboard.py")).arg(root("deploy/grafana/runner-broker.json")), LIMIT).await;
}
