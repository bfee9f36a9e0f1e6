//! Bearer tokens: taken apart, checked and read as an identity, before any key is asked.
//!
//! An input is a compact JWS, or header and claims as JSON on two lines, which are encoded here.

#![no_main]

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use runner_broker::auth::token::{Unverified, identity};

fuzz_target!(|text: &str| {
    play(text);
    if let Some((header, claims)) = text.split_once('\n') {
        let [header, claims] = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        play(&format!("{header}.{claims}.c2lnbmF0dXJl"));
    }
});

fn play(text: &str) {
    let Ok(token) = Unverified::parse(text) else { return };
    assert_eq!(format!("{}.{}", token.signed, token.signature), text, "what is signed is what was sent");
    let parts = [token.signed, token.signature];
    assert_eq!(token.sha256(), runner_broker::model::sha256_of_parts(parts));

    let now = chrono::DateTime::from_timestamp(1_767_225_600, 0).expect("a time in 2026");
    let fits = token.check("runner-broker", now, 60.0);
    let who = identity(&token.claims);
    assert!(who.display_name.chars().count() <= 256);
    assert!(!who.display_name.chars().any(char::is_control), "{:?}", who.display_name);
    if fits.is_ok() {
        assert!(!who.subject.is_empty() && !who.subject.chars().any(char::is_control), "{:?}", who.subject);
        let much_later =
            chrono::DateTime::from_timestamp(8_000_000_000_000, 0).expect("a time that chrono knows");
        let exp = token.claims["exp"].as_f64().expect("a token without exp is refused");
        assert_eq!(token.check("runner-broker", much_later, 0.0).is_ok(), exp > 8e12, "tokens expire");
        assert!(token.check("another service", now, 60.0).is_err() || text_names(&token, "another service"));
    }
}

fn text_names(token: &Unverified<'_>, audience: &str) -> bool {
    token.claims["aud"].as_array().is_some_and(|auds| auds.iter().any(|aud| aud == audience))
}
