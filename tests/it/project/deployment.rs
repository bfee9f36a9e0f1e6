//! What is deployed beside the broker names what the broker has: variables, metrics, versions.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use runner_broker::config::VARIABLES;
use serde_json::Value;

/// Variables that the chart sets by itself, from its other values.
const OF_THE_CHART: [&str; 11] = [
    "ALERT_WEBHOOK_SECRET",
    "ALERT_WEBHOOK_URL",
    "AUDIT_SIGNING_KEY_PATH",
    "DATABASE_URL",
    "GITHUB_APP_PRIVATE_KEY_PATH",
    "GITHUB_WEBHOOK_SECRET",
    "HTTPS_CERT_FILE",
    "HTTPS_ENABLED",
    "HTTPS_KEY_FILE",
    "POLICY_FILE",
    "PORT",
];
/// A key in the environment cannot change without a restart; the chart mounts it as a file.
const NOT_SET: [&str; 1] = ["GITHUB_APP_PRIVATE_KEY"];
/// What Prometheus knows by itself.
const OF_PROMETHEUS: [&str; 2] = ["up", "ALERTS"];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

/// Every `.rs` file below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let deeper = |path: PathBuf| if path.is_dir() { sources(&path) } else { vec![path] };
    entries.flat_map(deeper).filter(|path| path.extension().is_some_and(|ending| ending == "rs")).collect()
}

/// The names of all metrics in the code; a histogram's with what Prometheus sees of it.
fn metrics() -> BTreeSet<String> {
    let recorded = Regex::new(r#"\b(counter|gauge|histogram)!\(\s*"([^"]+)""#).expect("a pattern");
    let any = Regex::new(r"\b(counter|gauge|histogram)!\(").expect("a pattern");
    let mut found = BTreeSet::new();
    for path in sources(&root("src")) {
        let text = fs::read_to_string(&path).expect("a file");
        assert_eq!(
            recorded.find_iter(&text).count(),
            any.find_iter(&text).count(),
            "{}: a metric's name is not written where it is recorded",
            path.display()
        );
        for one in recorded.captures_iter(&text) {
            let (kind, name) = (&one[1], &one[2]);
            assert!(kind != "counter" || name.ends_with("_total"), "{name}");
            found.insert(if kind == "histogram" { format!("{name}_bucket") } else { name.to_owned() });
        }
    }
    assert!(found.len() > 30, "{found:?}");
    found
}

/// The metrics that a text of PromQL asks for: all of ours have a selector.
fn asked(text: &str) -> BTreeSet<String> {
    let selector = Regex::new(r"\b([a-zA-Z_:]+)\{").expect("a pattern");
    let names = selector.captures_iter(text).map(|one| one[1].to_owned());
    names.filter(|name| !OF_PROMETHEUS.contains(&name.as_str())).collect()
}

/// Every `expr` of the dashboard.
fn expressions(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("expr").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(expressions)).collect()
        }
        Value::Array(all) => all.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_dashboard_shows_every_metric_and_none_that_does_not_exist() {
    let dashboard = json("deploy/grafana/runner-broker.json");
    let shown = asked(&expressions(&dashboard).join("\n"));
    assert_eq!(shown, metrics());
}

#[test]
fn alert_rules_and_their_tests_ask_for_metrics_that_exist() {
    let known = metrics();
    for path in ["deploy/prometheus/alerts.yaml", "deploy/prometheus/alerts.test.yaml"] {
        let names = asked(&read(path));
        assert!(names.len() > 10, "{path}: {names:?}");
        let unknown: Vec<_> = names.difference(&known).collect();
        assert!(unknown.is_empty(), "{path}: {unknown:?}");
    }
}

