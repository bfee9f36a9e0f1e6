//! Warnings about a policy that is valid: each names its line and the claim, label or issuer, and a tight policy has
//! none.

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use runner_broker::policy::{Document, Known};

use super::properties::plausible_document;

const GITHUB: &str = "https://token.actions.githubusercontent.com";

fn now() -> DateTime<Utc> {
    "2026-11-30T12:00:00Z".parse().expect("a time")
}

fn warnings_with(toml: &str, issuers: Option<&[&str]>, current: Option<&str>) -> Vec<String> {
    let document = |toml: &str| {
        let document = Document::parse(toml).unwrap_or_else(|faults| panic!("{toml}\n{faults:?}"));
        document.check(&super::defaults()).unwrap_or_else(|faults| panic!("{toml}\n{faults:?}"));
        document
    };
    let issuers: Option<Vec<String>> = issuers.map(|all| all.iter().map(|one| one.to_string()).collect());
    let current = current.map(document);
    let known = Known { issuers: issuers.as_deref(), current: current.as_ref(), now: now() };
    document(toml).lint(&known).iter().map(ToString::to_string).collect()
}

fn warnings(toml: &str) -> Vec<String> {
    warnings_with(toml, None, None)
}

/// A team with these allowed labels and one member of these claims, in the lines 3 and 6.
fn member(labels: &str, issuer: &str, claims: &str) -> String {
    format!(
        "[[team]]\nname = 'ml'\nallowed_labels = {labels}\n[[team.member]]\nissuer = '{issuer}'\nclaims = {{ {claims} }}\n"
    )
}

/// The only warning; it is about this line and has these words.
fn only(found: &[String], line: usize, words: &[&str]) {
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with(&format!("line {line}: ")), "{found:?}");
    for word in words {
        assert!(found[0].contains(word), "{word}: {found:?}");
    }
}

#[test]
fn a_rule_that_matches_nearly_everybody_is_warned_of_by_what_it_matches() {
    for pattern in [
        ".*",
        ".+",
        "alice|.*",
        "[^x]*",
        ".*/.*",
        "(?s).+",
        "[a-zA-Z0-9/_.:-]+",
        "(a|b|[^a]).*",
        "repo:.*",
        ".{2,}",
    ] {
        for claim in ["sub", "repository", "groups", "\"/realm_access/roles\"", "actor"] {
            let found =
                warnings(&member("['gpu']", "https://login.example.com", &format!("{claim} = '{pattern}'")));
            only(
                &found,
                6,
                &["nearly everybody", claim.trim_matches('"'), pattern, "https://login.example.com"],
            );
            for role in ["admin", "auditor"] {
                let toml = format!("[[{role}]]\nissuer = '{GITHUB}'\nclaims = {{ {claim} = '{pattern}' }}");
                only(&warnings(&toml), 3, &["nearly everybody", GITHUB, role]);
            }
        }
    }
    // Of several claims one that is narrow is enough, and several wide ones are not.
    let several = member("['gpu']", GITHUB, "repository = '.*/.*', ref = 'refs/heads/main'");
    only(&warnings(&several), 6, &["'repository'", "'ref'", "nearly everybody"]);
    let several = member("['gpu']", GITHUB, "repository = '.*/.*', repository_id = '74'");
    assert_eq!(warnings(&several), Vec::<String>::new());
}

#[test]
fn what_anybody_may_choose_is_nobodys() {
    for claims in [
        "ref = 'refs/heads/main'",
        "environment = 'production', event_name = 'push'",
        "job_workflow_ref = 'octo-org/ml/.github/workflows/x.yml@refs/heads/main'",
        "aud = 'runner-broker'",
        "\"/ref\" = 'refs/heads/main'",
    ] {
        only(&warnings(&member("['gpu']", GITHUB, claims)), 6, &["nearly everybody", GITHUB]);
    }
    only(
        &warnings(&member("['gpu']", "https://gitlab.com", "ref_protected = 'true'")),
        6,
        &["nearly everybody", "'ref_protected'"],
    );
    let own = member("['gpu']", "https://gitlab.example.com", "ref_protected = 'true'");
    assert_eq!(warnings(&own), Vec::<String>::new(), "a server of one's own");
}

