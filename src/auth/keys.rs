//! An issuer's published keys (RFC 7517), each with the algorithms that it may be used with.
//!
//! By SHA-256 up to 4,096 tokens with a verified signature are remembered, together with the keys that verified
//! them. Times, audience and claims are checked each time.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::token::Unverified;

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// How many tokens are remembered as genuine; then it begins anew.
const MOST_SEEN: usize = 4096;

/// The usable keys of one answer.
pub struct Keys {
    keys: Vec<Key>,
    /// The SHA-256 of tokens that one of these keys was found to have signed: who asks often shows the same one.
    /// Only signatures are remembered, and no longer than the keys: times and claims are checked each time.
    seen: Mutex<HashSet<String>>,
}

/// What the known keys say about a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// One of them made it.
    Genuine,
    /// None made it, or it may not be used for it; the reason is for the caller.
    Forged(&'static str),
    /// A key that is not here might have made it.
    UnknownKey,
}

struct Key {
    kid: Option<String>,
    /// Never empty, and all of the key's own type: this is what keeps an RSA key from being an HMAC secret.
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// A key as published; what its type does not need is not looked at.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<IgnoredAny>,
}

impl Keys {
    /// Reads a key set; a key that we cannot or must not use is skipped, as RFC 7517 (5) asks.
    pub fn parse(document: &[u8]) -> Result<Keys, serde_json::Error> {
        let set: KeySet = serde_json::from_slice(document)?;
        let jwks = set.keys.into_iter().filter_map(|value| serde_json::from_value::<Jwk>(value).ok());
        Ok(Keys { keys: jwks.filter_map(Key::new).collect(), seen: Mutex::default() })
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether the issuer publishes no key that can verify a token.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether one of these keys made the token's signature.
    pub fn judge(&self, token: &Unverified<'_>) -> Judgement {
        let digest = token.sha256();
        if self.seen().contains(&digest) {
            return Judgement::Genuine;
        }
        let judgement = self.judge_anew(token);
        if judgement == Judgement::Genuine {
            let mut seen = self.seen();
            if seen.len() >= MOST_SEEN {
                seen.clear();
            }
            seen.insert(digest);
        }
        judgement
    }

    fn seen(&self) -> MutexGuard<'_, HashSet<String>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge_anew(&self, token: &Unverified<'_>) -> Judgement {
        let fits = |key: &&Key| key.algorithms.contains(&token.alg);
        let Some(kid) = &token.kid else {
            // Nothing says which key is meant, so it must be clear without.
            let mut fitting = self.keys.iter().filter(fits);
            return match (fitting.next(), fitting.next()) {
                (Some(_), Some(_)) => Judgement::Forged("kid is missing and the issuer has several keys"),
                (Some(key), None) if key.made(token) => Judgement::Genuine,
                _ => Judgement::UnknownKey,
            };
        };
        let mut named = self.keys.iter().filter(|key| key.kid.as_ref() == Some(kid)).peekable();
        if named.peek().is_none() {
            return Judgement::UnknownKey;
        }
        let mut fitting = named.filter(fits).peekable();
        if fitting.peek().is_none() {
            return Judgement::Forged("alg does not fit the key");
        }
        match fitting.any(|key| key.made(token)) {
            true => Judgement::Genuine,
            false => Judgement::Forged("the signature is wrong"),
        }
    }
}

impl Key {
    fn new(jwk: Jwk) -> Option<Key> {
        // A private key that is published is known to everybody.
        let public = jwk.d.is_none();
        let for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
            && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !public || !for_signatures {
            return None;
        }
        let (algorithms, decoding) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (decode(jwk.n)?, decode(jwk.e)?);
                let bits = 8 * n.iter().skip_while(|byte| **byte == 0).count();
                let strong = (2048..=8192).contains(&bits);
                (RSA, strong.then(|| DecodingKey::from_rsa_raw_components(&n, &e))?)
            }
            ("EC", Some("P-256")) => (&[Algorithm::ES256][..], point(jwk.x, jwk.y, 32)?),
            ("EC", Some("P-384")) => (&[Algorithm::ES384][..], point(jwk.x, jwk.y, 48)?),
            ("OKP", Some("Ed25519")) => {
                let x = decode(jwk.x).filter(|x| x.len() == 32)?;
                (&[Algorithm::EdDSA][..], DecodingKey::from_ed_der(&x))
            }
            _ => return None,
        };
        let algorithms = match jwk.alg {
            None => algorithms.to_vec(),
            Some(alg) => vec![alg.parse().ok().filter(|alg| algorithms.contains(alg))?],
        };
        Some(Key { kid: jwk.kid, algorithms, decoding })
    }

    fn made(&self, token: &Unverified<'_>) -> bool {
        crypto::verify(token.signature, token.signed.as_bytes(), &self.decoding, token.alg).unwrap_or(false)
    }
}

/// An uncompressed point with coordinates of `size` bytes (RFC 7518, 6.2.1).
fn point(x: Option<String>, y: Option<String>, size: usize) -> Option<DecodingKey> {
    let (x, y) = (decode(x)?, decode(y)?);
    (x.len() == size && y.len() == size).then(|| DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()))
}

fn decode(text: Option<String>) -> Option<Vec<u8>> {
    BASE64URL.decode(text?).ok()
}
