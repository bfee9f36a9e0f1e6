//! Bad tokens, one kind a test. All of them differ from a good token in one thing only.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use runner_broker::auth::Error;
use runner_broker::dev::issuer::{Alg, Issuer, KEYS, Token};
use serde_json::{Value, json};

use super::{UNKNOWN_KEY, World, issuer, why};

/// Why a good token is refused once it is changed like this.
async fn changed(change: impl FnOnce(Token<'_>) -> Token<'_>) -> &'static str {
    minted(|issuer| change(issuer.token()).mint()).await
}

async fn minted(mint: impl FnOnce(&Issuer) -> String) -> &'static str {
    let world = World::ready().await;
    let token = mint(&world.issuer);
    let answer = world.verify(&token).await;
    if let Err(err) = &answer {
        assert!(!token.is_empty() && !format!("{err} {err:?}").contains(&token));
    }
    why(answer)
}

async fn claim(name: &str, value: impl Into<Value>) -> &'static str {
    changed(|token| token.claim(name, value)).await
}

async fn time(name: &str, seconds_from_now: i64) -> &'static str {
    changed(|token| token.time(name, seconds_from_now)).await
}

fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().expect("three parts")
}

#[tokio::test]
async fn what_is_no_token_at_all_is_refused() {
    let world = World::ready().await;
    for text in ["", ".", "..", "...", "a.b", "a.b.c", "ghs_16C7e42F292c6912E7710c838347Ae178B4a"] {
        why(world.verify(text).await);
    }
}

#[tokio::test]
async fn a_token_longer_than_16_kib_is_refused() {
    assert_eq!(claim("padding", "x".repeat(16 * 1024)).await, "the token is longer than 16 KiB");
}

#[tokio::test]
async fn a_token_with_more_than_three_parts_is_refused() {
    minted(|issuer| format!("{}.e30", issuer.mint(json!({})))).await;
    minted(|issuer| format!("e30.{}", issuer.mint(json!({})))).await;
    minted(|issuer| format!("{}.e30.e30", issuer.mint(json!({})))).await;
}

#[tokio::test]
async fn a_token_with_blanks_around_it_is_refused() {
    minted(|issuer| format!(" {}", issuer.mint(json!({})))).await;
    minted(|issuer| format!("{}\n", issuer.mint(json!({})))).await;
}

#[tokio::test]
async fn padded_base64_is_refused() {
    minted(|issuer| format!("{}=", issuer.mint(json!({})))).await;
}

#[tokio::test]
async fn a_header_that_is_no_json_is_refused() {
    let token = |issuer: &Issuer| {
        let good = issuer.mint(json!({}));
        let [_, claims, signature] = parts(&good);
        format!("{}.{claims}.{signature}", BASE64URL.encode("alg: RS256"))
    };
    assert_eq!(minted(token).await, "the token's header cannot be read");
}

#[tokio::test]
async fn claims_that_are_no_object_are_refused() {
    let token = |issuer: &Issuer| {
        let good = issuer.mint(json!({}));
        let [header, _, signature] = parts(&good);
        format!("{header}.{}.{signature}", BASE64URL.encode("[]"))
    };
    assert_eq!(minted(token).await, "the token's claims cannot be read");
}

#[tokio::test]
async fn an_unsigned_token_is_refused() {
    assert_eq!(changed(|token| token.alg(Alg::None)).await, "alg is not accepted here");
    changed(|token| token.alg(Alg::None).header("alg", "nOnE")).await;
    changed(|token| token.header("alg", "none")).await;
}

#[tokio::test]
async fn a_token_without_alg_is_refused() {
    assert_eq!(changed(|token| token.header("alg", Value::Null)).await, "the token's header cannot be read");
}

#[tokio::test]
async fn an_hmac_with_the_public_key_as_secret_is_refused() {
    assert_eq!(changed(|token| token.alg(Alg::HS256)).await, "alg is not accepted here");
    let disguised = changed(|token| token.alg(Alg::HS256).header("alg", "RS256")).await;
    assert_eq!(disguised, "the signature is wrong");
}

#[tokio::test]
async fn an_algorithm_that_nobody_knows_is_refused() {
    for alg in ["ES512", "ES256K", "Ed448", "RS1", "rs256", ""] {
        assert_eq!(changed(|token| token.header("alg", alg)).await, "alg is not accepted here");
    }
}

