//! The Ed25519 key that signs checkpoints: PKCS#8 in PEM, as `openssl genpkey -algorithm ed25519` writes it too;
//! and the verifier's key (vkey) in the form of C2SP's signed-note.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use signed_note::{Signature, StandardVerifier, Verifier, VerifierList};

use super::ORIGIN;

/// signed-note's number for Ed25519.
const ED25519: u8 = 1;

/// Why a file is not a key. Never quotes the file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file has no PEM block of a private key.
    #[error("not a private key in PEM (PKCS#8, '-----BEGIN PRIVATE KEY-----')")]
    NoPem,
    /// It is a key of another kind.
    #[error("not an Ed25519 key; make one with 'runner-broker audit-key generate'")]
    NotEd25519,
    /// A line after the key is not a verifier key.
    #[error("what follows the key is not the verifier's keys of those before it, a line each")]
    NotEarlier,
    /// The system gave no random bytes.
    #[error("no key could be made: the system has no randomness")]
    NoRandomness,
    /// The text is not a verifier key of this log.
    #[error("not a verifier's key ('{ORIGIN}+…+…', as 'runner-broker audit-key generate' prints it)")]
    NoVerifierKey,
}

/// What signs, and which keys signed before it. Shows nothing of itself.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    earlier: Option<VerifierKey>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifier_key())
    }
}

impl SigningKey {
    /// PEM, and after it perhaps the verifier's keys of its predecessors.
    pub fn from_pem(pem: &str) -> Result<SigningKey, Error> {
        let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----").ok_or(Error::NoPem)?;
        let (body, after) = rest.split_once("-----END PRIVATE KEY-----").ok_or(Error::NoPem)?;
        let body: String = body.split_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| Error::NoPem)?;
        let pair = Ed25519KeyPair::from_pkcs8(&der).map_err(|_| Error::NotEd25519)?;
        let earlier = match after.trim() {
            "" => None,
            keys => Some(VerifierKey::parse(keys).map_err(|_| Error::NotEarlier)?),
        };
        Ok(SigningKey { pair, earlier })
    }

    /// A new key as PEM.
    pub fn generate() -> Result<String, Error> {
        let pair = Ed25519KeyPair::generate().map_err(|_| Error::NoRandomness)?;
        let der = pair.to_pkcs8v1().map_err(|_| Error::NoRandomness)?;
        let body = STANDARD.encode(der.as_ref());
        Ok(format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"))
    }

    fn encoded(&self) -> Vec<u8> {
        [&[ED25519], self.pair.public_key().as_ref()].concat()
    }

    /// What an auditor needs, a single line.
    pub fn verifier_key(&self) -> String {
        let encoded = self.encoded();
        format!("{ORIGIN}+{:08x}+{}", signed_note::key_id(ORIGIN, &encoded), STANDARD.encode(&encoded))
    }

    /// The signature of a note's text. `None`: never, for a name that is one.
    pub(super) fn sign(&self, text: &[u8]) -> Option<Signature> {
        let id = signed_note::key_id(ORIGIN, &self.encoded());
        Signature::new(ORIGIN.to_owned(), id, self.pair.sign(text).as_ref().to_vec()).ok()
    }

    /// What tells whether a note is of a key that signed before this one.
    pub(super) fn earlier(&self) -> Option<&VerifierKey> {
        self.earlier.as_ref()
    }

    /// What tells whether a note is of this key.
    pub fn verifier(&self) -> Result<VerifierKey, Error> {
        VerifierKey::parse(&self.verifier_key())
    }
}

/// What an auditor holds: a key, or several where it was changed, a line each.
#[derive(Clone)]
pub struct VerifierKey(Vec<StandardVerifier>);

impl VerifierKey {
    /// Parses the text that `audit-key` prints.
    pub fn parse(text: &str) -> Result<VerifierKey, Error> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Result<Vec<_>, _> = lines.map(StandardVerifier::new).collect();
        keys.ok().filter(|keys| !keys.is_empty()).map(VerifierKey).ok_or(Error::NoVerifierKey)
    }

    pub(super) fn known(&self) -> VerifierList {
        VerifierList::new(self.0.iter().cloned().map(|key| Box::new(key) as Box<dyn Verifier>).collect())
    }
}
