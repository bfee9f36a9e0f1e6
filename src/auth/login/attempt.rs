//! One attempt to sign in. All that it is made of follows from one secret that its browser keeps, so that nothing
//! has to be remembered here until it comes back.
//!
//! The attempt's cookie holds a random secret and the path to return to; state, nonce and PKCE verifier are HMACs of
//! the secret with their own name and the provider's id. An answer therefore fits one browser, one attempt and one
//! provider. The path is checked when it comes in and again when it comes back (`http::console::frame::return_to`).

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use secrecy::{ExposeSecret, SecretString};

/// In bytes, before base64.
const SECRET: usize = 32;

/// A secret of its own, and what is made from it for each provider: nothing of one is of use at another.
#[derive(Clone, Debug)]
pub struct Attempt(SecretString);

impl Attempt {
    /// A new one.
    pub fn begin() -> Attempt {
        Attempt(BASE64URL.encode(rand::random::<[u8; SECRET]>()).into())
    }

    /// The one that a browser kept; `None`: that is none.
    pub fn from_kept(text: &str) -> Option<Attempt> {
        let is_whole = BASE64URL.decode(text).is_ok_and(|secret| secret.len() == SECRET);
        is_whole.then(|| Attempt(text.into()))
    }

    /// What the browser is to keep, and nobody else to see.
    pub fn to_keep(&self) -> &SecretString {
        &self.0
    }

    /// Binds the provider's answer to this browser (RFC 6749, 10.12).
    pub(super) fn state(&self, provider: &str) -> String {
        self.derived("state", provider)
    }

    /// Binds the ID token to this attempt (OpenID Connect Core 1.0, 15.5.2).
    pub(super) fn nonce(&self, provider: &str) -> String {
        self.derived("nonce", provider)
    }

    /// Binds the code to the attempt that asked for it (RFC 7636); 43 characters, the least that is allowed.
    pub(super) fn verifier(&self, provider: &str) -> SecretString {
        self.derived("verifier", provider).into()
    }

    fn derived(&self, what: &str, provider: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose_secret().as_bytes());
        BASE64URL.encode(hmac::sign(&key, format!("{what}\0{provider}").as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_follows_from_the_secret_and_nothing_from_anything_else() {
        let attempt = Attempt::begin();
        let again = Attempt::from_kept(attempt.to_keep().expose_secret()).unwrap();
        let all = |attempt: &Attempt, provider: &str| {
            let verifier = attempt.verifier(provider).expose_secret().to_owned();
            [attempt.state(provider), attempt.nonce(provider), verifier]
        };
        assert_eq!(all(&attempt, "a"), all(&again, "a"));
        let mut seen: Vec<String> =
            [all(&attempt, "a"), all(&attempt, "b"), all(&Attempt::begin(), "a")].concat();
        seen.push(attempt.to_keep().expose_secret().to_owned());
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 10);
        assert!(seen.iter().all(|text| text.len() == 43), "{seen:?}");
    }

    #[test]
    fn what_is_no_secret_of_ours_is_none() {
        for text in ["", "abc", &"A".repeat(42), &"A".repeat(44), &format!("{}=", "A".repeat(42)), "ä"] {
            assert!(Attempt::from_kept(text).is_none(), "{text}");
        }
    }
}
