//! Tokens at the door: what is refused there reaches neither GitHub nor the table, and is counted in the log.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use reqwest::Method;
use runner_broker::dev::issuer::{Alg, DISCOVERY, Fault, Issuer, KEYS, Settings};
use serde_json::{Value, json};

use crate::support::{AUDIENCE, Answer, World, eventually};

const JIT: &str = "/api/v1/runners/jit";

async fn provision(world: &World, token: &str) -> Answer {
    world.call(Method::POST, JIT, token, &[], Some(json!({ "runner_name": "b1" }))).await
}

/// The claims of somebody who may have the runner; each test spoils one thing.
fn good(issuer: &Issuer) -> runner_broker::dev::issuer::Token<'_> {
    issuer.token().claim("sub", "blue-user").claim("team", "blue")
}

/// 401 with a challenge, nothing done, one event.
async fn refused(mint: impl FnOnce(&Issuer) -> String) {
    let world = World::new().await;
    let token = mint(&world.issuer);
    let answer = provision(&world, &token).await;
    assert_eq!(answer.refusal(), (401, "INVALID_TOKEN"), "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let challenge = answer.header("www-authenticate");
    let description = answer.str("detail");
    assert_eq!(
        challenge,
        format!(r#"Bearer realm="runner-broker", error="invalid_token", error_description="{description}""#)
    );
    assert!(!description.is_empty() && !description.contains(['"', '\\']), "{description}");
    assert!(!answer.text.contains(&token) && !challenge.contains(&token));
    assert!(world.github.calls().is_empty());
    assert_eq!(world.sql("SELECT count(*) FROM runners").await, ["0"]);
    let event = format!("token_refused INVALID_TOKEN {description} system:authentication 127.0.0.1");
    let query = "SELECT concat_ws(' ', event_type, error_code, error_message, user_identity, request_ip) \
                 FROM audit_log WHERE event_type <> 'policy_applied'";
    eventually("the event", async || world.sql(query).await == [event.clone()]).await;
}

macro_rules! refused {
    ($($name:ident: $mint:expr;)+) => { $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            refused($mint).await;
        }
    )+ };
}

