//! The environment: every fault at once, none of them a secret, and `.env.example` as the code has it.

use runner_broker::config::{VARIABLES, env_example};

use super::commands::{Ended, Environment, command, environment, runner_broker};

/// `serve` in the good environment with these changes; an empty value counts as unset.
fn serve(changes: &[(&'static str, &str)]) -> Ended {
    let mut environment = environment();
    for (name, value) in changes {
        environment.retain(|(known, _)| known != name);
        environment.push((*name, (*value).to_owned()));
    }
    runner_broker(&["serve"], &environment)
}

/// The faults, a line each.
#[track_caller]
fn faults(ended: &Ended) -> Vec<&str> {
    assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{}", ended.err);
    let mut lines = ended.err.lines();
    let first = lines.next().unwrap_or_default();
    let faults: Vec<&str> = lines.map(str::trim).collect();
    assert_eq!(
        first,
        format!("runner-broker: the configuration has {} fault(s):", faults.len()),
        "{}",
        ended.err
    );
    faults
}

#[track_caller]
fn one_fault(changes: &[(&'static str, &str)], expected: &str) {
    assert_eq!(faults(&serve(changes)), [expected]);
}

fn named<'a>(faults: &[&'a str]) -> Vec<&'a str> {
    faults.iter().map(|fault| fault.split(':').next().unwrap_or_default()).collect()
}

#[test]
fn the_example_is_what_the_code_reads() {
    let refresh = "copy what config::env_example() says into .env.example";
    assert!(include_str!("../../../.env.example") == env_example(), "{refresh}\n{}", env_example());
}

#[test]
fn the_readers_of_the_code_and_the_list_of_variables_are_the_same() {
    let listed = include_str!("../../../src/config/variables.rs");
    let reads =
        concat!(include_str!("../../../src/config.rs"), include_str!("../../../src/config/reader.rs"));
    for variable in VARIABLES {
        let name = format!("\"{}\"", variable.name);
        assert!(listed.contains(&name) && reads.contains(&name), "{name} is listed and never read");
    }
    let is_name = |text: &&str| text.len() > 3 && text.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    for name in reads.split('"').filter(is_name) {
        assert!(VARIABLES.iter().any(|variable| variable.name == name), "{name} is read and not listed");
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let ended = serve(&[
        ("DATABASE_URL", "mysql://root:hunter2@db/x"),
        ("PORT", "70000"),
        ("GITHUB_APP_ID", "my-app"),
        ("GITHUB_ORG", ""),
        ("OIDC_AUDIENCE", " "),
        ("SYNC_ENABLED", "perhaps"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "verbose"),
    ]);
    let faults = faults(&ended);
    let expected = [
        "PORT",
        "DATABASE_URL",
        "GITHUB_APP_ID",
        "GITHUB_ORG",
        "OIDC_AUDIENCE",
        "SYNC_ENABLED",
        "LOG_FORMAT",
        "LOG_LEVEL",
    ];
    assert_eq!(named(&faults), expected, "{}", ended.err);
    assert_eq!(faults[0], "PORT: found '70000', wanted a whole number from 1 to 65535");
    assert_eq!(faults[2], "GITHUB_APP_ID: found 'my-app', wanted a number");
    assert!(faults[3].starts_with("GITHUB_ORG: not set, wanted "), "{}", faults[3]);
    assert!(!ended.err.contains("hunter2"));
}

#[test]
fn nothing_set_names_all_that_is_required() {
    let ended = runner_broker(&["serve"], &[]);
    let expected = [
        "HTTPS_CERT_FILE",
        "HTTPS_KEY_FILE",
        "DATABASE_URL",
        "GITHUB_APP_ID",
        "GITHUB_APP_PRIVATE_KEY_PATH",
        "GITHUB_ORG",
        "OIDC_ISSUER",
        "OIDC_AUDIENCE",
    ];
    assert_eq!(named(&faults(&ended)), expected);
}

#[test]
fn each_command_asks_only_for_what_it_uses() {
    for command in [&["migrate"][..], &["list-runners"], &["policy", "show"]] {
        assert_eq!(named(&faults(&runner_broker(command, &[]))), ["DATABASE_URL"], "{command:?}");
    }
    let cleanup = runner_broker(&["cleanup-stale-runners", "--hours", "1"], &[]);
    let expected = ["DATABASE_URL", "GITHUB_APP_ID", "GITHUB_APP_PRIVATE_KEY_PATH", "GITHUB_ORG"];
    assert_eq!(named(&faults(&cleanup)), expected);
    let bad = vec![("LOG_LEVEL", "verbose".to_owned()), ("PORT", "x".to_owned())];
    assert_eq!(runner_broker(&["openapi"], &bad).code, 0);
}

#[test]
fn each_variable_is_checked() {
    let number = |least: &str, most: &str| format!("wanted a whole number from {least} to {most}");
    for (name, found, wanted) in [
        ("HTTPS_ENABLED", "maybe", "wanted true or false".to_owned()),
        ("PUBLIC_URL", "broker.example.com", "wanted an http or https URL".into()),
        (
            "TRUSTED_PROXIES",
            "10.0.0.0/33",
            "wanted addresses or CIDRs such as 10.0.0.0/8, separated by commas".into(),
        ),
        ("GITHUB_ORG", "a/b/c", "wanted the name of an organisation, or owner/name of a repository".into()),
        ("GITHUB_APP_INSTALLATION_ID", "one", "wanted a number".into()),
        ("GITHUB_TIMEOUT_SECONDS", "0", number("1", "60")),
        ("OIDC_LEEWAY_SECONDS", "-1", number("0", "600")),
        ("DEFAULT_RUNNER_GROUP_ID", "0", number("1", "9223372036854775807")),
        ("JIT_START_DEADLINE_SECONDS", "59", number("60", "86400")),
        ("SYNC_INTERVAL_SECONDS", "1.5", number("1", "86400")),
        ("LEASE_SECONDS", "0", number("1", "600")),
        ("CLEANUP_STALE_RUNNERS_HOURS", "a day", number("1", "8760")),
        (
            "LOG_LEVEL",
            "runner_broker=loud",
            "wanted error, warn, info, debug, trace, or tracing directives".into(),
        ),
    ] {
        one_fault(&[(name, found)], &format!("{name}: found '{found}', {wanted}"));
    }
}

#[test]
fn plain_http_is_only_for_loopback() {
    let wanted = "wanted an https URL without user, query or fragment (http only on loopback)";
    one_fault(
        &[("OIDC_ISSUER", "http://idp.example.com")],
        &format!("OIDC_ISSUER: found 'http://idp.example.com', {wanted}"),
    );
    one_fault(
        &[("OIDC_JWKS_URL", "http://idp.example.com/k")],
        &format!("OIDC_JWKS_URL: found 'http://idp.example.com/k', {wanted}"),
    );
    for name in ["GITHUB_API_URL", "GITHUB_URL"] {
        let wanted = "wanted an https URL without user or query (http only on loopback)";
        one_fault(
            &[(name, "http://ghe.example.com")],
            &format!("{name}: found 'http://ghe.example.com', {wanted}"),
        );
    }
}

#[test]
fn extra_issuers_are_a_list_of_what_the_first_one_is() {
    let extra = |json: &str| {
        let ended = serve(&[("OIDC_EXTRA_ISSUERS", json)]);
        let faults = faults(&ended);
        assert!(faults.len() == 1 && faults[0].starts_with("OIDC_EXTRA_ISSUERS: found "), "{}", ended.err);
        faults[0].to_owned()
    };
    extra("https://idp.example.com");
    // What a .env file without single quotes makes of it.
    let bare = extra("[{issuer:https://a.example,audience:x}]");
    assert!(
        bare.starts_with("OIDC_EXTRA_ISSUERS: found '[{issuer:https://a.example,audience:x}]' ("),
        "{bare}"
    );
    assert!(bare.ends_with("in a .env file, put the JSON in single quotes"), "{bare}");
    assert!(extra(r#"[{"issuer": "https://a.example"}]"#).contains("audience"));
    assert!(extra(r#"[{"issuer": "https://a.example", "audience": "x", "jwks": "y"}]"#).contains("jwks"));
    extra(r#"[{"issuer": "http://a.example", "audience": "x"}]"#);
    extra(r#"[{"issuer": "https://a.example", "audience": ""}]"#);
    extra(r#"[{"issuer": "https://a.example", "audience": "x", "jwks_url": "http://a.example"}]"#);
    assert!(extra(r#"[{"issuer": "http://127.0.0.1:1", "audience": "x"}]"#).contains("each issuer once"));
}

#[test]
fn the_apps_key_is_a_file_or_a_text_and_never_shown() {
    let unset = ("GITHUB_APP_PRIVATE_KEY", "");
    let path = "GITHUB_APP_PRIVATE_KEY_PATH";
    let both = serve(&[(path, "/etc/hostname")]);
    assert_eq!(
        faults(&both),
        [format!("{path}: set together with GITHUB_APP_PRIVATE_KEY, wanted one of the two")]
    );
    let missing = serve(&[unset, (path, "/nowhere.pem")]);
    assert!(faults(&missing)[0].starts_with(&format!("{path}: the file cannot be read")), "{}", missing.err);
    let no_pem = serve(&[("GITHUB_APP_PRIVATE_KEY", "hunter2")]);
    assert!(
        faults(&no_pem)[0].starts_with("GITHUB_APP_PRIVATE_KEY: found no PEM private key"),
        "{}",
        no_pem.err
    );
    let spoiled = "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----";
    let spoiled = serve(&[("GITHUB_APP_PRIVATE_KEY", spoiled)]);
    assert!(spoiled.code == 2 && spoiled.err.contains("GITHUB_APP_PRIVATE_KEY"), "{}", spoiled.err);
    for ended in [both, missing, no_pem, spoiled] {
        assert!(!ended.err.contains("hunter2") && !ended.err.contains("MII"), "{}", ended.err);
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_not_shown_either() {
    let key = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----";
    let ended = serve(&[
        ("GITHUB_ORG", key),
        ("GITHUB_API_URL", "https://bot:hunter2@ghe.example.com"),
        ("OIDC_ISSUER", "https://bot:hunter2@idp.example.com"),
        ("HTTPS_ENABLED", "true"),
        ("HTTPS_CERT_FILE", key),
        ("HTTPS_KEY_FILE", key),
    ]);
    assert!(faults(&ended).len() == 5 && !ended.err.contains("hunter2"), "{}", ended.err);
    let bad_url = serve(&[("DATABASE_URL", "postgres://broker:hunter2@db:port/x")]);
    assert!(bad_url.code == 2 && bad_url.err.contains("DATABASE_URL"), "{}", bad_url.err);
    assert!(!bad_url.err.contains("hunter2"), "{}", bad_url.err);
}

#[test]
fn a_policy_file_that_is_no_policy_is_named() {
    // Nothing of the policy needs the database to be found wrong.
    for (file, why) in [("/nowhere.toml", "No such file"), ("/etc/hostname", "line 1")] {
        let ended = serve(&[("POLICY_FILE", file)]);
        assert_eq!(ended.code, 2, "{}", ended.err);
        assert!(
            ended.err.contains(&format!("POLICY_FILE: {file}: ")) && ended.err.contains(why),
            "{}",
            ended.err
        );
    }
}

#[cfg(unix)]
#[test]
fn an_environment_that_is_no_text_is_no_panic() {
    use std::os::unix::ffi::OsStrExt;
    let mut command = command(&["migrate"], &Environment::new());
    command.env("SOMETHING_ELSE", std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    command.env("LOG_FORMAT", std::ffi::OsStr::from_bytes(b"json\xff"));
    let output = command.output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("LOG_FORMAT: found 'json\u{fffd}'") && err.contains("DATABASE_URL"), "{err}");
}

/// A command with this `.env` in its working folder.
fn with_file(text: &str, environment: &Environment) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".env"), text).unwrap();
    let output = command(&["migrate"], environment).current_dir(folder.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn a_file_sets_what_the_environment_does_not() {
    let file = "# ours\nLOG_FORMAT=xml\nLOG_LEVEL=verbose\n";
    let ended = with_file(file, &vec![("LOG_LEVEL", "info".to_owned())]);
    assert_eq!(named(&faults(&ended)), ["DATABASE_URL", "LOG_FORMAT"]);
}

#[test]
fn a_broken_file_is_named_without_its_secrets() {
    let ended = with_file("DATABASE_URL='postgres://broker:hunter2@db/x\n", &Vec::new());
    assert_eq!(ended.code, 2, "{}", ended.err);
    assert!(ended.err.contains(".env: DATABASE_URL: ") && !ended.err.contains("hunter2"), "{}", ended.err);
}

#[test]
fn a_choice_is_one_of_those_named() {
    one_fault(
        &[("UNMANAGED_RUNNERS", "delete")],
        "UNMANAGED_RUNNERS: found 'delete', wanted one of report, remove, ignore",
    );
    one_fault(
        &[("LABEL_POLICY_ENFORCEMENT", "on")],
        "LABEL_POLICY_ENFORCEMENT: found 'on', wanted one of audit, enforce",
    );
}

#[test]
fn alerts_need_a_secret_and_a_safe_way() {
    let ended = serve(&[("ALERT_WEBHOOK_URL", "http://alerts.example.com/hook?key=hunter2")]);
    assert_eq!(named(&faults(&ended)), ["ALERT_WEBHOOK_URL", "ALERT_WEBHOOK_SECRET"]);
    assert!(!ended.err.contains("hunter2"), "{}", ended.err);
}

#[test]
fn login_providers_are_checked_field_by_field_and_no_value_is_shown() {
    let public = ("PUBLIC_URL", "https://broker.example.com");
    let faults_of = |json: &str| -> Vec<String> {
        let ended = serve(&[public, ("LOGIN_PROVIDERS", json)]);
        let faults: Vec<String> = faults(&ended).into_iter().map(str::to_owned).collect();
        assert!(!ended.err.contains("hunter2"), "{}", ended.err);
        assert!(faults.iter().all(|fault| fault.starts_with("LOGIN_PROVIDERS: ")), "{faults:?}");
        faults
    };
    for (json, expected) in [
        ("hunter2", "found something that is not JSON (line 1, column 1), wanted a JSON list"),
        ("[{id:a}]", "in a .env file, put the JSON in single quotes"),
        (r#"{"client_secret": "hunter2"}"#, "wanted a JSON list"),
        (r#"["hunter2"]"#, "provider 1: found a text, wanted a JSON list"),
        (
            r#"[{"id": "A b", "kind": "github", "client_id": "c", "client_secret": "hunter2"}]"#,
            "provider 1: id: wanted",
        ),
        (
            r#"[{"id": "a", "kind": "saml", "client_id": "c"}]"#,
            "'a': kind: wanted one of openid, gitlab, github",
        ),
        (r#"[{"id": "a", "kind": "openid", "client_id": "c"}]"#, "'a': issuer: missing"),
        (
            r#"[{"id": "a", "kind": "openid", "issuer": "http://idp.example", "client_id": "c"}]"#,
            "'a': issuer: wanted an https URL",
        ),
        (r#"[{"id": "a", "kind": "gitlab", "client_secret": "hunter2"}]"#, "'a': client_id: missing"),
        (
            r#"[{"id": "a", "kind": "gitlab", "client_id": "c", "client_secret": ["hunter2"]}]"#,
            "'a': client_secret: wanted a text",
        ),
        (r#"[{"id": "a", "kind": "github", "client_id": "c"}]"#, "'a': client_secret: missing"),
        (
            r#"[{"id": "a", "kind": "gitlab", "client_id": "c", "client_secret_file": "/nowhere"}]"#,
            "'a': client_secret_file: the file cannot be read",
        ),
        (
            r#"[{"id": "a", "kind": "gitlab", "client_id": "c", "client_secret_file": "/dev/null"}]"#,
            "'a': client_secret_file: the file is empty",
        ),
        (
            r#"[{"id": "a", "kind": "gitlab", "client_id": "c", "client_secret": "hunter2", "client_secret_file": "/dev/null"}]"#,
            "wanted one of the two",
        ),
        (
            r#"[{"id": "a", "kind": "gitlab", "client_id": "c", "scopes": ["email"]}]"#,
            "'a': scopes: wanted openid among them",
        ),
        (
            r#"[{"id": "a", "kind": "gitlab", "client_id": "c", "scopes": [1]}]"#,
            "'a': scopes: wanted a list of texts",
        ),
        (
            r#"[{"id": "a", "kind": "gitlab", "client_id": "c", "secret": "hunter2"}]"#,
            "'a': secret: not known",
        ),
        (
            r#"[{"id": "a", "kind": "gitlab", "client_id": "c"}, {"id": "a", "kind": "gitlab", "client_id": "c"}]"#,
            "'a': wanted each id once",
        ),
    ] {
        let found = faults_of(json);
        assert!(found.len() == 1 && found[0].contains(expected), "{json}: {found:?}");
    }
    let several = faults_of(r#"[{"id": "?", "kind": "github"}, {"id": "b", "kind": "openid", "x": 1}]"#);
    assert_eq!(several.len(), 6, "{several:?}");
}

#[test]
fn people_who_sign_in_need_an_address_to_come_back_to() {
    let providers = ("LOGIN_PROVIDERS", r#"[{"id": "a", "kind": "gitlab", "client_id": "c"}]"#);
    for public in ["", "http://broker.example.com"] {
        one_fault(
            &[("PUBLIC_URL", public), providers],
            "PUBLIC_URL: with LOGIN_PROVIDERS wanted the https URL that browsers use (http only on loopback)",
        );
    }
}
