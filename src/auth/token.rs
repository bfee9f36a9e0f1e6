//! A token taken apart (RFC 7519) and its claims checked; whether it is genuine is for the keys to say.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use chrono::{DateTime, Utc};
use jsonwebtoken::Algorithm;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::model::{Identity, sha256_of_parts};
use crate::visible::is_misleading;

/// In bytes.
const LONGEST_TOKEN: usize = 16 * 1024;
/// In characters. OpenID Connect allows 255; some issuers write more into it.
const LONGEST_SUBJECT: usize = 1024;
const LONGEST_DISPLAY_NAME: usize = 256;

/// The sentence that a caller is told.
pub type Why = &'static str;

/// A token of which nothing is proven yet.
pub struct Unverified<'a> {
    /// Header and claims as they were signed.
    pub signed: &'a str,
    /// In base64url.
    pub signature: &'a str,
    /// Never an HMAC.
    pub alg: Algorithm,
    /// Which key signed it, if the header says so.
    pub kid: Option<String>,
    /// As the issuer wrote them.
    pub claims: Map<String, Value>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default)]
    crit: Present,
}

/// Whether a field is there, whatever its value.
#[derive(Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Present, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Present(true))
    }
}

impl<'a> Unverified<'a> {
    /// Takes a compact JWS apart. Keys that the header brings along (`jwk`, `jku`, `x5c`) are not looked at.
    pub fn parse(text: &'a str) -> Result<Unverified<'a>, Why> {
        if text.len() > LONGEST_TOKEN {
            return Err("the token is longer than 16 KiB");
        }
        let parts = text.rsplit_once('.').and_then(|(signed, signature)| {
            let (header, claims) = signed.split_once('.')?;
            Some((signed, header, claims, signature))
        });
        let (signed, header, claims, signature) =
            parts.ok_or("the token is no JWT: three parts separated by dots are wanted")?;
        let header: Header = json(header).ok_or("the token's header cannot be read")?;
        if header.crit.0 {
            return Err("crit names an extension that is not understood here");
        }
        let alg = header.alg.parse().ok().filter(is_accepted).ok_or("alg is not accepted here")?;
        let claims = json(claims).ok_or("the token's claims cannot be read")?;
        Ok(Unverified { signed, signature, alg, kid: header.kid, claims })
    }

    /// Of all that the issuer made, signature included.
    pub fn sha256(&self) -> String {
        sha256_of_parts([self.signed, self.signature])
    }

    /// The issuer that the token claims to be from.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// Checks what the token says about itself: for whom, by when, about whom.
    pub fn check(&self, audience: &str, now: DateTime<Utc>, leeway: f64) -> Result<(), Why> {
        match self.claims.get("aud") {
            Some(Value::String(aud)) if aud == audience => {}
            Some(Value::Array(auds)) if auds.iter().any(|aud| aud == audience) => {}
            None => return Err("aud is missing"),
            Some(_) => return Err("aud does not name this service"),
        }
        let now = now.timestamp_micros() as f64 / 1e6;
        match self.time("exp")? {
            None => return Err("exp is missing"),
            Some(exp) if now >= exp + leeway => return Err("the token has expired"),
            Some(_) => {}
        }
        if self.time("nbf")?.is_some_and(|nbf| nbf > now + leeway) {
            return Err("the token is not valid yet (nbf)");
        }
        if self.time("iat")?.is_some_and(|iat| iat > now + leeway) {
            return Err("the token was issued in the future (iat)");
        }
        match self.claims.get("sub").and_then(Value::as_str) {
            None | Some("") => Err("sub is missing"),
            // Postgres keeps no NUL, and no person can tell two subjects apart by such characters.
            Some(sub) if sub.chars().any(char::is_control) => Err("sub has control characters"),
            Some(sub) if sub.chars().nth(LONGEST_SUBJECT).is_some() => Err("sub is too long"),
            Some(_) => Ok(()),
        }
    }

    /// Seconds since 1970, which need not be whole (RFC 7519, 2: NumericDate).
    fn time(&self, claim: &str) -> Result<Option<f64>, Why> {
        match self.claims.get(claim) {
            None => Ok(None),
            Some(Value::Number(time)) => Ok(time.as_f64()),
            Some(_) => Err("exp, nbf or iat is not a number"),
        }
    }
}

/// Whom claims are about that were checked and found genuine.
pub fn identity(claims: &Map<String, Value>) -> Identity {
    let text = |name| claims.get(name).and_then(Value::as_str);
    let subject = text("sub").unwrap_or_default();
    // Some issuers write the boolean as text. Without it anybody may have written any address.
    let is_verified = match claims.get("email_verified") {
        Some(Value::Bool(verified)) => *verified,
        Some(Value::String(verified)) => verified.eq_ignore_ascii_case("true"),
        _ => false,
    };
    let email = text("email").filter(|_| is_verified);
    let names = [email, text("preferred_username")];
    let names = names.into_iter().flatten().map(printable);
    let display_name = names.filter(|name| !is_ours(name)).find(|name| !name.is_empty());
    Identity {
        issuer: text("iss").unwrap_or_default().to_owned(),
        subject: subject.to_owned(),
        display_name: display_name.unwrap_or_else(|| not_ours(&printable(subject))),
    }
}

/// What the broker does by itself has such names in the audit log.
const OURS: &str = "system:";

fn is_ours(name: &str) -> bool {
    name.get(..OURS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OURS))
}

/// Kubernetes' subjects begin like names of ours.
fn not_ours(subject: &str) -> String {
    let mut name = subject;
    while is_ours(name) {
        name = name[OURS.len()..].trim_start();
    }
    if name.is_empty() { "-".to_owned() } else { name.to_owned() }
}

fn is_accepted(alg: &Algorithm) -> bool {
    !matches!(alg, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

fn json<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64URL.decode(part).ok()?).ok()
}

/// Without control characters and those that turn or hide the text around them.
fn printable(text: &str) -> String {
    let name: String = text.chars().filter(|c| !is_misleading(*c)).take(LONGEST_DISPLAY_NAME).collect();
    name.trim().to_owned()
}
