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
    assert!(keys.len() <= document.len());
    for Signed { token, key } in SIGNED.iter() {
        let token = Unverified::parse(token).expect("a token of ours");
        let judgement = keys.judge(&token);
        assert_eq!(keys.judge(&token), judgement, "asked again");
        let is_genuine = judgement == Judgement::Genuine;
        assert!(!is_genuine || holds(&value, key), "a key that is not here made this signature");
    }
});

/// Whether this text is anywhere in the document.
fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found == text,
        Value::Array(items) => items.iter().any(|item| holds(item, text)),
        Value::Object(fields) => fields.values().any(|field| holds(field, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
