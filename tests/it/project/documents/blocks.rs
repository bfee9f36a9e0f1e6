//! Blocks that need no shell: policies and settings are what the service accepts, JSON is JSON. What is run is run
//! in `tests/peers/documents.rs`.

use std::fs;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use runner_broker::policy::{Defaults, Document as Policy, Rules};
use tempfile::TempDir;
use url::Url;

use crate::cli::commands::{Environment, environment, runner_broker};
use crate::markdown::{Block, Kind, documents};
use crate::policy::schema::objections;
use crate::support::migrated;

fn blocks(is_wanted: impl Fn(&Kind) -> bool) -> Vec<Block> {
    let blocks: Vec<Block> = documents().iter().flat_map(|document| document.blocks()).collect();
    let wanted: Vec<Block> = blocks.into_iter().filter(|block| is_wanted(&block.kind)).collect();
    assert!(!wanted.is_empty(), "there is none: is it still looked for rightly?");
    wanted
}

#[test]
fn every_block_says_what_it_is() {
    // `blocks` panics at one that does not.
    let (all, run) = (blocks(|_| true).len(), blocks(|kind| *kind == Kind::Run).len());
    let not_run = blocks(|kind| matches!(kind, Kind::NotRun(_))).len();
    assert!(run > 2 * not_run, "of {all} blocks {run} are run and {not_run} are not");
}

#[test]
fn every_json_block_is_json() {
    for block in blocks(|kind| *kind == Kind::Json) {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(&block.text);
        assert!(parsed.is_ok(), "{}: {}", block.place, parsed.unwrap_err());
    }
}

#[test]
fn every_policy_is_one_that_the_service_accepts() {
    for block in blocks(|kind| *kind == Kind::Policy) {
        // Members alone are those of a team that stands elsewhere.
        let text = match block.text.starts_with("[[team.member]]") {
            true => format!("[[team]]\nname = \"ml\"\n{}", block.text),
            false => block.text.clone(),
        };
        let faults = match Policy::parse(&text) {
            Ok(document) => Rules::compile(&document, &defaults()).err().unwrap_or_default(),
            Err(faults) => faults,
        };
        assert!(faults.is_empty(), "{}: {faults:?}", block.place);
        let objections = objections(&text).expect("TOML");
        assert!(objections.is_empty(), "{}: by the schema: {objections:?}", block.place);
    }
}

fn defaults() -> Defaults {
    Defaults { target: "octo-org".parse().expect("a target"), group_id: 1 }
}

/// Stand-ins for the files that the documents name, where `/etc/runner-broker` and `/run/secrets` are.
fn files() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["broker.example.com".to_owned()]).expect("a certificate");
    let key = runner_broker::dev::github::private_key_pem();
    let files = [
        ("app.pem", key.to_owned()),
        ("policy.toml", String::new()),
        ("tls.crt", cert.pem()),
        ("tls.key", signing_key.serialize_pem()),
        ("sso", "a client's secret".to_owned()),
        ("gitlab", "a client's secret".to_owned()),
        ("github", "a client's secret".to_owned()),
    ];
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

#[tokio::test]
async fn every_line_of_settings_is_one_that_the_service_accepts() {
    let database = migrated().await;
    // Postgres is asked last, and refuses at once: who gets so far has no fault.
    let mut nowhere = Url::parse(database.url()).expect("a URL");
    nowhere.set_path("no_such_database");
    let known: Vec<&str> = runner_broker::config::VARIABLES.iter().map(|variable| variable.name).collect();
    let files = files();
    let folder = files.path().display().to_string();
    for block in blocks(|kind| *kind == Kind::Env) {
        let lines: Vec<&str> =
            block.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        let settings: Vec<(&'static str, String)> = lines
            .iter()
            .map(|line| {
                let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{}: {line}", block.place));
                let known = known.iter().find(|known| **known == name);
                let name = known.unwrap_or_else(|| panic!("{}: there is no {name}", block.place));
                let value = value.trim_matches('\'').replace("/etc/runner-broker", &folder);
                (*name, value.replace("/run/secrets", &folder))
            })
            .collect();
        // Of lines that give one variable several values each is tried.
        for one in &settings {
            let mut tried: Environment = environment();
            tried.extend(settings.iter().cloned());
            tried.push(one.clone());
            tried.push(("DATABASE_URL", nowhere.to_string()));
            let has = |wanted: &str| settings.iter().any(|(name, _)| *name == wanted);
            tried.retain(|(name, _)| match *name {
                "GITHUB_APP_PRIVATE_KEY" => !has("GITHUB_APP_PRIVATE_KEY_PATH"),
                "HTTPS_ENABLED" => !has("HTTPS_CERT_FILE"),
                _ => true,
            });
            let ended = runner_broker(&["serve"], &tried);
            assert_eq!(ended.code, 1, "{}: {}: {}", block.place, one.0, ended.err);
        }
    }
}
