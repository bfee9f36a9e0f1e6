//! `policy check`, `apply` and `test`: what they warn of, and what they say of a token.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::commands::{Ended, folder_with, on, runner_broker};

const WIDE: &str = r#"[[team]]
name = "ml"
allowed_labels = ["gpu", "ubuntu-.*"]

[[team.member]]
issuer = "https://login.example.com/"
claims = { sub = "alice|.*" }

[[admin]]
issuer = "https://github.com"
claims = { login = "mona" }
"#;

const TIGHT: &str = r#"[[team]]
name = "ml"
allowed_labels = ["gpu"]

[[team.member]]
issuer = "https://token.actions.githubusercontent.com"
claims = { repository = "octo-org/ml-.*", ref = "refs/heads/main" }

[[admin]]
issuer = "https://login.example.com"
claims = { groups = "ops" }
"#;

fn warned(ended: &Ended) -> Vec<&str> {
    ended.out.lines().filter(|line| line.starts_with("warning")).collect()
}

#[test]
fn a_wide_policy_is_valid_with_a_warning_for_each_rule() {
    let (_folder, path) = folder_with("policy.toml", WIDE);
    let ended = runner_broker(&["policy", "check", &path], &[]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
    let found = warned(&ended);
    let wanted: [(&str, &[&str]); 3] = [
        ("warning: line 3: ", &["team 'ml'", "'ubuntu-.*'"]),
        ("warning: line 7: ", &["team 'ml'", "'sub'", "'alice|.*'", "nearly everybody"]),
        ("warning: line 11: ", &["admin", "'login'"]),
    ];
    assert_eq!(found.len(), wanted.len(), "{}", ended.out);
    for (line, (start, words)) in found.iter().zip(wanted) {
        assert!(line.starts_with(start) && words.iter().all(|word| line.contains(word)), "{line}");
    }
    assert!(ended.out.ends_with(": valid (1 team(s), 1 member rule(s), 1 role rule(s))\n"), "{}", ended.out);
    let strict = runner_broker(&["policy", "check", &path, "--strict"], &[]);
    assert_eq!((strict.code, warned(&strict).len()), (1, 3), "{}", strict.out);
    assert!(strict.err.contains("3 warning(s)"), "{}", strict.err);

    let (_folder, path) = folder_with("policy.toml", TIGHT);
    let ended = runner_broker(&["policy", "check", &path, "--strict"], &[]);
    assert_eq!((ended.code, warned(&ended).len()), (0, 0), "{}", ended.out);
}

#[test]
fn issuers_are_looked_at_where_they_are_configured() {
    let (_folder, path) = folder_with("policy.toml", WIDE);
    let about = |environment: &[(&'static str, String)]| -> Vec<String> {
        let ended = runner_broker(&["policy", "check", &path], environment);
        assert_eq!(ended.code, 0, "{}", ended.err);
        warned(&ended).into_iter().filter(|line| line.contains(": issuer")).map(str::to_owned).collect()
    };
    assert!(about(&[("OIDC_EXTRA_ISSUERS", "[]".into())]).is_empty(), "OIDC_ISSUER is not set");
    let first = ("OIDC_ISSUER", "https://login.example.com".to_owned());
    let found = about(std::slice::from_ref(&first));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("warning: line 6: ") && found[0].contains("'https://login.example.com' is"),
        "{found:?}"
    );
    assert!(
        found[1].starts_with("warning: line 10: ") && found[1].contains("'https://github.com'"),
        "{found:?}"
    );
    let extra = r#"[{"issuer": "https://login.example.com/", "audience": ["a", "b"], "max_age": "1h"}]"#;
    let login = r#"[{"id": "gh", "kind": "github", "client_id": "x", "client_secret": "y"}]"#;
    let all = [first, ("OIDC_EXTRA_ISSUERS", extra.into()), ("LOGIN_PROVIDERS", login.into())];
    assert_eq!(about(&all), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_warns_of_the_document_and_of_what_it_takes_away() {
    let database = crate::support::migrated().await;
    let environment = on(database.url());
    let apply = |toml: &str, more: &[&str]| {
        let (_folder, path) = folder_with("policy.toml", toml);
        let ended = runner_broker(&[&["policy", "apply", &path], more].concat(), &environment);
        assert_eq!(ended.code, 0, "{}", ended.err);
        let (warned, rest) = ended.out.lines().partition(|line: &&str| line.starts_with("warning"));
        let (warned, rest): (Vec<&str>, Vec<&str>) = (warned, rest);
        (warned.join("\n"), rest.join("\n"))
    };
    let (warned, changed) = apply(TIGHT, &[]);
    assert!(warned.is_empty() && changed.contains("changed: team ml: added"), "{warned} {changed}");
    let without_admin = TIGHT.split("[[admin]]").next().expect("the teams");
    for more in [&["--dry-run"][..], &[]] {
        let (warned, changed) = apply(without_admin, more);
        assert!(warned.starts_with("warning: the last administrator is gone"), "{warned}");
        assert!(changed.contains("admin: removed") && !warned.contains('\n'), "{warned} {changed}");
    }
    let (warned, _) = apply(without_admin, &[]);
    assert_eq!(warned, "", "it was gone before");
    let (warned, _) = apply(WIDE, &[]);
    assert_eq!(warned.lines().count(), 3, "{warned}");
}

/// What stands between two lines of a document of ours.
fn between<'d>(text: &'d str, from: &str, to: &str) -> &'d str {
    let after = text.split_once(from).unwrap_or_else(|| panic!("no {from}")).1;
    after.split_once(to).unwrap_or_else(|| panic!("no {to}")).0
}

#[test]
fn the_documented_cases_end_as_the_document_shows() {
    let concepts = include_str!("../../../docs/CONCEPTS.md");
    let (folder, policy) =
        folder_with("policy.toml", between(concepts, "cat > policy.toml <<'EOF'\n", "EOF\n"));
    let cases = between(concepts, "cat > cases.toml <<'EOF'\n", "EOF\n");
    let path = folder.path().join("cases.toml").display().to_string();
    let test = |cases: &str| {
        std::fs::write(&path, cases).unwrap();
        runner_broker(&["policy", "test", &policy, &path], &[])
    };
    let ended = test(cases);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
    let shown =
        between(concepts, "runner-broker policy test policy.toml cases.toml\n```\n\n```text\n", "```");
    assert_eq!(ended.out, shown);

    let ended = test(&cases.replace("\"NO_TEAM\"", "\"allowed\""));
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("ok: main gets a GPU: allowed"), "{}", ended.out);
    let differs = "mismatch: a branch gets nothing: expected allowed, got NO_TEAM (You are in no team)\n";
    let told = ended.out.ends_with(differs) && ended.err.contains("1 of 2 case(s) differ");
    assert!(told, "{}{}", ended.out, ended.err);
    for (bad, why) in [
        (cases.replace("expect =", "expected ="), "unknown field `expected`"),
        (cases.replace("labels = [\"gpu\"]", "labels = [\"a,b\"]"), "case 'main gets a GPU': labels"),
        (cases.replace("issuer =", "# issuer ="), "issuer is missing"),
        (String::new(), "there is no [[case]]"),
    ] {
        let ended = test(&bad);
        assert!(ended.code == 2 && ended.err.contains(why), "{why}: {} {}", ended.out, ended.err);
    }
}

