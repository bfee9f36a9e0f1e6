//! `policy check` and `apply`: what they warn of.

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
