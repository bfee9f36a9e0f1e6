//! What a policy document may say, and how its faults are told.

use runner_broker::model::Role;
use runner_broker::policy::{Document, Member, TeamEntry};
use serde_json::json;

use super::{ISSUER, defaults, faults, lines, memberships, rules};

const EXAMPLE: &str = r#"
[[team]]
name = "ml"                                   # unique
description = "GPU runners"
required_labels = ["ml"]                      # put on every runner of the team, asked for or not
allowed_labels = ["gpu", "cuda-[0-9]+"]
methods = ["jit"]
targets = ["octo-org", "octo-org/*"]
runner_groups = ["Default", "ml", 7]
max_runners = 50
requests_per_minute = 1_20

[[team.member]]
issuer = "https://token.actions.githubusercontent.com"
claims = { repository = "octo-org/ml-.*", ref = "refs/heads/main" }

[[team.member]]
issuer = "https://login.example.com"
claims = { "/realm_access/roles" = "ml", email_verified = "true" }

[[admin]]
issuer = "https://login.example.com"
claims = { groups = "platform-admins" }

[[auditor]]
issuer = "https://login.example.com"
claims = { groups = "security" }
"#;

#[test]
fn the_documented_example_is_a_policy_and_survives_being_shown() {
    let (document, rules) = Document::read(EXAMPLE, &defaults()).unwrap();
    assert_eq!(Document::parse(&document.to_toml()).unwrap(), document);
    assert_eq!(toml::from_str::<Document>(EXAMPLE).unwrap(), document);
    let team = rules.team("ML").unwrap();
    assert_eq!((team.max_runners(), team.requests_per_minute()), (Some(50), Some(120)));
    assert_eq!(team.allowed_labels().collect::<Vec<_>>(), ["gpu", "cuda-[0-9]+"]);
    assert_eq!(team.targets().collect::<Vec<_>>(), ["octo-org", "octo-org/*"]);
}

#[test]
fn an_empty_document_allows_nothing_and_is_no_fault() {
    let found = memberships(&rules(""), json!({ "sub": "me" }));
    assert!(found.is_stranger());
}

#[test]
fn a_callers_teams_and_roles_come_with_the_rules_that_give_them() {
    let rules = rules(EXAMPLE);
    let claims = json!({
        "sub": "x", "email_verified": true, "realm_access": { "roles": ["a", "ml"] }, "groups": ["platform-admins"],
    });
    let found = memberships(&rules, claims.clone());
    assert_eq!(found.teams[0].rule, "team ml, member 2");
    assert_eq!(found.roles.iter().collect::<Vec<_>>(), [(&Role::Admin, &"admin 1".to_owned())]);
    assert!(found.has(Role::Admin) && !found.has(Role::Auditor) && !found.is_stranger());
    // All claims have to match, and the issuer to the last character.
    assert!(memberships(&rules, json!({ "email_verified": true })).is_stranger());
    for near in ["https://login.example.com/", "https://LOGIN.example.com", "https://login.example.co", ""] {
        assert!(rules.memberships(near, claims.as_object().unwrap()).is_stranger(), "{near}");
    }
}

#[test]
fn a_caller_is_once_in_a_team_whose_members_he_matches_twice() {
    let rules = rules(&format!(
        "[[team]]\nname = 'a'\nmember = [
            {{ issuer = '{ISSUER}', claims = {{ sub = 'other' }} }},
            {{ issuer = '{ISSUER}', claims = {{ sub = 'm.*' }} }},
            {{ issuer = '{ISSUER}', claims = {{ sub = 'me' }} }},
        ]"
    ));
    let found = memberships(&rules, json!({ "sub": "me" }));
    let rules: Vec<&str> = found.teams.iter().map(|team| team.rule.as_str()).collect();
    assert_eq!(rules, ["team a, member 2"]);
}

#[test]
fn bad_toml_is_one_fault_with_its_line() {
    let found = faults("[[team]]\nname = \"a\"\nmax_runners = = 3\n[[team]\n");
    assert!(found.starts_with("line 3: ") && found.lines().count() == 1, "{found}");
    let twice = faults("[[team]]\nname = \"a\"\nname = \"b\"\n");
    assert!(twice.starts_with("line 3: "), "{twice}");
}

