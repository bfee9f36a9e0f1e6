//! Policy documents: read with every fault and its line, compiled, printed and read again, and judged.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runner_broker::policy::{Defaults, Document, Known};

static DEFAULTS: LazyLock<Defaults> =
    LazyLock::new(|| Defaults { target: "octo-org".parse().expect("an organisation's name"), group_id: 1 });

fuzz_target!(|text: &str| {
    let lines = text.matches('\n').count() + 1;
    if let Err(faults) = Document::read(text, &DEFAULTS) {
        assert!(!faults.is_empty(), "a refusal says why");
        for fault in faults {
            assert!(!fault.what.is_empty());
            assert!(fault.line.is_some_and(|line| (1..=lines).contains(&line)), "{fault:?}");
        }
    }
    let Ok(document) = Document::parse(text) else { return };
    let shown = document.to_toml();
    let again = Document::parse(&shown).unwrap_or_else(|faults| panic!("{shown}\n{faults:?}"));
    assert_eq!(again, document, "{shown}");
    let (rules, same) = (document.check(&DEFAULTS), again.check(&DEFAULTS));
    assert_eq!(rules.is_ok(), same.is_ok());
    if let Ok(rules) = rules {
        assert_eq!(rules.teams().len(), document.team.len());
        // Whom a document names, and with nothing in the token that matches.
        for member in document.admin.iter().chain(&document.auditor) {
            rules.memberships(&member.issuer, &serde_json::Map::new());
        }
        let now = chrono::DateTime::UNIX_EPOCH;
        for entry in &document.deny {
            // A rule wants at least one claim.
            assert_eq!(rules.denied(&entry.issuer, &serde_json::Map::new(), now), None);
        }
        let known = Known { issuers: Some(&[]), current: Some(&again), now };
        assert!(document.lint(&known).iter().all(|warning| !warning.what.is_empty()));
        let judged = document.explain("issuer", &serde_json::Map::new(), now);
        assert!(judged.iter().all(|rule| !rule.against.is_empty()));
    }
});
