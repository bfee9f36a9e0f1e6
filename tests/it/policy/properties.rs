//! What holds for every policy and every request.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use regex::Regex;
use runner_broker::model::{GroupRef, Label, Method, system_labels};
use runner_broker::policy::{Ask, DenyEntry, Document, Member, Memberships, TeamEntry, Until, Usage};
use serde_json::json;

use super::{ISSUER, ask, decide, defaults, memberships};

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-cA-C]{1,3}",
        "[a-c]{1,2}-\\[0-9\\]\\+",
        "[a-c]{1,2}\\|[a-c]{1,2}",
        "[a-c]\\.\\*",
        Just(".*".to_owned()),
        Just("(?x) a b # c".to_owned()),
        Just("ubuntu-.*".to_owned()),
        Just(r"ubuntu-22\.04".to_owned()),
    ]
}

fn label() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-cA-C]{1,4}",
        "[a-c]{1,2}-[0-9]{1,2}",
        "[ -+.-~]{0,8}[!-+.-~]",
        proptest::sample::select(vec![
            "ubuntu-22.04",
            "ubuntu-latest",
            "Self-Hosted",
            "selfhosted",
            "LINUX",
            "windows",
            "x64",
            "arm",
        ])
        .prop_map(str::to_owned),
    ]
}

fn member_of(team: TeamEntry) -> Memberships {
    let member = Member { issuer: ISSUER.into(), claims: [("sub".to_owned(), "me".to_owned())].into() };
    let document = Document { team: vec![TeamEntry { member: vec![member], ..team }], ..Document::default() };
    memberships(&document.check(&defaults()).unwrap(), json!({ "sub": "me" }))
}

