//! The policy's JSON Schema: as committed, as served, as printed, and against the reader.

use std::collections::BTreeSet;

use jsonschema::Validator;
use proptest::collection::vec;
use proptest::prelude::*;
use reqwest::Method;
use runner_broker::policy::{Document, schema};
use serde_json::Value;

use super::properties::{document, line, plausible_document};
use super::{defaults, faults};
use crate::cli::commands::runner_broker;
use crate::support::World;

const COMMITTED: &str = include_str!("../../../openapi/policy.schema.json");

fn validator() -> Validator {
    let schema: Value = serde_json::from_str(&schema()).expect("JSON");
    assert!(jsonschema::meta::is_valid(&schema), "a schema of draft 2020-12");
    jsonschema::validator_for(&schema).expect("a schema")
}

/// What the schema has against it; `Err`: it is not TOML, and an editor says so by itself.
pub fn objections(toml: &str) -> Result<Vec<String>, toml::de::Error> {
    thread_local!(static VALIDATOR: Validator = validator());
    let value = serde_json::to_value(with_texts_for_dates(toml::Value::Table(toml.parse()?))).expect("JSON");
    Ok(VALIDATOR.with(|validator| validator.iter_errors(&value).map(|error| error.to_string()).collect()))
}

/// As editors hold a document against a schema: JSON has no dates.
fn with_texts_for_dates(value: toml::Value) -> toml::Value {
    use toml::Value::{Array, Datetime, String, Table};
    match value {
        Datetime(date) => String(date.to_string()),
        Array(items) => Array(items.into_iter().map(with_texts_for_dates).collect()),
        Table(table) => {
            Table(table.into_iter().map(|(key, value)| (key, with_texts_for_dates(value))).collect())
        }
        other => other,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_as_served_and_as_printed_is_the_one_that_is_committed() {
    let refresh = "refresh it: cargo run -- policy schema > openapi/policy.schema.json";
    assert!(COMMITTED == schema(), "{refresh}");
    assert!(COMMITTED == runner_broker(&["policy", "schema"], &[]).out, "{refresh}");
    let world = World::new().await;
    let served = world.call(Method::GET, "/policy.schema.json", "", &[], None).await;
    assert_eq!((served.status, served.header("content-type")), (200, "application/schema+json"));
    assert_eq!(served.header("cache-control"), "public, max-age=3600");
    assert!(COMMITTED == served.text, "{refresh}");
}

#[test]
fn the_example_is_valid() {
    let example = include_str!("../../../examples/policy.toml");
    assert_eq!(objections(example).unwrap(), Vec::<String>::new());
}

/// The properties of each table with the table's place in a document.
fn tables(schema: &Value) -> [(&Value, &'static str); 4] {
    [
        (schema, ""),
        (&schema["$defs"]["team"], "[[team]]\nname = 'a'\n"),
        (&schema["$defs"]["member"], "[[admin]]\nissuer = 'i'\nclaims = { a = 'b' }\n"),
        (&schema["$defs"]["deny"], "[[deny]]\nissuer = 'i'\nclaims = { a = 'b' }\n"),
    ]
}

#[test]
fn the_reader_and_the_schema_know_the_same_keys_and_miss_the_same() {
    let schema: Value = serde_json::from_str(COMMITTED).unwrap();
    for (table, head) in tables(&schema) {
        let told = faults(&format!("{head}unknown = 1"));
        let (_, known) = told.trim().split_once("there are ").unwrap();
        let known: BTreeSet<&str> = known.split(", ").collect();
        let properties: BTreeSet<&str> =
            table["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(properties, known, "{head}");
        assert_eq!(table["additionalProperties"], false, "{head}");
    }
    for (missing, toml) in [
        ("name", "[[team]]"),
        ("issuer", "[[admin]]\nclaims = { a = 'b' }"),
        ("claims", "[[admin]]\nissuer = 'i'"),
        ("issuer", "[[deny]]\nclaims = { a = 'b' }"),
        ("claims", "[[deny]]\nissuer = 'i'"),
    ] {
        assert_eq!(faults(toml).lines().count(), 1, "{}", faults(toml));
        assert!(faults(toml).contains(&format!("{missing} is missing")), "{}", faults(toml));
        let objections = objections(toml).unwrap();
        assert!(objections.len() == 1 && objections[0].contains(missing), "{objections:?}");
    }
}

#[test]
fn every_key_is_described_with_an_example_that_is_valid() {
    let schema: Value = serde_json::from_str(COMMITTED).unwrap();
    for (table, head) in tables(&schema) {
        assert!(table["description"].is_string(), "{head}");
        for (key, property) in table["properties"].as_object().unwrap() {
            assert!(property["description"].as_str().is_some_and(|text| text.len() > 20), "{head}{key}");
            // A list of tables has its examples in the tables.
            let is_list_of_tables = property["items"]["$ref"].is_string();
            let examples = property["examples"].as_array();
            assert!(is_list_of_tables || examples.is_some_and(|all| !all.is_empty()), "{head}{key}");
            let of_key = jsonschema::validator_for(property);
            for example in examples.into_iter().flatten().chain(property.get("default")) {
                let of_key = of_key.as_ref().unwrap();
                assert!(is_list_of_tables || of_key.is_valid(example), "{head}{key}: {example}");
            }
        }
    }
}

#[test]
fn faults_of_form_are_found_by_the_reader_and_by_the_schema() {
    for toml in [
        "unknown = 1",
        "[team]\nname = 'a'",
        "team = 'a'",
        "team = [1]",
        "[[admin]]\nissuer = 'i'\nclaims = { a = 'b' }\nunknown = 1",
        "[[admin]]\nissuer = ''\nclaims = { a = 'b' }",
        "[[admin]]\nissuer = 7\nclaims = { a = 'b' }",
        "[[admin]]\nissuer = 'i'\nclaims = {}",
        "[[auditor]]\nissuer = 'i'\nclaims = 'a'",
        "[[auditor]]\nissuer = 'i'\nclaims = { a = true }",
        "[[auditor]]\nissuer = 'i'\nclaims = { '' = 'b' }",
        "[[auditor]]\nissuer = 'i'\nclaims = { '/a~2' = 'b' }",
        "[[deny]]\nissuer = 'i'\nclaims = {}",
        "[[deny]]\nissuer = ''\nclaims = { a = 'b' }",
        "[[deny]]\nissuer = 'i'\nclaims = { a = 'b' }\ncomment = 7",
        "[[deny]]\nissuer = 'i'\nclaims = { a = 'b' }\ncomment = \"a\\nb\"",
        "[[deny]]\nissuer = 'i'\nclaims = { a = 'b' }\nuntil = 7",
        "[[deny]]\nissuer = 'i'\nclaims = { a = 'b' }\nuntil = 'tomorrow'",
        "[[deny]]\nissuer = 'i'\nclaims = { a = 'b' }\nuntil = 07:30:00",
        "[[deny]]\nissuer = 'i'\nclaims = { a = 'b' }\nuntil = 2026-12-31T18:00:00",
    ] {
        assert!(!faults(toml).is_empty());
        assert!(!objections(toml).unwrap().is_empty(), "{toml}");
    }
    for line in [
        "unknown = 1",
        "description = ['a']",
        "description = \"\\u0007\"",
        "required_labels = 'a'",
        "required_labels = ['a,b']",
        "allowed_labels = [1]",
        "allowed_labels = ['']",
        "methods = []",
        "methods = ['JIT']",
        "methods = 'jit'",
        "targets = []",
        "targets = ['a/b/c']",
        "targets = ['*/a']",
        "runner_groups = []",
        "runner_groups = [0]",
        "runner_groups = [1.5]",
        "max_runners = -1",
        "max_runners = '1'",
        "requests_per_minute = 1.5",
        "member = { issuer = 'i', claims = { a = 'b' } }",
        "member = [{ issuer = 'i' }]",
    ] {
        let toml = format!("[[team]]\nname = 'a'\n{line}");
        assert!(!faults(&toml).is_empty());
        assert!(!objections(&toml).unwrap().is_empty(), "{line}");
    }
    for name in ["", " a", "a ", "a/b", "ä", &"a".repeat(65)] {
        let toml = format!("[[team]]\nname = '{name}'");
        assert!(!faults(&toml).is_empty());
        assert!(!objections(&toml).unwrap().is_empty(), "{name}");
    }
}

/// The schema says no more than the reader does.
fn assert_no_stricter(toml: &str) -> Result<bool, TestCaseError> {
    let is_read = Document::read(toml, &defaults()).is_ok();
    if is_read {
        let objections = objections(toml).map_err(|err| TestCaseError::fail(err.to_string()))?;
        prop_assert!(objections.is_empty(), "{}\n{:?}", toml, objections);
    }
    Ok(is_read)
}

proptest! {
    #[test]
    fn the_schema_accepts_every_document_that_the_reader_accepts(document in document()) {
        assert_no_stricter(&document.to_toml())?;
    }

    #[test]
    fn the_schema_accepts_every_plausible_document(document in plausible_document()) {
        prop_assert!(assert_no_stricter(&document.to_toml())?, "{}", faults(&document.to_toml()));
    }

    #[test]
    fn the_schema_accepts_all_lines_that_the_reader_accepts(lines in vec(line(), 0..12)) {
        assert_no_stricter(&lines.join("\n"))?;
    }
}