#[test]
fn names_that_can_pass_to_somebody_else_are_warned_of() {
    for (issuer, claims, claim, better) in [
        ("https://github.com", "login = 'mona'", "'login'", "id"),
        (GITHUB, "actor = 'mona'", "'actor'", "actor_id"),
        (GITHUB, "actor = 'mona', ref = 'refs/heads/main'", "'actor'", "actor_id"),
        ("https://gitlab.com", "user_login = 'mona'", "'user_login'", "user_id"),
        ("https://login.example.com", "preferred_username = 'ann'", "'preferred_username'", "sub"),
        ("https://login.example.com", "email = 'ann@example\\.com'", "'email'", "email_verified"),
        ("https://login.example.com", "email = '.*@example\\.com'", "'email'", "email_verified"),
    ] {
        only(&warnings(&member("['gpu']", issuer, claims)), 6, &[claim, better, "somebody else"]);
    }
    for claims in [
        "email = 'ann@example\\.com', email_verified = 'true'",
        "email = 'ann@example\\.com', sub = '42'",
        "login = 'mona', id = '1'",
        "actor = 'mona', actor_id = '7'",
        "actor = 'mona', repository = 'octo-org/ml'",
    ] {
        assert_eq!(warnings(&member("['gpu']", GITHUB, claims)), Vec::<String>::new(), "{claims}");
    }
}

#[test]
fn an_owner_that_is_left_open_is_warned_of() {
    for (claim, pattern) in [
        ("repository", ".*/ml"),
        ("repository", "[^/]+/ml-train"),
        ("repository", "octo-org.*"),
        ("repository", "octo.org/ml"),
        ("repository_owner", "octo-.*"),
        ("sub", "repo:.*/ml:ref:refs/heads/main"),
        ("sub", "repo:octo-org.*"),
        ("sub", "repo:octo-org[^:]*:environment:prod"),
    ] {
        let found = warnings(&member("['gpu']", GITHUB, &format!("{claim} = '{pattern}'")));
        only(&found, 6, &[claim, pattern, "owner"]);
    }
}

#[test]
fn a_whole_owner_with_every_label_is_warned_of() {
    for claims in [
        "repository_owner = 'octo-org'",
        "repository_owner_id = '65'",
        "repository = 'octo-org/.*'",
        "sub = 'repo:octo-org/.*'",
        "repository_owner = 'octo-org', ref = 'refs/heads/main'",
    ] {
        for labels in ["['.*']", "['gpu', '[^x]*']"] {
            only(
                &warnings(&member(labels, GITHUB, claims)),
                6,
                &["every repository of the owner", "every label"],
            );
        }
        assert_eq!(warnings(&member("['gpu-.*']", GITHUB, claims)), Vec::<String>::new(), "{claims}");
        let admin = format!("[[admin]]\nissuer = '{GITHUB}'\nclaims = {{ {claims} }}");
        only(&warnings(&admin), 3, &["every repository of the owner", "change everything"]);
    }
    let narrow = member("['.*']", GITHUB, "repository_owner = 'octo-org', repository_id = '74'");
    assert_eq!(warnings(&narrow), Vec::<String>::new());
}

#[test]
fn issuers_that_are_not_configured_are_warned_of_and_near_misses_named() {
    let toml = member("['gpu']", "https://login.example.com/", "sub = 'a'");
    only(
        &warnings_with(&toml, Some(&["https://login.example.com"]), None),
        5,
        &["'https://login.example.com/'", "'https://login.example.com'", "last character"],
    );
    for issuer in ["http://login.example.com/", "HTTPS://Login.example.com", "login.example.com"] {
        let found = warnings_with(&toml, Some(&[GITHUB, issuer]), None);
        only(&found, 5, &["https://login.example.com/", issuer, "last character"]);
    }
    only(
        &warnings_with(&toml, Some(&[GITHUB]), None),
        5,
        &["https://login.example.com/", "OIDC_EXTRA_ISSUERS"],
    );
    assert_eq!(warnings_with(&toml, Some(&["https://login.example.com/"]), None), Vec::<String>::new());
    let deny = "[[deny]]\nissuer = 'https://x.example'\nclaims = { sub = 'a' }";
    only(&warnings_with(deny, Some(&[GITHUB]), None), 2, &["deny", "https://x.example"]);
}

