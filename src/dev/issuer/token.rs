//! Tokens of the development issuer: good ones by default, bad in every way that a test asks for.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Map, Value};

use super::Issuer;
use super::keys::Alg;

/// A token that is being written. As it comes it is good: RS256, `sub` "dev", one hour.
pub struct Token<'a> {
    issuer: &'a Issuer,
    alg: Alg,
    stranger: bool,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl<'a> Token<'a> {
    pub(super) fn new(issuer: &'a Issuer, claims: Map<String, Value>) -> Token<'a> {
        Token { issuer, alg: Alg::default(), stranger: false, header: Map::new(), claims }
    }

    /// Signs with this algorithm and its key, and says so in `alg` and `kid`.
    pub fn alg(mut self, alg: Alg) -> Self {
        self.alg = alg;
        self
    }

    /// Signs with a key that nobody publishes, while the header names the published one.
    pub fn signed_by_a_stranger(mut self) -> Self {
        self.stranger = true;
        self
    }

    /// Sets a header field, whatever the signature is; null takes it out.
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.into(), value.into());
        self
    }

    /// Sets a claim; null takes it out.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        set(&mut self.claims, name, value.into());
        self
    }

    /// Sets a time claim to so many seconds from now.
    pub fn time(self, name: &str, seconds_from_now: i64) -> Self {
        let now = self.issuer.clock.now().timestamp();
        self.claim(name, now + seconds_from_now)
    }

    /// Signs it. The issuer remembers it, see `Issuer::issued`.
    pub fn mint(self) -> String {
        let state = self.issuer.state.borrow();
        let published = state.generations.last().map_or(&self.issuer.stranger, |newest| newest);
        let mut header = Map::new();
        set(&mut header, "typ", "JWT".into());
        set(&mut header, "alg", self.alg.name().into());
        set(&mut header, "kid", published.kid(self.alg).into());
        self.header.into_iter().for_each(|(name, value)| set(&mut header, &name, value));
        let signed = format!("{}.{}", encode(&header), encode(&self.claims));
        let signer = if self.stranger { &self.issuer.stranger } else { published };
        let signature = signer.sign(self.alg, signed.as_bytes()).expect("keys that were just made can sign");
        drop(state);
        let token = format!("{signed}.{}", BASE64URL.encode(signature));
        self.issuer.state.send_modify(|state| state.issued.push(token.clone()));
        token
    }
}

fn set(fields: &mut Map<String, Value>, name: &str, value: Value) {
    match value {
        Value::Null => fields.remove(name),
        value => fields.insert(name.into(), value),
    };
}

fn encode(fields: &Map<String, Value>) -> String {
    BASE64URL.encode(Value::Object(fields.clone()).to_string())
}