#[test]
fn every_alert_rule_says_what_it_is_how_grave_and_where_it_is_told_what_to_do() {
    let rules = read("deploy/prometheus/alerts.yaml");
    let runbook = fs::read_to_string(root("docs/OPERATING.md")).ok();
    let rules: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    for rule in &rules {
        let name = rule.lines().next().expect("a name");
        let anchor = name.to_lowercase();
        assert!(rule.contains(&format!("runbook_url: docs/OPERATING.md#{anchor}\n")), "{name}");
        for part in ["expr: ", "severity: ", "summary: ", "description: "] {
            assert_eq!(rule.matches(part).count(), 1, "{name}: {part}");
        }
        let severity = rule.split("severity: ").nth(1).and_then(|rest| rest.lines().next());
        assert!(matches!(severity, Some("critical" | "warning")), "{name}: {severity:?}");
        // Names as generic as these are other people's too.
        for selector in rule.split(['\n', '(']).filter(|part| part.contains("{job")) {
            assert!(selector.contains("{job=\"runner-broker\""), "{name}: {selector}");
        }
        if let Some(runbook) = &runbook {
            assert!(runbook.contains(&format!("# {name}\n")), "docs/OPERATING.md has no heading {name}");
        }
    }
    // The chart puts another number there for longer intervals.
    assert_eq!(rules.iter().map(|rule| rule.matches("> 900").count()).sum::<usize>(), 1);
}

#[test]
fn the_dashboard_can_be_imported_and_its_panels_lie_beside_each_other() {
    let dashboard = json("deploy/grafana/runner-broker.json");
    assert_eq!(dashboard["uid"], "runner-broker");
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36));
    assert!(dashboard["__inputs"].is_array() && dashboard["id"].is_null());
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    assert!(variables.iter().any(|one| one["name"] == "datasource" && one["type"] == "datasource"));
    let panels = dashboard["panels"].as_array().expect("panels");
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64()), "{title}: its id comes twice");
        let at = |side: &str| panel["gridPos"][side].as_u64().expect("a number");
        assert!(at("x") + at("w") <= 24, "{title}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(places.insert((x, y)), "{title} lies on another panel");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        let targets = panel["targets"].as_array().expect("targets");
        for asked in targets.iter().chain([panel]) {
            assert_eq!(asked["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

#[test]
fn the_chart_takes_every_variable_by_its_name_and_no_other() {
    let schema = json("deploy/helm/runner-broker/values.schema.json");
    let config = &schema["properties"]["config"];
    assert_eq!(config["additionalProperties"], false);
    let taken = config["properties"].as_object().expect("names").keys().map(String::as_str);
    let known: BTreeSet<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
    let all: BTreeSet<&str> = taken.chain(OF_THE_CHART).chain(NOT_SET).collect();
    assert_eq!(all, known);
}

#[test]
fn the_chart_is_of_this_version_and_has_the_same_rules_and_dashboard() {
    let chart = read("deploy/helm/runner-broker/Chart.yaml");
    let version = env!("CARGO_PKG_VERSION");
    assert!(chart.contains(&format!("\nversion: {version}\n")), "{chart}");
    assert!(chart.contains(&format!("\nappVersion: \"{version}\"\n")), "{chart}");
    // Copies, as a chart can read only its own folder, and links are lost on the way through some tools.
    for (original, copy) in [
        ("deploy/prometheus/alerts.yaml", "deploy/helm/runner-broker/files/alerts.yaml"),
        ("deploy/grafana/runner-broker.json", "deploy/helm/runner-broker/files/dashboard.json"),
    ] {
        assert_eq!(read(original), read(copy), "cp {original} {copy}");
    }
}

#[test]
fn the_chart_counts_connections_to_postgres_as_the_broker_does() {
    let number = |path: &str, name: &str| {
        let pattern = Regex::new(&format!(r"const {name}: usize = (\d+);")).expect("a pattern");
        let text = read(path);
        pattern.captures(&text).and_then(|found| found[1].parse::<usize>().ok()).expect(name)
    };
    let of_a_core = number("src/cli/serve.rs", "CONNECTIONS_PER_CORE")
        + number("src/store/postgres/pool.rs", "MAX_OF_A_THREAD");
    let notes = read("deploy/helm/runner-broker/templates/NOTES.txt");
    assert!(notes.contains(&format!("mul {of_a_core} (int $cpu)")), "{of_a_core} for each core");
    let word = match of_a_core {
        8 => "eight",
        12 => "twelve",
        16 => "sixteen",
        other => panic!("{other} needs a word"),
    };
    for path in ["deploy/README.md", "deploy/helm/runner-broker/values.yaml"] {
        assert!(read(path).contains(&format!("{word} for each core")), "{path}: {word}");
    }
    assert!(notes.contains(&format!("{word} for each core")), "{word}");
}