refused! {
    what_is_no_token_is_refused: |_| "ghs_16C7e42F292c6912E7710c838347Ae178B4a".into();
    a_token_of_empty_parts_is_refused: |_| "..".into();
    a_token_longer_than_16_kib_is_refused: |i| good(i).claim("padding", "x".repeat(16 * 1024)).mint();
    a_token_with_a_fourth_part_is_refused: |i| format!("{}.e30", good(i).mint());
    a_token_without_its_signature_is_refused: |i| without_signature(&good(i).mint());
    a_token_whose_header_is_no_json_is_refused: |i| with_part(&good(i).mint(), 0, "alg: RS256");
    a_token_whose_claims_are_no_object_is_refused: |i| with_part(&good(i).mint(), 1, "[]");
    a_token_with_alg_none_is_refused: |i| good(i).alg(Alg::None).mint();
    a_token_that_calls_itself_unsigned_is_refused: |i| good(i).header("alg", "none").mint();
    an_hmac_with_the_public_key_is_refused: |i| good(i).alg(Alg::HS256).mint();
    an_hmac_that_calls_itself_rsa_is_refused: |i| good(i).alg(Alg::HS256).header("alg", "RS256").mint();
    an_algorithm_that_nobody_knows_is_refused: |i| good(i).header("alg", "ES512").mint();
    an_algorithm_that_does_not_fit_the_key_is_refused: |i| good(i).header("alg", "ES256").mint();
    a_key_in_the_tokens_own_header_is_refused: |i| {
        let own = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
        good(i).alg(Alg::EdDSA).signed_by_a_stranger().header("kid", "mine").header("jwk", own).mint()
    };
    a_key_that_the_token_points_at_is_refused: |i| {
        let token = good(i).signed_by_a_stranger().header("kid", "mine");
        token.header("jku", "https://attacker.example/keys").mint()
    };
    a_signature_by_a_stranger_under_a_published_kid_is_refused: |i| good(i).signed_by_a_stranger().mint();
    a_kid_that_nobody_published_is_refused: |i| good(i).header("kid", "unknown").mint();
    claims_changed_after_signing_are_refused: |i| {
        let (signed, other) = (good(i).mint(), good(i).claim("sub", "admin").mint());
        let (signed, other): (Vec<&str>, Vec<&str>) = (signed.split('.').collect(), other.split('.').collect());
        format!("{}.{}.{}", signed[0], other[1], signed[2])
    };
    a_critical_extension_is_refused: |i| good(i).header("crit", json!(["b64"])).header("b64", false).mint();
    a_token_for_another_audience_is_refused: |i| good(i).claim("aud", "somebody-else").mint();
    a_token_for_no_audience_is_refused: |i| good(i).claim("aud", Value::Null).mint();
    a_token_of_an_unknown_issuer_is_refused: |i| good(i).claim("iss", "https://attacker.example").mint();
    an_issuer_that_differs_by_a_slash_is_refused: |i| good(i).claim("iss", format!("{}/", i.url())).mint();
    a_token_without_issuer_is_refused: |i| good(i).claim("iss", Value::Null).mint();
    an_expired_token_is_refused: |i| good(i).time("exp", -61).mint();
    a_token_without_expiry_is_refused: |i| good(i).claim("exp", Value::Null).mint();
    an_expiry_that_is_no_number_is_refused: |i| good(i).claim("exp", "4102444800").mint();
    a_token_from_before_its_time_is_refused: |i| good(i).time("nbf", 65).mint();
    a_token_issued_in_the_future_is_refused: |i| good(i).time("iat", 65).mint();
    a_token_about_nobody_is_refused: |i| good(i).claim("sub", Value::Null).mint();
    a_token_about_an_empty_subject_is_refused: |i| good(i).claim("sub", "").mint();
    a_subject_with_control_characters_is_refused: |i| good(i).claim("sub", "a\u{0}b").mint();
}

fn without_signature(token: &str) -> String {
    token.rsplit_once('.').map(|(signed, _)| format!("{signed}.")).expect("three parts")
}

