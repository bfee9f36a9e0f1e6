//! Good tokens, and who is seen in them.

use runner_broker::dev::issuer::{Alg, DISCOVERY, Fault, KEYS, TOKEN};
use serde_json::{Value, json};

use super::{World, configured, issuer, trusting, verifier, why};

#[tokio::test]
async fn every_algorithm_of_the_contract_is_accepted() {
    let world = World::ready().await;
    let rsa = [Alg::RS256, Alg::RS384, Alg::RS512, Alg::PS256, Alg::PS384, Alg::PS512];
    for alg in rsa.into_iter().chain([Alg::ES256, Alg::ES384, Alg::EdDSA]) {
        let token = world.issuer.token().alg(alg).claim("sub", "someone").mint();
        assert_eq!(world.verify(&token).await.unwrap(), "someone", "{alg:?}");
    }
}

#[tokio::test]
async fn an_identity_is_issuer_and_subject_and_the_claims_come_along() {
    let world = World::ready().await;
    let token = world.issuer.mint(json!({ "sub": "repo:o/r:ref:refs/heads/main", "repository": "o/r" }));
    let verified = world.verifier.verify(&token).await.unwrap();
    assert_eq!(verified.identity.issuer, world.issuer.url());
    assert_eq!(verified.identity.subject, "repo:o/r:ref:refs/heads/main");
    assert_eq!(verified.identity.display_name, "repo:o/r:ref:refs/heads/main");
    assert_eq!(verified.claims["repository"], "o/r");
    assert!(!format!("{verified:?}").contains(&token));
}

#[tokio::test]
async fn one_of_several_audiences_is_enough() {
    let world = World::ready().await;
    let token = world.issuer.mint(json!({ "aud": ["other", "runner-broker"] }));
    assert!(world.verify(&token).await.is_ok());
}

#[tokio::test]
async fn times_may_be_fractions_and_off_by_the_leeway() {
    let world = World::ready().await;
    let now = world.clock.now().timestamp() as f64;
    let token = world.issuer.mint(json!({ "exp": now - 50.5, "nbf": now + 50.5, "iat": now + 50.5 }));
    assert!(world.verify(&token).await.is_ok());
}

async fn display_name(claims: Value) -> String {
    let world = World::ready().await;
    world.verifier.verify(&world.issuer.mint(claims)).await.unwrap().identity.display_name
}

#[tokio::test]
async fn the_email_is_shown_only_if_the_issuer_says_that_it_is_verified() {
    let person =
        |verified| json!({ "email": "a@b.c", "preferred_username": "ab", "email_verified": verified });
    assert_eq!(display_name(person(Value::Null)).await, "ab");
    assert_eq!(display_name(json!({ "email": "ceo@corp.example" })).await, "dev");
    assert_eq!(display_name(person(json!(true))).await, "a@b.c");
    assert_eq!(display_name(person(json!("true"))).await, "a@b.c");
    assert_eq!(display_name(person(json!(false))).await, "ab");
    assert_eq!(display_name(person(json!("false"))).await, "ab");
    assert_eq!(display_name(json!({ "email": "a@b.c", "email_verified": false })).await, "dev");
}

#[tokio::test]
async fn a_display_name_can_neither_fill_nor_turn_a_line() {
    let name = |name: String| json!({ "preferred_username": name });
    assert_eq!(display_name(name("a\n\u{1b}[2Jb\u{202e}c".into())).await, "a[2Jbc");
    assert_eq!(display_name(name("x".repeat(5_000))).await.len(), 256);
    let nobody = json!({ "email": "\u{200b}\n", "email_verified": true, "preferred_username": "ab" });
    assert_eq!(display_name(nobody).await, "ab");
}

#[tokio::test]
async fn no_caller_has_a_name_like_one_of_ours() {
    for name in ["system:sync", "SYSTEM:sync", "\u{200b}system:sync", " system:x", "sys\u{ad}tem:x"] {
        assert_eq!(display_name(json!({ "preferred_username": name })).await, "dev", "{name:?}");
        let verified = json!({ "email": name, "email_verified": true, "preferred_username": "ab" });
        assert_eq!(display_name(verified).await, "ab", "{name:?}");
    }
    let kubernetes = json!({ "sub": "system:serviceaccount:ci:runner" });
    assert_eq!(display_name(kubernetes).await, "serviceaccount:ci:runner");
    assert_eq!(display_name(json!({ "sub": "system: System:x" })).await, "x");
    assert_eq!(display_name(json!({ "sub": "system:" })).await, "-");
}

