//! Deny rules: as documents have them, and whom they match.

use chrono::{DateTime, Utc};
use runner_broker::model::Role;
use runner_broker::policy::{DenyEntry, Document, Rules};
use serde_json::{Value, json};

use super::{ISSUER, defaults, faults, lines, memberships, rules};

const EVERYBODY: &str = "[[admin]]\nissuer = \"https://login.example.com\"\nclaims = { sub = \".*\" }\n";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

fn rule(rest: &str) -> String {
    format!("[[deny]]\nissuer = \"{ISSUER}\"\n{rest}\n")
}

fn denied<'r>(rules: &'r Rules, claims: &Value, now: &str) -> Option<&'r str> {
    rules.denied(ISSUER, claims.as_object().expect("claims"), at(now))
}

#[test]
fn whom_a_rule_matches_is_denied_whatever_roles_they_have() {
    let toml = [
        EVERYBODY.to_owned(),
        rule("claims = { repository_id = \"42\", ref = \"refs/heads/.*\" }"),
        rule("claims = { groups = \"(?i)contractors\" }"),
        rule("claims = { \"/realm_access/roles\" = \"banned\", sub = \"x.*\" }\ncomment = \"why\""),
    ];
    let rules = rules(&toml.concat());
    for (claims, wanted) in [
        (json!({ "sub": "a", "repository_id": "42", "ref": "refs/heads/x" }), Some("deny 1")),
        (json!({ "sub": "a", "repository_id": 42, "ref": "refs/heads/x" }), Some("deny 1")),
        (json!({ "sub": "a", "repository_id": "421", "ref": "refs/heads/x" }), None),
        (json!({ "sub": "a", "repository_id": "42", "ref": "refs/tags/x" }), None),
        (json!({ "sub": "a", "repository_id": "42" }), None),
        (json!({ "sub": "a", "groups": ["staff", "Contractors"] }), Some("deny 2")),
        (json!({ "sub": "a", "groups": ["subcontractors"] }), None),
        (json!({ "sub": "x1", "realm_access": { "roles": ["a", "banned"] } }), Some("deny 3")),
        (json!({ "sub": "y1", "realm_access": { "roles": ["a", "banned"] } }), None),
        (json!({ "sub": "x1", "/realm_access/roles": "banned" }), None),
        (json!({}), None),
    ] {
        assert_eq!(denied(&rules, &claims, "2026-11-30T00:00:00Z"), wanted, "{claims}");
        if claims.get("sub").is_some() {
            assert!(memberships(&rules, claims.clone()).has(Role::Admin), "{claims}");
        }
    }
    let claims = json!({ "repository_id": "42", "ref": "refs/heads/x" });
    for near in ["https://login.example.com/", "http://login.example.com", ""] {
        assert_eq!(rules.denied(near, claims.as_object().unwrap(), Utc::now()), None, "{near}");
    }
}

#[test]
fn a_rule_ends_at_its_moment_and_the_next_one_counts() {
    for until in ["2026-12-01T12:00:00Z", "\"2026-12-01T13:00:00+01:00\""] {
        let toml = [
            rule(&format!("claims = {{ sub = \"a.*\" }}\nuntil = {until}")),
            rule("claims = { sub = \"ab\" }\nuntil = 2026-12-02"),
        ];
        let rules = rules(&toml.concat());
        let (a, ab) = (json!({ "sub": "a" }), json!({ "sub": "ab" }));
        assert_eq!(denied(&rules, &a, "2026-12-01T11:59:59.999999Z"), Some("deny 1"));
        assert_eq!(denied(&rules, &a, "2026-12-01T12:00:00Z"), None);
        assert_eq!(denied(&rules, &ab, "2026-12-01T11:59:59Z"), Some("deny 1"));
        assert_eq!(denied(&rules, &ab, "2026-12-01T23:59:59Z"), Some("deny 2"));
        assert_eq!(denied(&rules, &ab, "2026-12-02T00:00:00Z"), None);
    }
}

#[test]
fn faults_of_deny_rules_come_with_their_lines() {
    let toml = r#"
[[deny]]
issuer = ""
claims = { sub = "(", "/a~2" = "x" }
comment = 7
until = "tomorrow"
unless = "x"

[[deny]]
issuer = "https://login.example.com"
claims = {}
comment = "a\nb"
until = 2026-12-31T18:00:00

[[deny]]
claims = { sub = "a" }

[[deny]]
issuer = "https://login.example.com"
claims = { sub = "a" }
until = 9999-12-31T23:59:59-01:00

[deny.else]
"#;
    let expected = "\
line 3: deny: issuer is empty
line 4: deny: claims: '/a~2' is no JSON Pointer: ~ is written ~0 and / is written ~1
line 4: deny: claims: 'sub': bad pattern '(': unclosed group
line 5: deny: comment is a string, not 7
line 6: deny: until: 'tomorrow' is no date such as 2026-12-31 or 2026-12-31T18:00:00Z
line 7: deny: unknown key 'unless'; there are issuer, claims, comment, until
line 11: deny: claims is empty: everybody with a token of this issuer would match
line 12: deny: comment: at most 500 characters on one line
line 13: deny: until: '2026-12-31T18:00:00' is no date such as 2026-12-31 or 2026-12-31T18:00:00Z
line 15: deny: issuer is missing
line 21: deny: until: '9999-12-31T23:59:59-01:00' is no date such as 2026-12-31 or 2026-12-31T18:00:00Z
line 23: deny: unknown key 'else'; there are issuer, claims, comment, until
";
    assert_eq!(faults(toml), expected);
    assert_eq!(
        faults("[deny]\nissuer = 'i'"),
        "line 1: deny: is a list of tables, written in double brackets\n"
    );
    let entry = DenyEntry {
        issuer: ISSUER.into(),
        claims: [("sub".to_owned(), "(".to_owned())].into(),
        comment: "x".repeat(501),
        until: None,
    };
    let document = Document { deny: vec![entry], ..Document::default() };
    let expected = "\
deny 1: comment: at most 500 characters on one line
deny 1: claims: 'sub': bad pattern '(': unclosed group
";
    assert_eq!(lines(&document.check(&defaults()).unwrap_err()), expected);
}

#[test]
fn a_deny_rule_is_shown_as_it_is_written() {
    let toml =
        rule("claims = { repository_id = \"42\" }\ncomment = \"leaked\"\nuntil = 2026-12-31T17:00:00.500Z");
    assert_eq!(Document::parse(&toml).unwrap().to_toml(), toml);
    let bare = rule("claims = { repository_id = \"42\" }");
    assert_eq!(Document::parse(&bare).unwrap().to_toml(), bare);
}
