//! What can be wrong with variables and the files that they name.

use super::{HOST, Patient};
use crate::cli::commands::{environment, runner_broker};

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_may_say_what_nobody_meant_is_a_warning_for_each_rule() {
    let patient = Patient::new().await;
    let policy = |claims: &str| format!("[[admin]]\nissuer = \"ISSUER\"\nclaims = {{ {claims} }}\n");
    patient.world.policy(&policy("sub = \".*\"")).await;
    patient.seen().warning(
        "policy_doubtful",
        "admin 1: claims: nearly everybody",
        "'runner-broker policy check FILE'",
    );
    patient.world.policy(&policy("groups = \"ops\"")).await;
    patient.seen().is_well();
    let elsewhere = "[[admin]]\nissuer = \"https://elsewhere.example\"\nclaims = { groups = \"ops\" }\n";
    patient.world.policy(elsewhere).await;
    patient.seen().warning(
        "policy_doubtful",
        "'https://elsewhere.example' is in neither",
        "check what the rule",
    );
    patient.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_told_by_its_dates_its_key_and_its_name() {
    let mut patient = Patient::new().await;
    let mut with = |name: &str, from: i64, until: i64| {
        patient.certify(name, from, until);
        let (cert, key) = (patient.path(&format!("{name}.crt")), patient.path(&format!("{name}.key")));
        patient.set("HTTPS_KEY_FILE", &key);
        patient.with("HTTPS_CERT_FILE", &cert)
    };
    with("old", -90, -1).fault("certificate_expired", "expired: ", "renew it");
    with("soon", -80, 8).warning("certificate_expires", "days are left", "renew it");
    with("early", 5, 90).fault("certificate_not_yet", "not good yet", "clock");
    with("good", -1, 90).is_well();

    let mismatch = {
        let key = patient.path("old.key");
        patient.set("HTTPS_CERT_FILE", &patient.path("good.crt"));
        patient.with("HTTPS_KEY_FILE", &key)
    };
    mismatch.fault(
        "certificate_key",
        "not the key of the certificate",
        "the key that the certificate was made for",
    );
    std::fs::write(patient.file("none.crt"), "nothing").unwrap();
    let none = patient.path("none.crt");
    let unusable = patient.with("HTTPS_CERT_FILE", &none);
    unusable.fault("certificate_unusable", "no certificate in PEM", "as PEM");

    for (host, is_named) in [(HOST, true), ("elsewhere.example.com", false)] {
        let url = format!("https://{host}");
        patient.world.github.set_webhook(&format!("{url}/api/webhook"), crate::support::WEBHOOK_SECRET);
        let seen = patient.with("PUBLIC_URL", &url);
        match is_named {
            true => seen.is_well(),
            false => seen.warning(
                "certificate_name",
                "does not name elsewhere.example.com",
                "issued for that name",
            ),
        }
    }
    patient.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_told_in_the_same_lines_and_exits_with_2() {
    let mut patient = Patient::new().await;
    let configuration = |seen: &super::Seen, variable: &str, detail: &str| {
        let findings = seen.findings();
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert_eq!(
            (findings[0]["what"].as_str(), findings[0]["code"].as_str()),
            (Some(variable), Some("configuration"))
        );
        assert!(findings[0]["detail"].as_str().unwrap().contains(detail), "{findings:#?}");
        assert_eq!(seen.code, 2);
        // The rest is looked at as far as it goes.
        let issuers = seen.checks().iter().filter(|check| check["area"] == "issuers");
        assert!(issuers.clone().count() > 0 && issuers.clone().all(|check| check["state"] == "ok"));
    };
    std::fs::write(patient.file("cut.pem"), "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n")
        .unwrap();
    let cut = patient.path("cut.pem");
    let seen = patient.with("GITHUB_APP_PRIVATE_KEY_PATH", &cut);
    configuration(&seen, "GITHUB_APP_PRIVATE_KEY_PATH (or GITHUB_APP_PRIVATE_KEY)", "no whole RSA key");
    let seen = patient.with("GITHUB_APP_PRIVATE_KEY_PATH", "/nowhere/app.pem");
    configuration(&seen, "GITHUB_APP_PRIVATE_KEY_PATH", "the file cannot be read");
    let seen = patient.with("HTTPS_KEY_FILE", "/nowhere/tls.key");
    configuration(&seen, "HTTPS_KEY_FILE", "a readable file");
    let seen = patient.with("POLICY_FILE", "/nowhere/policy.toml");
    configuration(&seen, "POLICY_FILE", "/nowhere/policy.toml");
    let seen = patient.with("AUDIT_SIGNING_KEY_PATH", "/nowhere/audit.key");
    configuration(&seen, "AUDIT_SIGNING_KEY_PATH", "/nowhere/audit.key");
    let seen = patient.with("DATABASE_URL", "");
    configuration(&seen, "DATABASE_URL", "not set");
    let seen = patient.with("DATABASE_URL", "postgres://u@h/d?sslmode=strange");
    configuration(&seen, "DATABASE_URL", "sslmode");
    patient.leave().await;
}

#[test]
fn all_that_is_wrong_with_the_configuration_is_told_at_once() {
    let ended = runner_broker(&["doctor"], &environment()[1..3]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.starts_with("runner-broker: the configuration has "), "{}", ended.err);
    for name in ["DATABASE_URL", "GITHUB_APP_PRIVATE_KEY_PATH", "GITHUB_ORG", "OIDC_ISSUER", "OIDC_AUDIENCE"]
    {
        assert!(ended.out.contains(&format!("fault    {name}")), "{name}: {}", ended.out);
    }
}