#[test]
fn all_faults_of_form_and_meaning_come_at_once_with_their_lines() {
    let toml = r#"
[[team]]
name = "ml"
required_labels = ["ok", "a,b"]
allowed_labels = [
    "gpu",
    "cuda-[",
    "a)|(b",
]
allowed_label = ["x"]
methods = ["jit", "magic"]
targets = ["*/x", "octo-org/*"]
runner_groups = [0, 1.5]
max_runners = "many"
requests_per_minute = -1

[[team.member]]
issuer = "https://login.example.com"
claims = {}

[[team.member]]
issuer = ""
claims = { sub = "(", "/a~" = "x", groups = ["a"] }
extra = 1

[[team.member]]
claims = { sub = "(" }

[[team]]
name = "ML"
methods = []
targets = []

[[team]]
description = "nameless"

[[admin]]
issuer = "https://login.example.com"
claims = { sub = "(" }

[owner]
"#;
    let expected = "\
line 4: team 'ml': required_labels: bad label 'a,b': a label is printable ASCII without a comma
line 7: team 'ml': allowed_labels: bad pattern 'cuda-[': unclosed character class
line 8: team 'ml': allowed_labels: bad pattern 'a)|(b': unopened group
line 10: team 'ml': unknown key 'allowed_label'; there are name, description, required_labels, allowed_labels, methods, targets, runner_groups, max_runners, requests_per_minute, member
line 11: team 'ml': methods: each is jit or registration_token, not 'magic'
line 12: team 'ml': targets: bad target '*/x': '*' may stand only in the name of a repository, as in octo-org/*
line 13: team 'ml': runner_groups: each is a name or an id, not 1.5
line 14: team 'ml': max_runners is a whole number, not 'many'
line 15: team 'ml': requests_per_minute is less than 0
line 19: team 'ml': member: claims is empty: everybody with a token of this issuer would match
line 23: team 'ml': member: claims: 'groups' is a string, not a list
line 24: team 'ml': member: unknown key 'extra'; there are issuer, claims
line 26: team 'ml': member: issuer is missing
line 30: team 'ML': another team has this name
line 31: team 'ML': methods is empty
line 32: team 'ML': targets is empty; without it the default holds
line 34: a team: name is missing
line 39: admin: claims: 'sub': bad pattern '(': unclosed group
line 41: unknown key 'owner'; there are team, admin, auditor, deny
";
    assert_eq!(faults(toml), expected);
}

#[test]
fn a_claim_that_is_no_pattern_or_no_pointer_is_a_fault() {
    let toml = "[[auditor]]\nissuer = \"\"\n[auditor.claims]\nsub = \"(\"\n\"/a~\" = \"x\"\n\"\" = \"x\"\n";
    let expected = "\
line 2: auditor: issuer is empty
line 4: auditor: claims: 'sub': bad pattern '(': unclosed group
line 5: auditor: claims: '/a~' is no JSON Pointer: ~ is written ~0 and / is written ~1
line 6: auditor: claims: a claim's name is empty
";
    assert_eq!(faults(toml), expected);
}

#[test]
fn a_document_from_tables_has_faults_without_lines() {
    let member = Member { issuer: ISSUER.into(), claims: [("sub".to_owned(), "(".to_owned())].into() };
    let team = TeamEntry { allowed_labels: vec!["(".into()], member: vec![member], ..TeamEntry::named("ml") };
    let document = Document { team: vec![team], ..Document::default() };
    let expected = "\
team 'ml': allowed_labels: bad pattern '(': unclosed group
team 'ml': member 1: claims: 'sub': bad pattern '(': unclosed group
";
    assert_eq!(lines(&document.check(&defaults()).unwrap_err()), expected);
}

#[test]
fn a_teams_name_is_short_and_plain() {
    for bad in ["", " a", "a ", "a/b", "a'b", "é", &"x".repeat(65)] {
        assert!(faults(&format!("[[team]]\nname = \"{bad}\"")).starts_with("line 2: "), "{bad}");
    }
    for good in ["a", "Team 7", "a._-b", &"x".repeat(64)] {
        rules(&format!("[[team]]\nname = \"{good}\""));
    }
}

#[test]
fn no_pattern_may_be_too_large() {
    let found = faults("[[team]]\nname = 'a'\nallowed_labels = ['(\\w{100}){100}']");
    assert!(found.contains("line 3") && found.contains("too large"), "{found}");
}

#[test]
fn thousands_of_members_are_no_burden() {
    let mut team = TeamEntry::named("all");
    team.member = (0..5000)
        .map(|n| Member {
            issuer: ISSUER.into(),
            claims: [("sub".to_owned(), format!("repo:octo-org/r{n}:ref:refs/heads/main"))].into(),
        })
        .collect();
    let document = Document { team: vec![team], ..Document::default() };
    assert_eq!(Document::parse(&document.to_toml()).unwrap(), document);
    let rules = document.check(&defaults()).unwrap();
    let found = memberships(&rules, json!({ "sub": "repo:octo-org/r4999:ref:refs/heads/main" }));
    assert_eq!(found.teams[0].rule, "team all, member 5000");
}
