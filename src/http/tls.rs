//! The certificate that we serve with.

use std::path::Path;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Tls;

/// Reads certificate chain and key; the message says which variable's file is wrong and how.
pub fn server_config(tls: &Tls) -> Result<ServerConfig, String> {
    let (cert, key) = (("HTTPS_CERT_FILE", &*tls.cert_file), ("HTTPS_KEY_FILE", &*tls.key_file));
    let broken =
        |(name, path): (&str, &Path), why: String| format!("{name}: found {}: {why}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert.1)
        .and_then(Iterator::collect)
        .map_err(|err| broken(cert, format!("no certificate in PEM ({err})")))?;
    if chain.is_empty() {
        return Err(broken(cert, "no certificate in PEM, wanted '-----BEGIN CERTIFICATE-----'".into()));
    }
    let private_key = PrivateKeyDer::from_pem_file(key.1)
        .map_err(|err| broken(key, format!("no private key in PEM ({err})")))?;
    ServerConfig::builder().with_no_client_auth().with_single_cert(chain, private_key).map_err(|err| {
        broken(key, format!("not the key of the certificate in HTTPS_CERT_FILE, or not usable ({err})"))
    })
}
