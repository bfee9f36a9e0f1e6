//! An issuer's key set, and what its keys say about tokens of which only one key made one.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runner_broker::auth::keys::{Judgement, Keys};
use runner_broker::auth::token::Unverified;
use serde_json::Value;

/// A token, and the public key that made its signature, as the JWK's `x` or `n`.
struct Signed {
    token: &'static str,
    key: &'static str,
}

static SIGNED: LazyLock<Vec<Signed>> = LazyLock::new(|| {
    let lines: Vec<&str> = include_str!("../signed_tokens.txt").lines().collect();
    lines.chunks(2).map(|pair| Signed { key: pair[0], token: pair[1] }).collect()
});

fuzz_target!(|document: &[u8]| {
    let Ok(keys) = Keys::parse(document) else { return };
    let value: Value = serde_json::from_slice(document).expect("a key set is JSON");
    let published = value["keys"].as_array().expect("a key set has keys");
    assert!(keys.len() <= published.len());
    for Signed { token, key } in SIGNED.iter() {
        let token = Unverified::parse(token).expect("a token of ours");
        let judgement = keys.judge(&token);
        assert_eq!(keys.judge(&token), judgement, "asked again");
        let is_published = published.iter().any(|jwk| jwk["x"] == **key || jwk["n"] == **key);
        assert!(judgement != Judgement::Genuine || is_published, "a key that is not here made this signature");
    }
});
