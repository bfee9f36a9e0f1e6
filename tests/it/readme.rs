//! What the README and the Dockerfile say, held against the code.

use std::collections::BTreeSet;

use regex::Regex;

const README: &str = include_str!("../../README.md");
/// Where error codes are chosen.
const SOURCES: [&str; 5] = [
    include_str!("../../src/broker/error.rs"),
    include_str!("../../src/http/body.rs"),
    include_str!("../../src/http/idempotency.rs"),
    include_str!("../../src/http/problem.rs"),
    include_str!("../../src/policy/denial.rs"),
];

fn all<'t>(pattern: &str, texts: impl IntoIterator<Item = &'t str>) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).expect("a pattern");
    texts.into_iter().flat_map(|text| pattern.captures_iter(text).map(|found| found[1].to_owned())).collect()
}

#[test]
fn every_error_code_has_its_row_in_the_readme_and_no_other_has() {
    let given = all(r#""([A-Z]+(?:_[A-Z]+)*)""#, SOURCES);
    assert_eq!(all(r"(?m)^\| `([A-Z_]+)` \| \d{3}", [README]), given);
}

#[test]
fn every_variable_that_the_readme_names_exists() {
    let known: BTreeSet<&str> =
        runner_broker::config::VARIABLES.iter().map(|variable| variable.name).collect();
    let section = README.split("## Running it").nth(1).and_then(|rest| rest.split("## Callers").next());
    for name in all(r"(?m)^([A-Z_]+)=", section) {
        assert!(known.contains(name.as_str()), "{name}");
    }
}

#[test]
fn the_dockerfile_has_a_stand_in_for_every_target_of_the_manifest() {
    let manifest = include_str!("../../Cargo.toml");
    let tests = all(r#"\[\[test\]\]\nname = "(\w+)""#, [manifest])
        .into_iter()
        .map(|name| format!("tests/{name}/main.rs"));
    let benches = all(r#"\[\[bench\]\]\nname = "(\w+)""#, [manifest])
        .into_iter()
        .map(|name| format!("benches/{name}.rs"));
    for file in tests.chain(benches) {
        assert!(include_str!("../../Dockerfile").contains(&format!(" {file}")), "{file}");
    }
}