#[test]
fn teams_without_members_and_labels_that_never_match_are_warned_of() {
    only(&warnings("[[team]]\nname = 'ml'\n"), 1, &["team 'ml'", "no members"]);
    for pattern in
        ["ubuntu-.*", ".*-latest", "self-hosted.*", "ubuntu-22.04", "(windows|macos)-.+", "linux|x64"]
    {
        only(
            &warnings(&member(&format!("['{pattern}']"), GITHUB, "repository_id = '7'")),
            3,
            &[pattern, "reserved"],
        );
    }
    for pattern in ["a,b|c,d", "é+", "\\\\n+"] {
        let labels = format!("[\"{pattern}\"]");
        only(&warnings(&member(&labels, GITHUB, "repository_id = '7'")), 3, &["can be a label"]);
    }
    for pattern in
        [r"ubuntu-22\.04", "(ubuntu|gpu)-.*", "ubuntu.*", ".*", "cuda-[0-9]+", "gpu", "(?i)GPU-?[a-z]*"]
    {
        let toml = member(&format!("['{pattern}']"), GITHUB, "repository_id = '7'");
        assert_eq!(warnings(&toml), Vec::<String>::new(), "{pattern}");
    }
}

#[test]
fn ids_that_are_no_numbers_are_warned_of() {
    for rule in ["admin", "deny"] {
        let toml = format!("[[{rule}]]\nissuer = '{GITHUB}'\nclaims = {{ repository_id = 'octo-org/.*' }}");
        only(&warnings(&toml), 3, &["'repository_id'", "octo-org/.*", "number"]);
    }
}

#[test]
fn deny_rules_that_have_ended_or_leave_no_administrator_are_warned_of() {
    let admin = "[[admin]]\nissuer = 'https://a'\nclaims = { groups = 'ops|sre' }\n";
    let deny = |rest: &str| format!("{admin}[[deny]]\nissuer = 'https://a'\n{rest}\n");
    only(&warnings(&deny("claims = { groups = 'x' }\nuntil = 2026-11-30")), 7, &["deny", "ended"]);
    for claims in ["groups = 'ops|sre'", "groups = '.*'", "sub = '.+'", "groups = '[a-z]{3}', sub = '[^x]*'"]
    {
        only(&warnings(&deny(&format!("claims = {{ {claims} }}"))), 4, &["deny", "no administrator"]);
    }
    for rest in [
        "claims = { groups = 'ops' }",
        "claims = { groups = 'ops|sre', sub = 'a' }",
        "claims = { sub = 'a.*' }",
        "claims = { groups = 'x' }\nuntil = 2026-12-01",
    ] {
        assert_eq!(warnings(&deny(rest)), Vec::<String>::new(), "{rest}");
    }
    let second = "[[admin]]\nissuer = 'https://b'\nclaims = { sub = 'root' }\n";
    let one_left = format!("{second}{}", deny("claims = { groups = '.*' }"));
    assert_eq!(warnings(&one_left), Vec::<String>::new());
    let none_left = format!("{one_left}[[deny]]\nissuer = 'https://b'\nclaims = {{ sub = 'r.*' }}\n");
    only(&warnings(&none_left), 7, &["no administrator"]);
}

