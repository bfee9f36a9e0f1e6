//! Published keys that are not used, and one that is used although its neighbours are strange.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use runner_broker::dev::issuer::{Alg, Fault, KEYS};
use serde_json::{Value, json};

use super::{UNKNOWN_KEY, World, why};

/// A world whose issuer publishes its RSA key changed like this.
async fn publishing(change: impl FnOnce(&mut Value)) -> World {
    let world = World::new();
    let mut keys = world.issuer.keys();
    change(&mut keys["keys"][0]);
    world.issuer.fail(KEYS, Fault::Body(keys.to_string()));
    world.verifier.refresh().await;
    assert!(world.verify(&world.issuer.token().alg(Alg::EdDSA).mint()).await.is_ok(), "the others serve");
    world
}

#[tokio::test]
async fn a_key_that_is_not_for_signatures_is_not_used() {
    for change in [json!({ "use": "enc" }), json!({ "key_ops": ["encrypt"] }), json!({ "alg": "RSA-OAEP" })] {
        let world =
            publishing(|key| key.as_object_mut().unwrap().extend(change.as_object().unwrap().clone())).await;
        assert_eq!(why(world.verify(&world.issuer.mint(json!({}))).await), UNKNOWN_KEY);
    }
}

#[tokio::test]
async fn a_key_is_used_only_with_the_algorithm_that_it_names() {
    let world = publishing(|key| key["alg"] = json!("RS512")).await;
    assert_eq!(why(world.verify(&world.issuer.mint(json!({}))).await), "alg does not fit the key");
    assert!(world.verify(&world.issuer.token().alg(Alg::RS512).mint()).await.is_ok());
}

#[tokio::test]
async fn a_private_key_that_is_published_is_not_used() {
    let world = publishing(|key| key["d"] = json!("AQAB")).await;
    assert_eq!(why(world.verify(&world.issuer.mint(json!({}))).await), UNKNOWN_KEY);
}

#[tokio::test]
async fn a_symmetric_key_that_is_published_is_not_used() {
    let world = publishing(|key| {
        let kid = key["kid"].take();
        *key = json!({ "kty": "oct", "kid": kid, "k": "c2VjcmV0" });
    })
    .await;
    assert_eq!(why(world.verify(&world.issuer.mint(json!({}))).await), UNKNOWN_KEY);
}

#[tokio::test]
async fn a_short_rsa_key_is_not_used() {
    let world = publishing(|key| key["n"] = json!(BASE64URL.encode([0xff; 128]))).await;
    assert_eq!(why(world.verify(&world.issuer.mint(json!({}))).await), UNKNOWN_KEY);
}

#[tokio::test]
async fn a_key_that_we_cannot_use_spoils_no_other() {
    let world = World::new();
    let mut keys = world.issuer.keys();
    let strange = [
        json!({ "kty": "AKP", "kid": "pq", "alg": "ML-DSA-44", "pub": "AAAA" }),
        json!({ "kty": "EC", "kid": "k1", "crv": "secp256k1", "x": "AAAA", "y": "AAAA" }),
        json!({ "kty": "RSA", "kid": 7, "n": "AQAB" }),
        json!({ "kty": "RSA", "kid": "broken", "n": "***", "e": "AQAB" }),
        json!("no key at all"),
        json!(null),
    ];
    keys["keys"].as_array_mut().unwrap().splice(0..0, strange);
    world.issuer.fail(KEYS, Fault::Body(keys.to_string()));
    assert!(world.verify(&world.issuer.mint(json!({}))).await.is_ok());
    assert_eq!(world.verifier.issuers()[0].keys, 4);
}
