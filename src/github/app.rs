//! The App as itself: its key, the JSON Web Token that it signs, the calls that want one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use http::header::HeaderValue;
use octocrab::jsonwebtoken::{self, Algorithm, EncodingKey, Header};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::GitHub;
use super::answer::Answer;
use super::call::Call;
use super::deadline::Deadline;
use super::error::{Blame, Error};
use super::operation::Operation;
use super::paths::installation_path;
use super::transport::bearer;
use crate::model::{Target, sha256};

/// The JWT says that it was issued this many seconds ago, for clocks that are ahead of GitHub's.
const BACKDATED_SECONDS: i64 = 60;
/// In seconds. GitHub's limit is 600; the rest is for clocks that differ.
const LIFETIME_SECONDS: i64 = 540;
/// How long one JWT is used again.
const REUSED_FOR: TimeDelta = TimeDelta::minutes(5);
/// A difference of clocks, in seconds, that is worth reporting.
const REPORTED_SKEW: i64 = 30;

/// Who signs. The key never leaves it.
pub(super) struct App {
    id: u64,
    signer: Mutex<Signer>,
}

struct Signer {
    key: EncodingKey,
    /// Its SHA-256, to tell whether a new file holds another key.
    pem: String,
    /// Of its public half, as GitHub shows it.
    fingerprint: Option<String>,
    /// The last token, as a header, and when it was signed.
    signed: Option<(HeaderValue, DateTime<Utc>)>,
}

/// Source: <https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app>.
#[derive(Serialize)]
struct Claims {
    iat: i64,
    exp: i64,
    iss: String,
}

impl App {
    /// Parses the key and signs once with it, so that a bad one is found at start.
    pub fn new(id: u64, pem: &SecretString, now: DateTime<Utc>) -> Result<App, Error> {
        let pem = pem.expose_secret();
        let bad = |why: &str| Error::BadKey { why: why.to_owned() };
        for (mark, why) in [
            ("ENCRYPTED", "it is encrypted: give it without its passphrase"),
            ("BEGIN EC PRIVATE KEY", "it is an elliptic-curve key: an App's key is RSA"),
            ("BEGIN OPENSSH PRIVATE KEY", "it is an OpenSSH key: an App's key is PKCS#1 or PKCS#8"),
        ] {
            if pem.contains(mark) {
                return Err(bad(why));
            }
        }
        if !pem.contains("PRIVATE KEY-----") {
            return Err(bad(
                "it has no '-----BEGIN … PRIVATE KEY-----': a public key, a certificate or no PEM",
            ));
        }
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| {
            bad("it is no whole RSA key in PKCS#1 or PKCS#8 PEM: cut short, or of another kind")
        })?;
        let fingerprint = fingerprint(pem);
        let pem = sha256(pem);
        let app = App { id, signer: Mutex::new(Signer { key, pem, fingerprint, signed: None }) };
        app.bearer(now)?;
        Ok(app)
    }

    /// `Bearer …`, the same for some minutes.
    pub fn bearer(&self, now: DateTime<Utc>) -> Result<HeaderValue, Error> {
        let mut signer = self.signer();
        if let Some((bearer, at)) = &signer.signed
            && (*at..*at + REUSED_FOR).contains(&now)
        {
            return Ok(bearer.clone());
        }
        let claims = Claims {
            iat: now.timestamp() - BACKDATED_SECONDS,
            exp: now.timestamp() + LIFETIME_SECONDS,
            iss: self.id.to_string(),
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &signer.key)
            .map_err(|err| Error::BadKey { why: format!("it does not sign ({err})") })?;
        let bearer = bearer(&token)?;
        signer.signed = Some((bearer.clone(), now));
        Ok(bearer)
    }

    fn forget(&self) {
        self.signer().signed = None;
    }

    fn signer(&self) -> MutexGuard<'_, Signer> {
        self.signer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a 401 means. GitHub names the claim that a wrong clock spoils, and the App that it does not have; what
    /// is left is a signature that is not by this App's key.
    fn diagnosis(&self, answer: &Answer, now: DateTime<Utc>) -> Error {
        let message = answer.message();
        let id = self.id;
        let no_key = format!("the private key is not one of App {id}'s, or GITHUB_APP_ID is another App's");
        let ahead = answer.clock().map_or(0, |theirs| (now - theirs).num_seconds());
        let skew = match ahead {
            _ if ahead > REPORTED_SKEW => {
                Some(format!("this machine's clock is {ahead} s ahead of GitHub's"))
            }
            _ if ahead < -REPORTED_SKEW => {
                Some(format!("this machine's clock is {} s behind GitHub's", -ahead))
            }
            _ => None,
        };
        let (blame, cause) = match skew {
            _ if message.contains("ntegration not found") => {
                (Blame::AppId, format!("GitHub has no App {id}: GITHUB_APP_ID or GITHUB_API_URL is wrong"))
            }
            // A wrong clock alone does not make GitHub say this.
            Some(skew) if message.contains("could not be decoded") => {
                (Blame::Key, format!("{no_key}; besides, {skew}"))
            }
            Some(skew) => (Blame::Clock, format!("{skew}: set it right")),
            None if message.contains("('exp')") || message.contains("('iat')") => {
                (Blame::Clock, "this machine's clock is not GitHub's: set it right".to_owned())
            }
            None => (Blame::Key, no_key),
        };
        Error::Unauthorized { why: format!("\"{message}\"; {cause}"), blame }
    }
}