#[tokio::test]
async fn each_issuer_vouches_for_its_own_subjects_and_audience() {
    let world = World::new();
    let other = issuer(&world.clock);
    let mut second = trusting(&other);
    second.audience = "second".into();
    let both = configured(vec![trusting(&world.issuer), second], &world.clock);
    both.refresh().await;

    let of = async |token: String| both.verify(&token).await.map(|verified| verified.identity);
    let first = of(world.issuer.mint(json!({}))).await.unwrap();
    let namesake = of(other.mint(json!({ "aud": "second" }))).await.unwrap();
    assert_eq!(first.subject, namesake.subject);
    assert_ne!(first, namesake);
    // The audience of one is not that of the other, nor is a key.
    assert!(of(other.mint(json!({}))).await.is_err());
    assert!(of(other.mint(json!({ "iss": world.issuer.url() }))).await.is_err());
}

#[tokio::test]
async fn the_discovery_document_of_github_actions_is_enough() {
    let world = World::new();
    let document = json!({
        "issuer": world.issuer.url(),
        "jwks_uri": format!("{}{KEYS}", world.issuer.url()),
        "subject_types_supported": ["public", "pairwise"],
        "response_types_supported": ["id_token"],
        "claims_supported": ["sub", "aud", "exp", "iat", "iss", "jti", "nbf", "ref", "repository"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid"],
    });
    world.issuer.fail(DISCOVERY, Fault::Body(document.to_string()));
    assert!(world.verify(&world.issuer.mint(json!({}))).await.is_ok());
}

#[tokio::test]
async fn the_discovery_document_of_kubernetes_is_enough() {
    let world = World::new();
    let document = json!({
        "issuer": world.issuer.url(),
        "jwks_uri": format!("{}{KEYS}", world.issuer.url()),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    });
    world.issuer.fail(DISCOVERY, Fault::Body(document.to_string()));
    let service_account = json!({ "sub": "system:serviceaccount:ci:runner", "aud": ["runner-broker"],
        "kubernetes.io": { "namespace": "ci" } });
    assert!(world.verify(&world.issuer.mint(service_account)).await.is_ok());
}

#[tokio::test]
async fn a_configured_key_set_needs_no_discovery() {
    let world = World::new();
    world.issuer.fail(DISCOVERY, Fault::Status(404));
    let mut issuer = trusting(&world.issuer);
    issuer.jwks_url = Some(format!("{}{KEYS}", world.issuer.url()).parse().unwrap());
    let verifier = configured(vec![issuer], &world.clock);
    assert!(verifier.verify(&world.issuer.mint(json!({}))).await.is_ok());
    assert_eq!(world.issuer.calls(DISCOVERY), 0);
}

#[tokio::test]
async fn a_token_without_kid_is_accepted_only_if_one_key_can_be_meant() {
    let world = World::ready().await;
    let token = || world.issuer.token().header("kid", Value::Null);
    assert!(world.verify(&token().mint()).await.is_ok());
    assert!(world.verify(&token().alg(Alg::ES256).mint()).await.is_ok());

    world.issuer.rotate(true).unwrap();
    let both_known = verifier(&[&world.issuer], &world.clock);
    both_known.refresh().await;
    let answer = both_known.verify(&token().mint()).await.map(|verified| verified.identity.subject);
    assert_eq!(why(answer), "kid is missing and the issuer has several keys");
}

#[tokio::test]
async fn the_development_issuer_signs_for_another_process() {
    let world = World::ready().await;
    let ask = async |kind: &str, body: &str| {
        let ask = reqwest::Client::new().post(format!("{}{TOKEN}", world.issuer.url()));
        let answer = ask.header("content-type", kind).body(body.to_owned()).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let token = answer["access_token"].as_str().unwrap().to_owned();
        assert!(world.issuer.issued().contains(&token));
        world.verifier.verify(&token).await.unwrap()
    };
    let json = ask("application/json", r#"{"sub":"a","claims":{"groups":["x"]}}"#).await;
    assert_eq!((json.identity.subject.as_str(), &json.claims["groups"]), ("a", &json!(["x"])));
    let form =
        ask("application/x-www-form-urlencoded", "sub=b&audience=runner-broker&claims=%7B%22n%22%3A1%7D")
            .await;
    assert_eq!((form.identity.subject.as_str(), &form.claims["n"]), ("b", &json!(1)));
}
