//! The files that HTTPS is served with: whether they can be read, whether the key is the certificate's, whom it names
//! and until when it is good. Serves nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::Tls;
use crate::model::sha256;

const CERT: &str = "HTTPS_CERT_FILE";
const KEY: &str = "HTTPS_KEY_FILE";

/// Why nothing can be served with these files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which file it is, by the variable that names it.
    pub variable: &'static str,
    pub path: PathBuf,
    pub why: String,
    /// Both files are good for themselves, but do not belong together.
    pub is_mismatch: bool,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: found {}: {}", self.variable, self.path.display(), self.why)
    }
}

fn broken(variable: &'static str, path: &Path, why: String) -> Broken {
    Broken { variable, path: path.to_owned(), why, is_mismatch: false }
}

/// SHA-256 of certificate and key.
pub type Fingerprint = [String; 2];

/// What is in the two files.
pub struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    pub fn read(tls: &Tls) -> Result<Files, Broken> {
        let read = |name: &'static str, path: &Path| {
            std::fs::read(path).map_err(|err| broken(name, path, format!("not a readable file ({err})")))
        };
        Ok(Files { cert: read(CERT, &tls.cert_file)?, key: read(KEY, &tls.key_file)? })
    }

    pub fn fingerprint(&self) -> Fingerprint {
        [&self.cert, &self.key].map(sha256)
    }

    /// The chain with its key, which is the first certificate's.
    pub fn certified(&self, tls: &Tls) -> Result<CertifiedKey, Broken> {
        let in_cert = |why: String| broken(CERT, &tls.cert_file, why);
        let in_key = |why: String| broken(KEY, &tls.key_file, why);
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(&self.cert).collect();
        let chain = chain.map_err(|err| in_cert(format!("no certificate in PEM ({err})")))?;
        if chain.is_empty() {
            return Err(in_cert("no certificate in PEM, wanted '-----BEGIN CERTIFICATE-----'".into()));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|err| in_key(format!("no private key in PEM ({err})")))?;
        CertifiedKey::from_der(chain, key, &default_provider()).map_err(|err| Broken {
            is_mismatch: true,
            ..in_key(format!("not the key of the certificate in HTTPS_CERT_FILE, or not usable ({err})"))
        })
    }
}

/// From when until when the whole chain is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from: DateTime<Utc>,
    pub until: DateTime<Utc>,
}

/// `None`: one of the certificates is none (RFC 5280).
pub fn validity(certified: &CertifiedKey) -> Option<Validity> {
    let time = |seconds: i64| DateTime::from_timestamp(seconds, 0);
    let one = |der: &CertificateDer<'_>| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        Some((time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?))
    };
    let all: Vec<_> = certified.cert.iter().map(one).collect::<Option<_>>()?;
    let from = all.iter().map(|(from, _)| *from).max()?;
    let until = all.iter().map(|(_, until)| *until).min()?;
    Some(Validity { from, until })
}

/// Whether clients who look for this host accept the certificate as its.
pub fn names(certified: &CertifiedKey, host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let parsed = certified.cert.first().and_then(|der| ParsedCertificate::try_from(der).ok());
    match (parsed, ServerName::try_from(host)) {
        (Some(parsed), Ok(name)) => verify_server_name(&parsed, &name).is_ok(),
        _ => false,
    }
}