fn with_part(token: &str, index: usize, text: &str) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts[index] = BASE64URL.encode(text);
    parts.join(".")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_that_the_others_spoil_is_accepted() {
    let world = World::new().await;
    let token = good(&world.issuer).mint();
    assert_eq!(provision(&world, &token).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_bearer_token_is_told_how_to_send_one() {
    let world = World::new().await;
    let token = good(&world.issuer).mint();
    let twice = [("authorization", format!("Bearer {token}")), ("authorization", "Bearer x".into())];
    let once = |value: String| vec![("authorization", value)];
    for headers in
        [vec![], once(format!("Basic {token}")), once("Bearer".into()), once(token), twice.to_vec()]
    {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = world.call(Method::POST, JIT, "", &headers, Some(json!({ "runner_name": "b1" }))).await;
        assert_eq!(answer.refusal(), (401, "MISSING_TOKEN"), "{headers:?}");
        // RFC 6750 (3.1): no error code for who sent no token at all.
        assert_eq!(answer.header("www-authenticate"), r#"Bearer realm="runner-broker""#);
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    assert!(world.github.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scheme_is_compared_without_case() {
    let world = World::new().await;
    let bearer = format!("bEARER {}", world.token("blue"));
    let answer = world.call(Method::GET, "/api/v1/auth/me", "", &[("authorization", &bearer)], None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_the_api_refuses_a_stranger_before_anything_else() {
    let world = World::new().await;
    let api = world.get("/openapi.json", "blue").await.body;
    let mut calls = 0;
    // GitHub brings a signature, not a token.
    let asks = |path: &str| path.starts_with("/api/v1/") && !path.starts_with("/api/v1/webhooks/");
    for (path, item) in api["paths"].as_object().unwrap().iter().filter(|(path, _)| asks(path)) {
        for method in item.as_object().unwrap().keys() {
            let method = method.to_uppercase().parse().unwrap();
            let path = path.replace("{id_or_name}", "b1");
            let answer = world.call(method, &path, "", &[], Some(json!("no object"))).await;
            assert_eq!(answer.refusal(), (401, "MISSING_TOKEN"), "{path}");
            calls += 1;
        }
    }
    assert!(calls >= 12, "{calls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_bad_body_is_not_looked_at() {
    let world = World::new().await;
    let token = good(&world.issuer).claim("aud", "other").mint();
    for body in ["not JSON".to_owned(), "x".repeat(5 << 20)] {
        let request = world.client().post(format!("{}{JIT}", world.url)).bearer_auth(&token).body(body);
        assert_eq!(crate::support::answer(request).await.refusal(), (401, "INVALID_TOKEN"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_refusal_is_written_at_once_and_the_others_as_a_count() {
    let world = World::new().await;
    let query = "SELECT concat_ws(' ', coalesce(issuer, 'unknown'), event_data ->> 'further') \
                 FROM audit_log WHERE event_type = 'token_refused' ORDER BY id";
    let own = world.issuer.url().to_owned();
    for _ in 0..5 {
        provision(&world, &good(&world.issuer).time("exp", -61).mint()).await;
    }
    eventually("the first", async || world.sql(query).await == [own.clone()]).await;
    // Whoever invents issuers gets no events for it.
    for n in 0..4 {
        let stranger = good(&world.issuer).claim("iss", format!("https://{n}.example")).mint();
        provision(&world, &stranger).await;
    }
    eventually("the strangers' first", async || world.sql(query).await == [own.clone(), "unknown".into()])
        .await;
    world.broker.flush_refusals().await.unwrap();
    let mut rows = world.sql(query).await.split_off(2);
    rows.sort();
    assert_eq!(rows, [format!("{own} 4"), "unknown 3".to_owned()]);
    // One in the next minute is counted; after a minute without any, the next is a first again.
    let expired = good(&world.issuer).time("exp", -61).mint();
    provision(&world, &expired).await;
    world.broker.flush_refusals().await.unwrap();
    assert_eq!(world.sql(query).await.split_off(4), [format!("{own} 1")]);
    world.broker.flush_refusals().await.unwrap();
    assert_eq!(world.sql(query).await.len(), 5);
    provision(&world, &expired).await;
    eventually("a first again", async || world.sql(query).await.split_off(5) == [own.clone()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_is_told_when_to_come_back_while_its_issuer_is_down() {
    let world = World::new().await;
    let settings = Settings { port: 0, audience: AUDIENCE.into(), clock: world.clock.clone() };
    let down = Issuer::start(settings).unwrap();
    for path in [DISCOVERY, KEYS] {
        down.fail(path, Fault::Status(500));
    }
    let url = down.url().to_owned();
    let other = World::with(|config| config.oidc.issuers[0].issuer = url).await;
    let answer = provision(&other, &good(&down).mint()).await;
    assert_eq!(answer.refusal(), (503, "ISSUER_UNAVAILABLE"));
    let wait: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    assert!(answer.header("www-authenticate").is_empty());
    assert!(answer.str("detail").contains(down.url()));
    assert!(other.github.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_display_name_with_control_characters_is_cleaned_before_it_is_kept() {
    let world = World::new().await;
    let token = good(&world.issuer).claim("preferred_username", "a\u{0}b\nc").mint();
    let answer = provision(&world, &token).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let names = world.sql("SELECT DISTINCT user_identity FROM audit_log WHERE runner_name = 'b1'").await;
    assert!(names.len() == 1 && !names[0].contains(char::is_control), "{names:?}");
}
