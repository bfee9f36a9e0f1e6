//! What can be wrong with the App, its installations and GitHub itself.

use chrono::TimeDelta;
use runner_broker::dev::github::{Action, Canned, Fault, Limits, rotated_private_key_pem};

use super::Patient;
use crate::support::ORG;

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_a_wrong_id_and_a_wrong_clock_are_told_apart() {
    let mut patient = Patient::new().await;
    std::fs::write(patient.file("other.pem"), rotated_private_key_pem()).unwrap();
    let other = patient.path("other.pem");
    let key = patient.with("GITHUB_APP_PRIVATE_KEY_PATH", &other);
    key.fault("app_key", "\"A JSON web token could not be decoded\"", "the key's fingerprint is SHA256:");
    assert!(key.not_checked() >= 2, "{:#}", key.report);

    let id = patient.with("GITHUB_APP_ID", "7");
    id.fault("app_id", "GitHub has no App 7", "GITHUB_APP_ID is 7: set it to the \"App ID\"");

    for (ahead, said) in [(700, "s behind GitHub's"), (-700, "s ahead of GitHub's")] {
        patient.world.github.set_ahead(TimeDelta::seconds(ahead));
        let clock = patient.seen();
        clock.fault("github_clock", said, "set this machine's clock by NTP");
        let app = clock.checks().iter().find(|check| check["what"] == "The App").unwrap();
        assert_eq!(app["code"], "not_checked");
    }
    patient.world.github.set_ahead(TimeDelta::seconds(45));
    patient.seen().warning("github_clock", "s behind GitHub's", "NTP");
    patient.world.github.set_ahead(TimeDelta::zero());
    // Both at once: the key is what GitHub refuses.
    patient.world.github.set_ahead(TimeDelta::seconds(700));
    let both = patient.with("GITHUB_APP_PRIVATE_KEY_PATH", &other);
    let codes: Vec<_> = both.findings().iter().map(|check| check["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["app_key", "github_clock"]);
    patient.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_target_lacks_is_told_exactly() {
    let mut patient = Patient::new().await;
    let github = &patient.world.github;
    let all = [("organization_self_hosted_runners", "write"), ("actions", "read")];

    github.set_permissions(ORG, &[("organization_self_hosted_runners", "read"), ("actions", "read")]);
    patient.seen().fault(
        "permission_missing",
        "lacks organization_self_hosted_runners=write",
        "add it to the App's permissions",
    );
    github.set_permissions(ORG, &all[..1]);
    patient.seen().warning("permission_missing", "lacks actions=read", "add it to the App's permissions");
    github.set_permissions(ORG, &all);
    patient.seen().is_well();

    github.suspend(ORG);
    patient.settled().await;
    patient.seen().fault("app_suspended", "is suspended", "an owner of the account lifts that");
    github.unsuspend(ORG);
    github.uninstall(ORG);
    patient.settled().await;
    patient.seen().fault("app_not_installed", "not installed there", "install the App for it");
    github.install(ORG);
    patient.settled().await;
    patient.seen().is_well();
    patient.with("GITHUB_APP_INSTALLATION_ID", "1").fault(
        "installation_id",
        "is 1, but it is",
        "leave it out",
    );
    patient.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_target_that_the_policy_names_is_looked_at() {
    let patient = Patient::new().await;
    let team = crate::support::team("blue", r#"targets = ["octo-org", "octo-org/nowhere", "octo-org/x-*"]"#);
    patient.world.policy(&team).await;
    let seen = patient.seen();
    seen.fault("app_not_installed", "not for this repository", "install the App");
    assert_eq!(seen.findings()[0]["what"], "octo-org/nowhere");
    patient.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_that_is_used_up_is_told_by_what_is_left_until_when() {
    let patient = Patient::new().await;
    let github = &patient.world.github;
    github.set_limits(Some(Limits::default()));
    patient.seen().is_well();
    github.leave(ORG, "core", 1_000);
    patient.seen().warning("rate_limit_low", "core: 1000 of 5000 left", "SYNC_INTERVAL_SECONDS");
    github.leave(ORG, "core", 10);
    patient.seen().fault("rate_limit_used_up", "core: 10 of 5000 left until", "GITHUB_RATE_LIMITED");
    github.leave(ORG, "core", 5_000);
    github.leave(ORG, "actions_runner_registration", 0);
    let registration = "actions_runner_registration: 0 of 10000 left";
    patient.seen().fault("rate_limit_used_up", registration, "GITHUB_RATE_LIMITED");
    github.leave(ORG, "actions_runner_registration", 10_000);
    github.fail(Fault::new("GET", "/rate_limit", Action::SecondaryLimit { retry_after_seconds: 60 }));
    patient.seen().fault("rate_limit_used_up", "wants no calls until", "GITHUB_RATE_LIMITED");
    github.fail(Fault::new("GET", "/rate_limit", Action::Respond(Canned::status(404))));
    patient.seen().is_well();
    patient.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_github_that_is_away_or_no_github_is_one_fault() {
    let mut patient = Patient::new().await;
    let away = patient.with("GITHUB_API_URL", "http://127.0.0.1:1");
    away.fault("github_unreachable", "GitHub is unavailable", "check that GITHUB_API_URL can be reached");
    let url = patient.world.issuer.url().to_owned();
    let other = patient.with("GITHUB_API_URL", &url);
    assert_eq!(other.findings()[0]["code"], "app_id", "{:#}", other.report);
    patient.leave().await;
}
