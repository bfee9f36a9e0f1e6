//! The development issuer's private keys: how they are made, published and signed with.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RsaEncoding,
};
use aws_lc_rs::{error::Unspecified, hmac};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};

/// How a token is signed; beside what the broker accepts, what it must refuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Alg {
    #[default]
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
    /// The issuer's public RSA key (PEM) as the shared secret: the classical confusion.
    HS256,
    /// No signature at all.
    None,
}

impl Alg {
    /// As the header's `alg` says it.
    pub fn name(self) -> String {
        match self {
            Alg::None => "none".into(),
            alg => format!("{alg:?}"),
        }
    }
}

/// One generation of keys: RSA, P-256, P-384 and Ed25519.
pub struct Keys {
    name: String,
    rsa: Arc<RsaKeyPair>,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

impl Keys {
    /// A fresh set whose key ids begin with `name`; RSA keys are shared by all issuers of the process that
    /// ask for the same `generation`, because making one takes long.
    pub fn generate(name: String, generation: usize) -> Result<Keys, Unspecified> {
        Ok(Keys {
            name,
            rsa: rsa(generation)?,
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?,
            p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)?,
            ed25519: Ed25519KeyPair::generate()?,
        })
    }

    /// The id of the key that `alg` is used with.
    pub fn kid(&self, alg: Alg) -> String {
        let key = match alg {
            Alg::ES256 => "p256",
            Alg::ES384 => "p384",
            Alg::EdDSA => "ed25519",
            _ => "rsa",
        };
        format!("{}-{key}", self.name)
    }

    /// The public halves, as JWKs (RFC 7517). The RSA key names no algorithm, it serves for all six.
    pub fn published(&self) -> Vec<Value> {
        let rsa = self.rsa.public_key();
        let base64 = |bytes: &[u8]| BASE64URL.encode(bytes);
        let point = |key: &EcdsaKeyPair, crv: &str, alg: Alg| {
            let (x, y) = key.public_key().as_ref()[1..].split_at((key.public_key().as_ref().len() - 1) / 2);
            json!({ "kty": "EC", "use": "sig", "kid": self.kid(alg), "alg": alg.name(), "crv": crv,
                "x": base64(x), "y": base64(y) })
        };
        vec![
            json!({ "kty": "RSA", "use": "sig", "kid": self.kid(Alg::RS256),
                "n": base64(rsa.modulus().big_endian_without_leading_zero()),
                "e": base64(rsa.exponent().big_endian_without_leading_zero()) }),
            point(&self.p256, "P-256", Alg::ES256),
            point(&self.p384, "P-384", Alg::ES384),
            json!({ "kty": "OKP", "use": "sig", "kid": self.kid(Alg::EdDSA), "alg": "EdDSA", "crv": "Ed25519",
                "x": base64(self.ed25519.public_key().as_ref()) }),
        ]
    }

    /// The public RSA key, PEM (SubjectPublicKeyInfo).
    pub fn rsa_pem(&self) -> Result<String, Unspecified> {
        let der = self.rsa.public_key().as_der()?;
        let base64 = BASE64_STANDARD.encode(der.as_ref());
        let lines: Vec<&str> =
            (0..base64.len()).step_by(64).map(|at| &base64[at..base64.len().min(at + 64)]).collect();
        Ok(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")))
    }

    /// The signature as a JWS has it (RFC 7518, 3).
    pub fn sign(&self, alg: Alg, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut made = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(encoding, &random, message, &mut made).map(|()| made)
        };
        match alg {
            Alg::RS256 => rsa(&signature::RSA_PKCS1_SHA256),
            Alg::RS384 => rsa(&signature::RSA_PKCS1_SHA384),
            Alg::RS512 => rsa(&signature::RSA_PKCS1_SHA512),
            Alg::PS256 => rsa(&signature::RSA_PSS_SHA256),
            Alg::PS384 => rsa(&signature::RSA_PSS_SHA384),
            Alg::PS512 => rsa(&signature::RSA_PSS_SHA512),
            Alg::ES256 => Ok(self.p256.sign(&random, message)?.as_ref().to_vec()),
            Alg::ES384 => Ok(self.p384.sign(&random, message)?.as_ref().to_vec()),
            Alg::EdDSA => Ok(self.ed25519.sign(message).as_ref().to_vec()),
            Alg::HS256 => {
                let secret = hmac::Key::new(hmac::HMAC_SHA256, self.rsa_pem()?.as_bytes());
                Ok(hmac::sign(&secret, message).as_ref().to_vec())
            }
            Alg::None => Ok(Vec::new()),
        }
    }
}

/// The process's RSA key of this generation.
fn rsa(generation: usize) -> Result<Arc<RsaKeyPair>, Unspecified> {
    static MADE: Mutex<Vec<Arc<RsaKeyPair>>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    while made.len() <= generation {
        made.push(Arc::new(RsaKeyPair::generate(KeySize::Rsa2048)?));
    }
    Ok(made[generation].clone())
}