fn asking(labels: &BTreeSet<String>) -> Ask {
    ask(&labels.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Written apart from the broker's own matching: the anchors go around the text.
fn matches(pattern: &str, label: &str) -> bool {
    let end_of_comment = if pattern.contains("(?x)") { "\n" } else { "" };
    Regex::new(&format!(r"\A(?i:{pattern}{end_of_comment})\z")).unwrap().is_match(label)
}

proptest! {
    #[test]
    fn every_label_of_a_grant_is_the_systems_or_required_or_matches_a_pattern(
        required in btree_set(label(), 0..3),
        allowed in vec(pattern(), 0..4),
        labels in btree_set(label(), 0..5),
    ) {
        let me = member_of(TeamEntry {
            required_labels: required.iter().cloned().collect(),
            allowed_labels: allowed.clone(),
            ..TeamEntry::named("t")
        });
        let ask = asking(&labels);
        let required: BTreeSet<Label> = required.iter().map(|label| label.parse().unwrap()).collect();
        let always: BTreeSet<Label> = &required | &system_labels(ask.os, ask.arch);
        let custom: Vec<&Label> = ask.labels.difference(&always).collect();
        match decide(&me, &ask, Usage::default()) {
            Ok(grant) => {
                prop_assert_eq!(grant.labels(), &(&always | &ask.labels));
                for label in custom {
                    prop_assert!(allowed.iter().any(|pattern| matches(pattern, label.as_str())), "{}", label);
                }
            }
            Err(denial) => {
                prop_assert_eq!(denial.code(), "LABEL_POLICY_VIOLATION");
                let told = denial.to_string();
                for label in ask.labels.intersection(&always) {
                    let named = format!("'{label}'");
                    prop_assert!(!told.contains(&named) || label.as_str().contains('\''), "{}", told);
                }
                let reserved = |label: &&Label| {
                    ["ubuntu-", "self"].iter().any(|start| label.as_str().starts_with(start))
                        || ["windows", "arm"].contains(&label.as_str())
                };
                let unmatched = |label: &&Label| !allowed.iter().any(|pattern| matches(pattern, label.as_str()));
                prop_assert!(custom.iter().any(|label| reserved(label) || unmatched(label)));
            }
        }
    }

    #[test]
    fn taking_a_pattern_away_never_allows_more(
        allowed in vec(pattern(), 1..5),
        labels in btree_set(label(), 0..4),
        removed in any::<prop::sample::Index>(),
    ) {
        let with = TeamEntry { allowed_labels: allowed, ..TeamEntry::named("t") };
        let mut without = with.clone();
        without.allowed_labels.remove(removed.index(with.allowed_labels.len()));
        let ask = asking(&labels);
        if decide(&member_of(with), &ask, Usage::default()).is_err() {
            prop_assert!(decide(&member_of(without), &ask, Usage::default()).is_err());
        }
    }

    #[test]
    fn a_label_that_only_begins_or_ends_like_an_allowed_one_is_refused(
        word in "[a-z]{1,8}", more in "[a-z0-9._-]{1,8}", alternative in "[a-z]{1,8}",
    ) {
        let allowed_labels = vec![word.clone(), format!("{word}|{word}"), format!("({word})|(?:{word})")];
        let me = member_of(TeamEntry { allowed_labels, ..TeamEntry::named("t") });
        for near in [format!("{word}{more}"), format!("{more}{word}"), format!("{word}{alternative}")] {
            prop_assume!(!["x64", "linux", "self-hosted"].contains(&near.as_str()));
            prop_assert!(decide(&me, &asking(&[near].into()), Usage::default()).is_err());
        }
    }

    #[test]
    fn labels_are_matched_without_regard_to_case(word in "[a-zA-Z]{1,8}", suffix in "[A-Z]{1,4}") {
        let allowed_labels = vec![word.clone(), format!("(?:{suffix})+[0-9]")];
        let me = member_of(TeamEntry { allowed_labels, ..TeamEntry::named("t") });
        let labels = [word.to_uppercase(), word.to_lowercase(), format!("{}7", suffix.to_lowercase())];
        prop_assume!(!labels.iter().any(|label| label.eq_ignore_ascii_case("arm")));
        prop_assert!(decide(&me, &asking(&labels.into()), Usage::default()).is_ok());
    }

    #[test]
    fn no_text_gets_past_the_ends_of_a_pattern(pattern in "\\PC{0,12}|[ab()|\\\\^$.*?#xi:-]{0,10}") {
        let team = TeamEntry { allowed_labels: vec![pattern.clone()], ..TeamEntry::named("t") };
        let document = Document { team: vec![team.clone()], ..Document::default() };
        let text_compiles = Regex::new(&pattern).is_ok();
        prop_assert_eq!(document.check(&defaults()).is_ok(), text_compiles && !pattern.is_empty());
        if text_compiles && !pattern.is_empty() {
            let me = member_of(team);
            for label in ["a", "b", "ab", "ba", "aab", "x", "a|b", "i", ".", "-"] {
                let granted = decide(&me, &asking(&[label.to_owned()].into()), Usage::default()).is_ok();
                // A comment would swallow the end of the text that the other way of matching is made of.
                prop_assert!(pattern.contains('#') || granted == matches(&pattern, label), "{}", label);
            }
        }
    }

    #[test]
    fn a_grant_never_exceeds_the_numbers(
        most in option::of(0i64..5), a_minute in option::of(0i64..5), live in 0i64..8, recent in 0i64..8,
    ) {
        let me = member_of(TeamEntry { max_runners: most, requests_per_minute: a_minute, ..TeamEntry::named("t") });
        let granted = decide(&me, &ask(&[]), Usage { live_runners: live, recent_requests: recent }).is_ok();
        let fits = most.is_none_or(|most| live < most) && a_minute.is_none_or(|most| recent < most);
        prop_assert_eq!(granted, fits);
    }

    #[test]
    fn no_text_at_all_makes_the_reader_panic(text in "\\PC*|(\\[\\[team\\]\\]|[ \n\"'=,.\\[\\]{}a-z0-9_-]){0,80}") {
        let _ = Document::read(&text, &defaults());
    }

    #[test]
    fn lines_in_any_order_are_read_as_serde_reads_them(lines in vec(line(), 0..12)) {
        let text = lines.join("\n");
        let read = Document::parse(&text);
        match toml::from_str::<Document>(&text) {
            Ok(document) => prop_assert_eq!(read, Ok(document)),
            Err(_) => prop_assert!(read.is_err_and(|faults| faults.iter().all(|fault| fault.line.is_some()))),
        }
    }

    #[test]
    fn what_is_shown_reads_as_the_same_document(document in document()) {
        let shown = document.to_toml();
        prop_assert_eq!(Document::parse(&shown), Ok(document.clone()), "{}", shown);
        prop_assert_eq!(toml::from_str::<Document>(&shown).unwrap(), document);
    }
}

pub fn line() -> impl Strategy<Value = String> {
    let lines = [
        "[[team]]",
        "[[team]]\nname = 'a'",
        "[[team.member]]",
        "[[admin]]",
        "[admin]",
        "[team.member.claims]",
        "[[team.member]]\nissuer = 'i'\nclaims = { a = 'b' }",
        "name = 'x'",
        "name = 1",
        "issuer = ''",
        "a = 'b'",
        "claims = {}",
        "claims = { a = 1 }",
        "max_runners = 0x1_0",
        "max_runners = +3",
        "max_runners = 1.0",
        "requests_per_minute = 99999999999999999999",
        "methods = ['jit']",
        "methods = ['JIT']",
        "methods = []",
        "targets = ['a', 1]",
        "runner_groups = ['a', 1]",
        "runner_groups = [1.5]",
        "description = \"\"\"\na\"\"\"",
        "member = []",
        "member = [{ issuer = 'i', claims = {} }]",
        "team = []",
        "[[deny]]",
        "[[deny]]\nissuer = 'i'\nclaims = { a = 'b' }",
        "comment = 'x'",
        "comment = 1",
        "until = '2026-12-31'",
        "until = 2026-12-31",
        "until = 2026-12-31 18:00:00.5+01:00",
        "until = 2026-12-31T18:00:00",
        "until = 18:00:00",
        "until = 'x'",
        "until = 1",
        "unknown = 1",
        "targets = 'a'",
    ];
    proptest::sample::select(lines.to_vec()).prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z./-]{0,8}", any::<String>(), Just("\u{7f}\r\n\t\u{0}'''\"\"\"\\".to_owned())]
}

fn member() -> impl Strategy<Value = Member> {
    (text(), btree_map(text(), text(), 0..3))
        .prop_map(|(issuer, claims): (_, BTreeMap<_, _>)| Member { issuer, claims })
}

fn a_team() -> impl Strategy<Value = TeamEntry> {
    let group = prop_oneof![any::<i64>().prop_map(GroupRef::Id), text().prop_map(GroupRef::Name)];
    let words = (text(), text(), vec(text(), 0..3), vec(text(), 0..3));
    let rest = (
        vec(proptest::sample::select(Method::ALL.to_vec()), 0..3),
        option::of(vec(text(), 0..3)),
        option::of(vec(group, 0..3)),
        option::of(any::<i64>()),
        option::of(any::<i64>()),
        vec(member(), 0..3),
    );
    (words, rest).prop_map(|((name, description, required_labels, allowed_labels), rest)| {
        let (methods, targets, runner_groups, max_runners, requests_per_minute, member) = rest;
        TeamEntry {
            name,
            description,
            required_labels,
            allowed_labels,
            methods,
            targets,
            runner_groups,
            max_runners,
            requests_per_minute,
            member,
        }
    })
}

/// Within the years that RFC 3339 can write.
fn until() -> impl Strategy<Value = Option<Until>> {
    let micros = -62_135_596_800_000_000i64..253_402_300_800_000_000;
    option::of(micros.prop_map(|at| Until::new(DateTime::from_timestamp_micros(at).unwrap()).unwrap()))
}

fn denial(
    member: impl Strategy<Value = Member>,
    comment: impl Strategy<Value = String>,
) -> impl Strategy<Value = DenyEntry> {
    (member, comment, until()).prop_map(|(Member { issuer, claims }, comment, until)| DenyEntry {
        issuer,
        claims,
        comment,
        until,
    })
}

pub fn document() -> impl Strategy<Value = Document> {
    (vec(a_team(), 0..3), vec(member(), 0..2), vec(member(), 0..2), vec(denial(member(), text()), 0..3))
        .prop_map(|(team, admin, auditor, deny)| Document {
            team,
            admin,
            auditor,
            deny,
            ..Document::default()
        })
}

/// One that has no fault: the words of each key at their edges.
pub fn plausible_document() -> impl Strategy<Value = Document> {
    let name = "[A-Za-z0-9._-]{1,3}( [A-Za-z0-9._-]{1,3}){0,2}|[a-z]{64}";
    let target = "[a-z0-9][A-Za-z0-9_-]{0,38}(/[A-Za-z0-9_*-][A-Za-z0-9._*-]{0,99})?";
    let group =
        prop_oneof![(1..=i64::MAX).prop_map(GroupRef::Id), "[^\\p{C}\\s]\\PC{0,3}".prop_map(GroupRef::Name)];
    let words = (name, "(\\PC|[\n\r\t]){0,20}", vec(label(), 0..3), vec(pattern(), 0..3));
    let rest = (
        vec(proptest::sample::select(Method::ALL.to_vec()), 1..3),
        option::of(vec(target, 1..3)),
        option::of(vec(group, 1..3)),
        option::of(0..=i64::MAX),
        option::of(0..=i64::MAX),
        vec(plausible_member(), 0..3),
    );
    let team = (words, rest).prop_map(|((name, description, required_labels, allowed_labels), rest)| {
        let (methods, targets, runner_groups, max_runners, requests_per_minute, member) = rest;
        TeamEntry {
            description,
            required_labels,
            allowed_labels,
            methods,
            targets,
            runner_groups,
            max_runners,
            requests_per_minute,
            member,
            ..TeamEntry::named(name)
        }
    });
    let denials = vec(denial(plausible_member(), "\\PC{0,500}"), 0..3);
    (option::of(team), vec(plausible_member(), 0..2), vec(plausible_member(), 0..2), denials).prop_map(
        |(team, admin, auditor, deny)| Document {
            team: team.into_iter().collect(),
            admin,
            auditor,
            deny,
            ..Document::default()
        },
    )
}

fn plausible_member() -> impl Strategy<Value = Member> {
    let claim = "[^/\\p{C}]\\PC{0,5}|(/([^~/\\p{C}]|~0|~1){0,3}){1,3}";
    ("\\PC{1,9}", btree_map(claim, pattern(), 1..3)).prop_map(|(issuer, claims)| Member { issuer, claims })
}
