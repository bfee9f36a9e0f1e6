//! The App's key pair, what its JWTs must look like, and the secrets that GitHub hands out.

use std::sync::OnceLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::Answer;

struct Keys {
    pem: String,
    public: DecodingKey,
}

/// One key for all Apps of a process: making one takes longer than most tests. And one for those that have rotated
/// theirs.
fn keys(rotated: bool) -> &'static Keys {
    static KEYS: [OnceLock<Keys>; 2] = [OnceLock::new(), OnceLock::new()];
    KEYS[usize::from(rotated)].get_or_init(|| {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("aws-lc makes an RSA key");
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der>::as_der(&pair).expect("aws-lc writes PKCS#8");
        let lines: Vec<String> = BASE64_STANDARD
            .encode(der.as_ref())
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        Keys {
            pem: format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")),
            public: DecodingKey::from_rsa_der(pair.public_key().as_ref()),
        }
    })
}

/// The App's private key, PKCS#8 PEM; the same for every App of this process.
pub fn private_key_pem() -> &'static str {
    &keys(false).pem
}

/// The key of every App of this process that has rotated its own.
pub fn rotated_private_key_pem() -> &'static str {
    &keys(true).pem
}

/// Checks an App's JWT as GitHub does; the answer says in GitHub's words what is wrong.
pub(super) fn check_app_jwt(jwt: &str, app_id: u64, rotated: bool, now: DateTime<Utc>) -> Result<(), Answer> {
    let refuse = |message: &str| Answer::error(401, message);
    let undecodable = || refuse("A JSON web token could not be decoded");
    // The App is looked up before its key can be: so a wrong App ID is told apart from a wrong key.
    let claims: Value = jwt
        .split('.')
        .nth(1)
        .and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok())
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(undecodable)?;
    let iss = match &claims["iss"] {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    if iss != Some(app_id) {
        return Err(refuse("Integration not found"));
    }
    let mut rules = Validation::new(Algorithm::RS256);
    rules.required_spec_claims.clear();
    rules.validate_exp = false; // By our clock, below.
    rules.validate_aud = false;
    jsonwebtoken::decode::<Value>(jwt, &keys(rotated).public, &rules).map_err(|_| undecodable())?;

    let now = now.timestamp_micros() as f64 / 1e6;
    let (iat, exp) = (claims["iat"].as_f64(), claims["exp"].as_f64());
    match (iat, exp) {
        (Some(iat), _) if iat > now => Err(refuse(
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        )),
        (None, _) => Err(refuse("Missing 'issued at' claim ('iat') in assertion")),
        (_, None) => Err(refuse("Missing 'expiration time' claim ('exp') in assertion")),
        (_, Some(exp)) if exp <= now => Err(refuse(
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which \
             the assertion expires",
        )),
        (_, Some(exp)) if exp > now + 600.0 => {
            Err(refuse("'Expiration time' claim ('exp') is too far in the future"))
        }
        _ => Ok(()),
    }
}

/// An installation token in the long form, `ghs_APPID_JWT`, some 520 characters. Nobody verifies its signature.
pub(super) fn installation_token(app_id: u64, now: DateTime<Utc>) -> String {
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(json!({ "alg": "RS256", "typ": "JWT" }));
    let (jti, iat) = (Uuid::from_u128(rand::random()), now.timestamp());
    let claims = part(json!({ "iss": "github", "jti": jti, "iat": iat, "exp": iat + 3600 }));
    format!("ghs_{app_id}_{head}.{claims}.{}", BASE64_URL_SAFE_NO_PAD.encode(noise::<256>()))
}

/// A registration or remove token: 29 of `A-Z2-7`.
pub(super) fn runner_token() -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    noise::<29>().iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

/// What a JIT config tells the runner that starts with it.
pub(super) struct JitConfig<'a> {
    pub id: i64,
    pub name: &'a str,
    pub group_id: i64,
    pub work_folder: &'a str,
    pub client_id: Uuid,
    pub github_url: &'a str,
}

impl JitConfig<'_> {
    /// The three files that `run.sh` writes, each base64, as one base64 JSON: some 4,000 characters. The
    /// key in it is noise: a real one would cost every benchmark a key generation a call.
    pub fn encode(&self) -> String {
        let file = |value: Value| BASE64_STANDARD.encode(value.to_string());
        let noise = noise::<1152>();
        let number = |from: usize, len: usize| BASE64_STANDARD.encode(&noise[from..from + len]);
        let runner = json!({
            "agentId": self.id, "agentName": self.name, "poolId": self.group_id, "poolName": "Default",
            "serverUrl": self.github_url, "gitHubUrl": self.github_url, "workFolder": self.work_folder,
            "ephemeral": true, "disableUpdate": false,
        });
        let credentials = json!({ "scheme": "OAuth", "data": {
            "clientId": self.client_id, "authorizationUrl": format!("{}/_apis/oauth2/token", self.github_url),
            "requireFipsCryptography": "True",
        }});
        let key = json!({
            "d": number(0, 256), "dp": number(256, 128), "dq": number(384, 128), "exponent": "AQAB",
            "inverseQ": number(512, 128), "modulus": number(640, 256), "p": number(896, 128),
            "q": number(1024, 128),
        });
        file(json!({
            ".runner": file(runner), ".credentials": file(credentials), ".credentials_rsaparams": file(key),
        }))
    }
}

/// What `run.sh` reads from a JIT config: the runner's id and its client id. `None`: not a JIT config.
pub(super) fn decode_jit(encoded: &str) -> Option<(i64, Uuid)> {
    let decode =
        |text: &str| -> Option<Value> { serde_json::from_slice(&BASE64_STANDARD.decode(text).ok()?).ok() };
    let files = decode(encoded)?;
    let file = |name: &str| decode(files[name].as_str()?);
    file(".credentials_rsaparams")?["modulus"].as_str()?;
    let client_id = file(".credentials")?["data"]["clientId"].as_str()?.parse().ok()?;
    Some((file(".runner")?["agentId"].as_i64()?, client_id))
}

fn noise<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes[..]);
    bytes
}
