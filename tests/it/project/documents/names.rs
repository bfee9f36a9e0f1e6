//! Names that scripts, dashboards and people rely on: all of them are in the documents, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use regex::Regex;
use reqwest::Method;
use runner_broker::broker::events::Kind;
use runner_broker::config::VARIABLES;
use serde_json::json;

use super::all;
use crate::markdown::{code, document, documents, root};
use crate::support::World;

/// Where error codes are chosen.
const CODES: [&str; 6] = [
    include_str!("../../../../src/broker/error.rs"),
    include_str!("../../../../src/http/body.rs"),
    include_str!("../../../../src/http/idempotency.rs"),
    include_str!("../../../../src/http/problem.rs"),
    include_str!("../../../../src/http/problem/status.rs"),
    include_str!("../../../../src/policy/denial.rs"),
];

/// Other programs' variables, those of tests and examples, and constants of the sources.
const OTHERS: [&str; 13] = [
    "ACTIONS_RUNNER_INPUT_JITCONFIG",
    "APPEND_ONLY",
    "BENCH_FSYNC",
    "BENCH_SECONDS",
    "CONSOLE_IMAGES",
    "NO_COLOR",
    "OWNER_URL",
    "READ_ONLY",
    "REQUIRE_PEERS",
    "RESTORED_URL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "SUPERUSER_URL",
];

fn first_words(path: &str, heading: &str) -> Vec<String> {
    document(path).rows(heading).iter().map(|row| code(&row[0])).collect()
}

fn error_codes() -> BTreeSet<String> {
    all(r#""([A-Z]+(?:_[A-Z]+)*)""#, CODES)
}

#[test]
fn every_error_code_is_in_the_documents_and_no_other_is() {
    let documented = first_words("docs/API.md", "## Errors");
    assert_eq!(documented.iter().cloned().collect::<BTreeSet<_>>(), error_codes());
    assert_eq!(documented.len(), error_codes().len(), "a code twice");
}

#[test]
fn every_variable_is_in_the_documents_with_its_default_and_no_other_is() {
    let known: Vec<(String, String)> = VARIABLES
        .iter()
        .map(|variable| {
            let default = match (variable.required, variable.default) {
                (true, _) => "required".to_owned(),
                (false, Some(default)) => format!("`{default}`"),
                (false, None) => "none".to_owned(),
            };
            (variable.name.to_owned(), default)
        })
        .collect();
    let rows = document("docs/CONFIGURATION.md").rows("## Variables");
    let documented: Vec<(String, String)> = rows.iter().map(|row| (code(&row[0]), row[1].clone())).collect();
    assert_eq!(documented, known);
    for row in &rows {
        assert!(row.len() == 4 && !row[2].is_empty() && !row[3].is_empty(), "meaning and example: {row:?}");
    }
}

#[test]
fn what_looks_like_a_variable_or_a_code_is_one() {
    let mut known: BTreeSet<String> = error_codes();
    known.extend(VARIABLES.iter().map(|variable| variable.name.to_owned()));
    known.extend(OTHERS.map(str::to_owned));
    let looks_so = Regex::new(r"^([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=.*)?$").expect("a pattern");
    for document in documents() {
        for (place, word) in document.code_words() {
            let Some(found) = looks_so.captures(&word) else { continue };
            let name = &found[1];
            let client = name.starts_with("RUNNER_BROKER_") || name.starts_with("OTEL_");
            assert!(known.contains(name) || client, "{place}: there is no {name}");
        }
    }
}

#[test]
fn every_type_of_event_is_in_the_documents_and_no_other_is() {
    let known: BTreeSet<String> = Kind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect();
    let documented: BTreeSet<String> =
        first_words("docs/AUDIT.md", "## What is recorded").into_iter().collect();
    assert_eq!(documented, known);
}

/// What the sources count, by name and kind.
fn counted() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let pattern = Regex::new(r#"(?s)\b(counter|gauge|histogram)!\(\s*"([a-z_]+)""#).expect("a pattern");
    walk(&root().join("src"), &mut |text| {
        for one in pattern.captures_iter(text) {
            found.insert(one[2].to_owned(), one[1].to_owned());
        }
    });
    found
}

fn walk(folder: &Path, see: &mut impl FnMut(&str)) {
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            walk(&entry, see);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            see(&std::fs::read_to_string(&entry).expect("a source"));
        }
    }
}

/// Name to kind and labels.
fn documented_metrics() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let rows = document("docs/OPERATING.md").rows("## Metrics");
    let metric = |row: &Vec<String>| {
        let labels = all("`([a-z_]+)`", [row[2].as_str()]);
        (code(&row[0]), (row[1].clone(), labels))
    };
    rows.iter().map(metric).collect()
}

#[test]
fn every_metric_is_in_the_documents_and_no_other_is() {
    let documented: BTreeMap<String, String> =
        documented_metrics().into_iter().map(|(name, (kind, _))| (name, kind)).collect();
    assert_eq!(documented, counted());
    for row in document("docs/OPERATING.md").rows("## Metrics") {
        assert!(row.len() == 5 && row[3..].iter().all(|cell| !cell.is_empty()), "unit and meaning: {row:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_labels_of_metrics_are_those_in_the_documents() {
    let world = World::new().await;
    assert_eq!(world.jit("b1").await.status, 201);
    let refused = json!({ "runner_name": "b2", "labels": ["gpu"] });
    assert_eq!(world.post("/api/v1/runners/jit", "blue", refused).await.status, 403);
    world.sweep().await;
    let metrics = world.call(Method::GET, "/metrics", "", &[], None).await.text;
    let documented = documented_metrics();
    let series = Regex::new(r"(?m)^([a-z_]+?)(?:_bucket|_sum|_count)?(?:\{([^}]*)\})? ").expect("a pattern");
    let label = Regex::new(r#"([a-z_]+)=""#).expect("a pattern");
    let mut seen = 0;
    for found in series.captures_iter(&metrics) {
        // A counter may be called `…_count`, too.
        let whole = found[0].split(['{', ' ']).next().unwrap_or_default();
        let name = if documented.contains_key(whole) { whole } else { &found[1] };
        let (_, labels) = documented.get(name).unwrap_or_else(|| panic!("{name} is not in the documents"));
        let shown = found.get(2).map_or("", |labels| labels.as_str());
        let shown: BTreeSet<String> =
            label.captures_iter(shown).map(|one| one[1].to_owned()).filter(|one| one != "le").collect();
        assert_eq!(&shown, labels, "{name}");
        seen += 1;
    }
    assert!(seen > 30, "{metrics}");
}

#[test]
fn every_alert_has_its_section_in_the_runbook_and_no_other_has() {
    let alerts = std::fs::read_to_string(root().join("deploy/prometheus/alerts.yaml")).expect("the alerts");
    let named = all(r"(?m)^\s*- alert: (\w+)$", [alerts.as_str()]);
    let operating = document("docs/OPERATING.md").text;
    assert_eq!(all(r"(?m)^### (RunnerBroker\w+)$", [operating.as_str()]), named);
    for anchor in all(r"docs/OPERATING\.md#([a-z0-9-]+)", [alerts.as_str()]) {
        assert!(document("docs/OPERATING.md").anchors().contains(&anchor), "{anchor}");
    }
}
