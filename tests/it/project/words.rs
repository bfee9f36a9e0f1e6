//! The words that people read, in documents, answers, pages, help and docstrings: plain ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proc_macro2::{TokenStream, TokenTree};
use regex::Regex;

use crate::project::sources::files;

/// What is not written, and what is written instead.
const RULES: &[(&str, &str)] = &[
    (r"(?i)\b(he|him|his|himself|she|her|hers|herself)\b", "they, or the noun"),
    (r"(?i)\bwhoever\b", "anybody who, or the noun"),
    (r"(?i)\bin force\b", "in effect, or applied"),
    (r"(?i)\b(is|are) to be\b", "must be, will be, or should be"),
    (r"(?i)\btells of\b", "reports, or shows"),
    (r"(?i)\bwhat came of\b", "the result"),
    (r"[«»]", "straight quotation marks"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Each line of `text` that breaks a rule, counted from `first`.
fn broken(place: &str, first: usize, text: &str, found: &mut Vec<String>) {
    static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        RULES.iter().map(|(rule, instead)| (Regex::new(rule).expect("a pattern"), *instead)).collect()
    });
    for (rule, instead) in PATTERNS.iter().filter(|(rule, _)| rule.is_match(text)) {
        for (at, line) in text.lines().enumerate() {
            if let Some(word) = rule.find(line) {
                found.push(format!("{place}:{}: '{}': write {instead}", first + at, word.as_str()));
            }
        }
    }
}

/// The texts in a source: literals, and docstrings, which are literals of an attribute. Not what `//` says.
fn texts(tokens: TokenStream, found: &mut Vec<(usize, String)>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => texts(group.stream(), found),
            TokenTree::Literal(literal) if literal.to_string().contains('"') => {
                found.push((literal.span().start().line, literal.to_string().replace("\\n", "\n")));
            }
            _ => {}
        }
    }
}

fn documents() -> Vec<PathBuf> {
    let folders = ["", "docs", "deploy", "examples", "fuzz"].map(|folder| root().join(folder));
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

#[test]
fn people_read_plain_words() {
    let mut found = Vec::new();
    let name = |path: &Path| path.strip_prefix(root()).expect("below").display().to_string();
    let documents = documents();
    assert!(documents.len() > 10, "{documents:?}");
    for path in documents {
        broken(&name(&path), 1, &fs::read_to_string(&path).expect("a text"), &mut found);
    }
    for path in files(&root().join("src")) {
        let mut all = Vec::new();
        let text = fs::read_to_string(&path).expect("a source");
        texts(text.parse().expect("Rust"), &mut all);
        for (line, text) in all {
            broken(&name(&path), line, &text, &mut found);
        }
    }
    assert!(found.is_empty(), "{} places:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_documents_are_short_enough_to_be_read() {
    let words = |path: &str| fs::read_to_string(root().join(path)).expect(path).split_whitespace().count();
    for (path, most) in
        [("README.md", 1_400), ("docs/ARCHITECTURE.md", 4_000), ("docs/PERFORMANCE.md", 2_000)]
    {
        assert!(words(path) <= most, "{path} has {} words; {most} are enough", words(path));
    }
    let all = fs::read_dir(root().join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let all = all.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let total: usize = all.map(|path| words(path.to_str().expect("a path"))).sum();
    assert!(total <= 24_000, "docs/ has {total} words; 24,000 are enough");
}

#[test]
fn a_broken_rule_is_found_in_documents_and_in_sources() {
    let mut found = Vec::new();
    broken("docs/X.md", 1, "Fine.\nAsk whoever is there.\nThe others.", &mut found);
    assert_eq!(found, ["docs/X.md:2: 'whoever': write anybody who, or the noun"]);
    let mut literals = Vec::new();
    let source = "/// His own.\n// his\nfn f() {\n    html! { p { \"Ask him.\" } }\n}";
    texts(source.parse().unwrap(), &mut literals);
    let mut found = Vec::new();
    for (line, text) in literals {
        broken("x.rs", line, &text, &mut found);
    }
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].starts_with("x.rs:4: 'him'"), "{found:?}");
}
