//! What can be wrong with an identity provider.

use runner_broker::dev::issuer::{DISCOVERY, Fault, KEYS};

use super::Patient;

#[tokio::test(flavor = "multi_thread")]
async fn each_way_in_which_an_issuer_fails_has_its_own_line() {
    let mut patient = Patient::new().await;
    let url = patient.world.issuer.url().to_owned();

    let away = patient.with("OIDC_ISSUER", "http://127.0.0.1:1");
    away.fault("issuer_unreachable", "cannot be reached", "check that it can be reached from here");

    let other = patient.with("OIDC_ISSUER", &format!("{url}/"));
    other.fault("issuer_mismatch", "names another issuer", &format!("to the last character: {url}"));

    let issuer = &patient.world.issuer;
    issuer.fail(KEYS, Fault::Body(r#"{"keys": []}"#.into()));
    patient.seen().fault("issuer_without_keys", "no key that can be used", "jwks_uri");
    issuer.fail(KEYS, Fault::Body("<html>".into()));
    patient.seen().fault(
        "issuer_malformed",
        "something other than the expected document",
        "openid-configuration",
    );
    issuer.fail(KEYS, None);
    issuer.fail(DISCOVERY, Fault::Status(404));
    patient.seen().fault("issuer_unreachable", "answered 404", "openid-configuration");
    issuer.fail(DISCOVERY, None);
    patient.seen().is_well();
    patient.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuers_clock_is_told_by_how_much_it_is_off() {
    let patient = Patient::new().await;
    let issuer = &patient.world.issuer;
    issuer.set_ahead(300);
    patient.seen().fault("issuer_clock", "s behind the issuer's, and OIDC_LEEWAY_SECONDS", "NTP");
    issuer.set_ahead(-300);
    patient.seen().fault("issuer_clock", "s ahead of the issuer's", "NTP");
    issuer.set_ahead(40);
    patient.seen().warning("issuer_clock", "s behind the issuer's", "NTP");
    patient.leave().await;
}