#[test]
fn the_last_administrator_gone_is_warned_of() {
    let admin = "[[admin]]\nissuer = 'https://a'\nclaims = { groups = 'ops' }\n";
    let team = member("['gpu']", GITHUB, "repository_id = '7'");
    let found = warnings_with(&team, None, Some(&format!("{admin}{team}")));
    assert!(found.len() == 1 && found[0].contains("the last administrator is gone"), "{found:?}");
    assert_eq!(warnings_with(admin, None, Some(admin)), Vec::<String>::new());
    assert_eq!(warnings_with(&team, None, Some(&team)), Vec::<String>::new());
    assert_eq!(warnings(&team), Vec::<String>::new());
}

#[test]
fn a_tight_policy_has_no_warnings() {
    let tight = r#"
[[team]]
name = "ml"
required_labels = ["ml"]
allowed_labels = ["gpu", "cuda-[0-9]+", "ubuntu-22\\.04"]
[[team.member]]
issuer = "https://token.actions.githubusercontent.com"
claims = { repository = "octo-org/ml-.*", ref = "refs/heads/main" }
[[team.member]]
issuer = "https://token.actions.githubusercontent.com"
claims = { repository_id = "74", repository_owner_id = "65", environment = ".*" }
[[team.member]]
issuer = "https://token.actions.githubusercontent.com"
claims = { sub = "repo:octo-org/ml:environment:(prod|staging)" }
[[team.member]]
issuer = "https://gitlab.example.com"
claims = { project_path = "ml/github-runner", ref_protected = "true" }
[[team.member]]
issuer = "https://oidc.example.com/clusters/a"
claims = { sub = "system:serviceaccount:github-runner:github-runner" }
[[admin]]
issuer = "https://login.example.com/realms/main"
claims = { groups = "platform-admins" }
[[admin]]
issuer = "https://login.example.com/realms/main"
claims = { "/realm_access/roles" = "admin", email = "ann@example\\.com", email_verified = "true" }
[[auditor]]
issuer = "https://login.example.com/realms/main"
claims = { azp = "auditor-[a-z]+" }
[[deny]]
issuer = "https://token.actions.githubusercontent.com"
claims = { repository_id = "42" }
until = 2026-12-31
"#;
    let issuers = [
        GITHUB,
        "https://gitlab.example.com",
        "https://oidc.example.com/clusters/a",
        "https://login.example.com/realms/main",
    ];
    assert_eq!(warnings_with(tight, Some(&issuers), Some(tight)), Vec::<String>::new());
    assert_eq!(warnings(include_str!("../../../examples/policy.toml")), Vec::<String>::new());
}

#[test]
fn thousands_of_rules_are_no_burden() {
    let rule = |n: usize| {
        format!(
            "[[team.member]]\nissuer = '{GITHUB}'\nclaims = {{ repository = 'octo-org/r{n}-.*', ref = 'refs/.*' }}\n"
        )
    };
    let toml: String = ["[[team]]\nname = 'ml'\n".to_owned()].into_iter().chain((0..400).map(rule)).collect();
    let began = std::time::Instant::now();
    assert_eq!(warnings(&toml), Vec::<String>::new());
    assert!(began.elapsed().as_secs() < 20, "{:?} in a debug build", began.elapsed());
}

proptest! {
    #[test]
    fn a_rule_for_one_value_is_never_warned_of_as_one_for_everybody(
        claim in "sub|oid|groups|azp|repository_id|x_[a-z]{3}", value in "[1-9][0-9]{3,9}|[1-9][0-9]{2}",
    ) {
        let toml = member("['gpu']", GITHUB, &format!("{claim} = '{value}'"));
        prop_assert_eq!(warnings(&toml), Vec::<String>::new());
        let wide = member("['gpu']", GITHUB, &format!("{claim} = '{value}|.*'"));
        prop_assert_eq!(warnings(&wide).len(), 1);
    }

    #[test]
    fn every_document_is_judged_alike_with_and_without_lines(document in plausible_document()) {
        let known = Known { issuers: Some(&[]), current: None, now: now() };
        let told = |document: &Document| document.lint(&known).len();
        let read = Document::parse(&document.to_toml()).unwrap();
        prop_assert_eq!(told(&document), told(&read));
        prop_assert!(read.lint(&known).iter().all(|warning| warning.line.is_some()));
    }
}