#[test]
fn cases_are_decided_as_a_broker_decides() {
    let policy = r#"
[[team]]
name = "ml"
allowed_labels = ["gpu"]
targets = ["octo-org", "octo-org/ml-*"]
runner_groups = ["gpus"]
[[team.member]]
issuer = "https://a"
claims = { groups = "ml" }
[[team]]
name = "web"
methods = ["registration_token"]
max_runners = 0
[[team.member]]
issuer = "https://a"
claims = { groups = "web" }
[[admin]]
issuer = "https://a"
claims = { groups = "ops" }
[[deny]]
issuer = "https://a"
claims = { oid = "7" }
until = 2026-12-31
"#;
    let wanted = [
        (r#"{ groups = "ml" }"#, r#"labels = ["gpu"]"#, "allowed"),
        (r#"{ groups = "ml" }"#, r#"labels = ["cpu"]"#, "LABEL_POLICY_VIOLATION"),
        (r#"{ groups = "ml" }"#, r#"method = "registration_token""#, "METHOD_NOT_ALLOWED_BY_POLICY"),
        (r#"{ groups = "ml" }"#, r#"target = "octo-org/ml-x""#, "allowed"),
        (r#"{ groups = "ml" }"#, r#"target = "octo-org/web""#, "TARGET_NOT_ALLOWED"),
        (r#"{ groups = "ml" }"#, r#"runner_group = "gpus""#, "allowed"),
        (r#"{ groups = "ml" }"#, r#"runner_group = "vault""#, "RUNNER_GROUP_NOT_ALLOWED"),
        (r#"{ groups = ["ml", "web"] }"#, "", "TEAM_REQUIRED"),
        (r#"{ groups = ["ml", "web"] }"#, r#"team = "ml""#, "allowed"),
        (r#"{ groups = "web" }"#, r#"method = "registration_token""#, "QUOTA_EXCEEDED"),
        (r#"{ groups = "ops" }"#, r#"roles = ["admin"]"#, "NO_TEAM"),
        (r#"{ groups = "ml" }"#, "roles = []", "allowed"),
        (r#"{ groups = "ml", oid = 7 }"#, "at = 2026-12-30T00:00:00Z\nroles = []", "ACCESS_DENIED"),
        (r#"{ groups = "ml", oid = 7 }"#, "at = 2026-12-31", "allowed"),
    ];
    let case = |(n, (claims, more, expect)): (usize, &(&str, &str, &str))| {
        format!(
            "[[case]]\nname = '{n}'\nissuer = 'https://a'\nclaims = {claims}\n{more}\nexpect = '{expect}'\n"
        )
    };
    let cases: String = wanted.iter().enumerate().map(case).collect();
    let (folder, policy) = folder_with("policy.toml", policy);
    let path = folder.path().join("cases.toml").display().to_string();
    std::fs::write(&path, &cases).unwrap();
    let environment = [("GITHUB_ORG", "octo-org".to_owned())];
    let ended = runner_broker(&["policy", "test", &policy, &path], &environment);
    assert_eq!((ended.code, ended.out.lines().count()), (0, wanted.len()), "{}{}", ended.out, ended.err);
    std::fs::write(&path, cases.replace("roles = [\"admin\"]", "roles = []")).unwrap();
    let ended = runner_broker(&["policy", "test", &policy, &path], &environment);
    assert!(ended.code == 1 && ended.out.contains("expected the roles"), "{}{}", ended.out, ended.err);
}

#[test]
fn a_check_says_which_rules_match_a_token_and_which_claim_keeps_the_others_from_it() {
    let more = r#"
[[auditor]]
issuer = "https://token.actions.githubusercontent.com"
claims = { actor_id = "7", "/a/b" = "c" }
[[deny]]
issuer = "https://token.actions.githubusercontent.com"
claims = { ref = "refs/heads/.*" }
until = 2020-01-01
"#;
    let (folder, path) = folder_with("policy.toml", &format!("{TIGHT}{more}"));
    let claims = r#"{"iss": "https://token.actions.githubusercontent.com", "sub": "x", "ref": "refs/heads/main",
        "repository": "octo-org/ml-x", "actor_id": 8}"#;
    let file = folder.path().join("claims.json").display().to_string();
    std::fs::write(&file, claims).unwrap();
    let ended = runner_broker(&["policy", "check", &path, "--claims", &file], &[]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    for line in [
        "line 5: team ml, member 1 admits\n",
        "line 9: admin 1 does not admit: issuer 'https://token.actions.githubusercontent.com' is not \
         'https://login.example.com'\n",
        "line 13: auditor 1 does not admit: claim '/a/b' is missing, wanted 'c'; claim 'actor_id' is 8, wanted '7'\n",
        "line 16: deny 1 does not deny: it ended at 2020-01-01T00:00:00Z\n",
    ] {
        assert!(ended.out.contains(line), "{line}: {}", ended.out);
    }
    let other = folder.path().join("other.json").display().to_string();
    std::fs::write(&other, claims.replace("heads/main", "heads/dev")).unwrap();
    let ended = runner_broker(&["policy", "check", &path, "--claims", &other], &[]);
    let line = "member 1 does not admit: claim 'ref' is \"refs/heads/dev\", wanted 'refs/heads/main'\n";
    assert!(ended.out.contains(line), "{}", ended.out);

    let payload = BASE64_URL_SAFE_NO_PAD.encode(claims);
    let by_token = runner_broker(&["policy", "check", &path, "--token", &format!("e30.{payload}.c2ln")], &[]);
    let by_file = runner_broker(&["policy", "check", &path, "--claims", &file], &[]);
    assert_eq!((by_token.code, &by_token.out), (0, &by_file.out), "{}", by_token.err);
    for bad in ["nonsense", "a.b.c", "e30.e30.c2ln"] {
        let ended = runner_broker(&["policy", "check", &path, "--token", bad], &[]);
        assert_eq!(ended.code, 2, "{bad}: {}", ended.out);
    }
}