/// As GitHub lists an App's keys: the SHA-256 of the public key's DER, in base64. `None`: for a key of an unusual kind.
///
/// Source: <https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/managing-private-keys-for-github-apps>, "Verifying private keys".
fn fingerprint(pem: &str) -> Option<String> {
    let pair = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()? {
        PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return None,
    };
    let public: PublicKeyX509Der<'_> = pair.ok()?.public_key().as_der().ok()?;
    Some(format!("SHA256:{}", BASE64_STANDARD.encode(digest(&SHA256, public.as_ref()))))
}

impl GitHub {
    /// The App's id, as configured.
    pub fn app_id(&self) -> u64 {
        self.app().id
    }

    /// What GitHub lists the key as that signs now, if it has it: `SHA256:…`. No secret.
    pub fn key_fingerprint(&self) -> Option<String> {
        self.app().signer().fingerprint.clone()
    }

    /// Signs with this key from now on; `false`: it is the same one. GitHub is asked first whether it knows the
    /// key, by a look-up that any App may make; only its refusal counts against it. Otherwise the old one stays.
    pub async fn replace_key(&self, pem: &SecretString, target: &Target) -> Result<bool, Error> {
        let now = self.clock().now();
        let new = App::new(self.app().id, pem, now)?;
        if new.signer().pem == self.app().signer().pem {
            return Ok(false);
        }
        let call = Call::new(Operation::FindInstallation, installation_path(target));
        let bearer = new.bearer(now)?;
        match self.send(self.app_quota(), &bearer, &call, Deadline::within(self.timeout())).await {
            Ok(answer) if answer.status == StatusCode::UNAUTHORIZED => {
                return Err(new.diagnosis(&answer, self.clock().now()));
            }
            Ok(_) => {}
            Err(err) => {
                tracing::warn!(error = %err, "GitHub could not be asked whether it knows the new key")
            }
        }
        let signer = new.signer.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.app().signer() = signer;
        Ok(true)
    }

    /// Makes a call with the App's own signature.
    pub(super) async fn as_app(&self, call: &Call<'_>, deadline: Deadline) -> Result<Answer, Error> {
        let bearer = self.app().bearer(self.clock().now())?;
        let answer = self.send(self.app_quota(), &bearer, call, deadline).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            self.app().forget();
            return Err(self.app().diagnosis(&answer, self.clock().now()));
        }
        Ok(answer)
    }
}
