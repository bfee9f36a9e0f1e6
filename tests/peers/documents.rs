//! The commands of the documents, run as they are written: each document's `sh` blocks in order, in one shell, in a
//! fresh folder, against a broker that serves. What a document shows as the output is compared in its shape.

mod shape;
mod shell;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::markdown::{Kind, document, documents};
use crate::tools::{machine_program, openapi, python_program, run};
use shape::{differs_from_json, differs_from_text};
use shell::{Around, Ran, Shell};

/// Whose commands need what around them. A document that is not here has none that are run.
const AROUND: &[(&str, Around)] = &[
    ("README.md", Around::Dev),
    ("docs/API.md", Around::Dev),
    ("docs/CALLERS.md", Around::Dev),
    ("docs/CONCEPTS.md", Around::Dev),
    ("docs/AUDIT.md", Around::Replica),
    ("docs/OPERATING.md", Around::Replica),
    ("docs/SECURITY.md", Around::Replica),
    ("docs/UPGRADING.md", Around::Replica),
    ("examples/README.md", Around::Dev),
];

/// Programs that the documents' commands want.
const PROGRAMS: [&str; 6] = ["bash", "curl", "jq", "openssl", "psql", "pg_dump"];

/// Runs all that a document wants run; `None`: a program is missing.
async fn all_of(path: &str) -> Option<Vec<Ran>> {
    for program in PROGRAMS {
        machine_program(program)?;
    }
    let around = AROUND.iter().find(|(of, _)| *of == path).unwrap_or_else(|| panic!("{path} is in no table"));
    let runs = document(path).runs();
    let mut shell = Shell::new(path, around.1).await;
    let blocks: Vec<_> = runs.iter().map(|(block, _)| block.clone()).collect();
    let ran = shell.run(&blocks).await;
    for (ran, (block, output)) in ran.iter().zip(&runs) {
        let wanted = output.as_ref().and_then(|output| status_of(&output.text));
        for (index, call) in ran.calls.iter().enumerate() {
            let is_last = index + 1 == ran.calls.len();
            let is_right = match wanted.filter(|_| is_last) {
                Some(status) => call.status == status,
                None => (100..400).contains(&call.status),
            };
            assert!(is_right, "{}: {call:?}\n{}\n{}", block.place, block.text, ran.out);
        }
        let Some(output) = output else { continue };
        let difference = match output.kind {
            Kind::Json => differs_from_json(&output.text, &ran.out),
            _ => differs_from_text(&output.text, &ran.out),
        };
        assert!(difference.is_none(), "{}: {}\n{}", output.place, difference.unwrap_or_default(), ran.out);
    }
    Some(ran)
}

/// The status of a problem that a document shows.
fn status_of(text: &str) -> Option<u16> {
    let shown: Value = serde_json::from_str(text).ok()?;
    shown.get("error_code")?;
    shown["status"].as_u64().and_then(|status| status.try_into().ok())
}

macro_rules! documents_that_run {
    ($($name:ident: $path:literal,)*) => {
        const TESTED: &[&str] = &[$($path),*];
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                all_of($path).await;
            }
        )*
    };
}

documents_that_run! {
    the_commands_of_the_readme_do_what_it_says: "README.md",
    the_commands_of_audit_do_what_it_says: "docs/AUDIT.md",
    the_commands_of_callers_do_what_it_says: "docs/CALLERS.md",
    the_commands_of_concepts_do_what_it_says: "docs/CONCEPTS.md",
    the_commands_of_the_examples_do_what_it_says: "examples/README.md",
    the_commands_of_operating_do_what_it_says: "docs/OPERATING.md",
    the_commands_of_security_do_what_it_says: "docs/SECURITY.md",
    the_commands_of_upgrading_do_what_it_says: "docs/UPGRADING.md",
}

#[test]
fn every_document_with_commands_is_run() {
    for document in documents() {
        let runs = !document.runs().is_empty();
        let tested = TESTED.contains(&document.path.as_str()) || document.path == "docs/API.md";
        assert_eq!(runs, tested, "{}", document.path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_api_do_what_it_says_and_call_every_operation() {
    let Some(ran) = all_of("docs/API.md").await else { return };
    let made: Vec<(String, String)> = ran
        .iter()
        .flat_map(|ran| &ran.calls)
        .map(|call| (call.method.to_lowercase(), call.path.clone()))
        .collect();
    let document: Value =
        serde_json::from_str(&std::fs::read_to_string(openapi()).expect("a file")).expect("JSON");
    let mut missing = BTreeSet::new();
    for (template, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            let called = made.iter().any(|(by, path)| by == method && fits(template, path));
            if !called {
                missing.insert(format!("{method} {template}"));
            }
        }
    }
    assert!(missing.is_empty(), "never called: {missing:#?}");
}

/// Whether a path is one of a template's; a parameter stands for no other operation's word.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let words = ["jit", "provision"];
    template.len() == path.len()
        && template.iter().zip(&path).all(|(wanted, found)| match wanted.starts_with('{') {
            true => !found.is_empty() && !words.contains(found),
            false => wanted == found,
        })
}

#[tokio::test]
async fn every_yaml_block_is_yaml() {
    let Some(python) = python_program("python") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(python);
    command.args(["-c", "import sys, yaml\nfor file in sys.argv[1:]: list(yaml.safe_load_all(open(file)))"]);
    let blocks = documents().into_iter().flat_map(|document| document.blocks());
    let mut count = 0;
    for block in blocks.filter(|block| block.kind == Kind::Yaml) {
        let file = folder.path().join(format!("{}.yaml", block.place.replace('/', "-")));
        std::fs::write(&file, block.text).expect("a file");
        command.arg(file);
        count += 1;
    }
    assert!(count > 0, "there is none: is it still looked for rightly?");
    run(&mut command, Duration::from_secs(60)).await;
}