#[tokio::test]
async fn a_missing_signature_is_refused() {
    let stripped = |issuer: &Issuer| {
        let good = issuer.mint(json!({}));
        let [header, claims, _] = parts(&good);
        format!("{header}.{claims}.")
    };
    assert_eq!(minted(stripped).await, "the signature is wrong");
}

#[tokio::test]
async fn a_signature_of_zeros_is_refused() {
    let zeros = |issuer: &Issuer| {
        let good = issuer.token().alg(Alg::ES256).mint();
        let [header, claims, _] = parts(&good);
        format!("{header}.{claims}.{}", BASE64URL.encode([0; 64]))
    };
    assert_eq!(minted(zeros).await, "the signature is wrong");
}

#[tokio::test]
async fn a_signature_by_another_key_is_refused() {
    for alg in [Alg::RS256, Alg::PS256, Alg::ES256, Alg::ES384, Alg::EdDSA] {
        assert_eq!(changed(|token| token.alg(alg).signed_by_a_stranger()).await, "the signature is wrong");
    }
}

#[tokio::test]
async fn changed_claims_are_refused() {
    let tampered = |issuer: &Issuer| {
        let (good, other) = (issuer.mint(json!({})), issuer.mint(json!({ "sub": "admin" })));
        let ([header, _, signature], [_, claims, _]) = (parts(&good), parts(&other));
        format!("{header}.{claims}.{signature}")
    };
    assert_eq!(minted(tampered).await, "the signature is wrong");
}

#[tokio::test]
async fn a_changed_header_is_refused() {
    let tampered = |issuer: &Issuer| {
        let (good, other) = (issuer.mint(json!({})), issuer.token().header("typ", "at+jwt").mint());
        let ([_, claims, signature], [header, _, _]) = (parts(&good), parts(&other));
        format!("{header}.{claims}.{signature}")
    };
    assert_eq!(minted(tampered).await, "the signature is wrong");
}

#[tokio::test]
async fn an_alg_that_did_not_make_the_signature_is_refused() {
    for alg in ["RS384", "PS256"] {
        assert_eq!(changed(|token| token.header("alg", alg)).await, "the signature is wrong");
    }
}

#[tokio::test]
async fn an_alg_that_does_not_fit_the_key_is_refused() {
    for alg in ["ES256", "ES384", "EdDSA"] {
        assert_eq!(changed(|token| token.header("alg", alg)).await, "alg does not fit the key");
    }
    let wrong_curve = changed(|token| token.alg(Alg::ES384).header("alg", "ES256")).await;
    assert_eq!(wrong_curve, "alg does not fit the key");
}

#[tokio::test]
async fn a_kid_that_nobody_published_is_refused() {
    let world = World::ready().await;
    for kid in ["", "unknown", "../../etc/passwd", "' OR 1=1 --"] {
        world.pass(10);
        let token = world.issuer.token().header("kid", kid).mint();
        assert_eq!(why(world.verify(&token).await), UNKNOWN_KEY);
    }
}

#[tokio::test]
async fn a_kid_that_is_no_text_is_refused() {
    assert_eq!(changed(|token| token.header("kid", json!(["a"]))).await, "the token's header cannot be read");
}

#[tokio::test]
async fn a_key_that_the_token_brings_along_is_not_used() {
    let own_key =
        json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    for header in ["jwk", "jku", "x5u", "x5c"] {
        let world = World::ready().await;
        world.pass(10);
        let token = world.issuer.token().alg(Alg::EdDSA).signed_by_a_stranger();
        let forged = token.header("kid", "mine").header(header, own_key.clone()).mint();
        assert_eq!(why(world.verify(&forged).await), UNKNOWN_KEY);
    }
}

#[tokio::test]
async fn a_critical_extension_is_refused() {
    let why = "crit names an extension that is not understood here";
    assert_eq!(changed(|token| token.header("crit", json!(["b64"])).header("b64", false)).await, why);
    assert_eq!(changed(|token| token.header("crit", json!([]))).await, why);
}

#[tokio::test]
async fn an_issuer_that_is_not_configured_is_refused_and_never_asked() {
    let world = World::ready().await;
    let stranger = issuer(&world.clock);
    let answer = world.verifier.verify(&stranger.mint(json!({}))).await;
    assert!(matches!(answer, Err(Error::Invalid { known_issuer: None, .. })), "{answer:?}");
    assert_eq!(stranger.calls(KEYS), 0);
}

#[tokio::test]
async fn an_issuer_that_differs_in_one_character_is_refused() {
    let world = World::ready().await;
    let url = world.issuer.url();
    for near in
        [format!("{url}/"), url.to_uppercase(), format!("{url} "), url.replace("127.0.0.1", "localhost")]
    {
        let token = world.issuer.mint(json!({ "iss": near }));
        assert_eq!(why(world.verify(&token).await), "the issuer is not known here");
    }
}

#[tokio::test]
async fn a_token_without_issuer_is_refused() {
    assert_eq!(claim("iss", Value::Null).await, "iss is missing");
    assert_eq!(claim("iss", 7).await, "iss is missing");
}

#[tokio::test]
async fn a_refusal_names_the_issuer_once_it_is_recognised() {
    let world = World::ready().await;
    let answer = world.verifier.verify(&world.issuer.mint(json!({ "aud": "other" }))).await;
    let Err(Error::Invalid { known_issuer, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(known_issuer.as_deref(), Some(world.issuer.url()));
}

#[tokio::test]
async fn a_token_for_another_audience_is_refused() {
    for aud in [json!("other"), json!("Runner-Broker"), json!("runner-broker-2"), json!(["other"]), json!([])]
    {
        assert_eq!(claim("aud", aud).await, "aud does not name this service");
    }
    assert_eq!(claim("aud", json!([["runner-broker"]])).await, "aud does not name this service");
}

#[tokio::test]
async fn a_token_for_no_audience_is_refused() {
    assert_eq!(claim("aud", Value::Null).await, "aud is missing");
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    assert_eq!(time("exp", -61).await, "the token has expired");
    assert_eq!(time("exp", -60).await, "the token has expired");
}

#[tokio::test]
async fn a_token_expires_while_the_clock_runs() {
    let world = World::ready().await;
    let token = world.issuer.mint(json!({}));
    assert!(world.verify(&token).await.is_ok());
    world.pass(3600 + 60);
    assert_eq!(why(world.verify(&token).await), "the token has expired");
}

#[tokio::test]
async fn a_token_without_expiry_is_refused() {
    assert_eq!(claim("exp", Value::Null).await, "exp is missing");
    let null = |issuer: &Issuer| {
        let claims = json!({ "iss": issuer.url(), "aud": "runner-broker", "sub": "dev", "exp": null });
        let good = issuer.mint(json!({}));
        let [header, _, signature] = parts(&good);
        format!("{header}.{}.{signature}", BASE64URL.encode(claims.to_string()))
    };
    assert_eq!(minted(null).await, "exp, nbf or iat is not a number");
}

#[tokio::test]
async fn a_time_that_is_no_number_is_refused() {
    for name in ["exp", "nbf", "iat"] {
        assert_eq!(claim(name, "4102444800").await, "exp, nbf or iat is not a number");
    }
}

#[tokio::test]
async fn a_token_from_before_its_time_is_refused() {
    assert_eq!(time("nbf", 65).await, "the token is not valid yet (nbf)");
}

#[tokio::test]
async fn a_token_issued_in_the_future_is_refused() {
    assert_eq!(time("iat", 65).await, "the token was issued in the future (iat)");
}

#[tokio::test]
async fn a_token_about_nobody_is_refused() {
    for sub in [Value::Null, json!(""), json!(42), json!(["dev"])] {
        assert_eq!(claim("sub", sub).await, "sub is missing");
    }
}

#[tokio::test]
async fn a_subject_that_cannot_be_kept_is_refused() {
    assert_eq!(claim("sub", "x".repeat(1025)).await, "sub is too long");
    assert_eq!(claim("sub", "a\0b").await, "sub has control characters");
}

#[tokio::test]
async fn a_token_that_was_good_a_moment_ago_excuses_no_other_and_ends_in_time() {
    let world = World::ready().await;
    let (good, other) = (world.issuer.mint(json!({})), world.issuer.mint(json!({ "sub": "admin" })));
    world.verify(&good).await.expect("a good token");
    world.verify(&good).await.expect("the same again");
    let ([header, claims, signature], [_, others, made_for_others]) = (parts(&good), parts(&other));
    for tampered in [
        format!("{header}.{others}.{signature}"),
        format!("{header}.{claims}.{made_for_others}"),
        // The same bytes, taken apart elsewhere.
        format!("{header}.{claims}{signature}."),
    ] {
        why(world.verify(&tampered).await);
    }
    world.pass(3600 + 61);
    assert_eq!(why(world.verify(&good).await), "the token has expired");
}
