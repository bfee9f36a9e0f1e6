//! The certificate that we serve with.

use std::path::Path;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Tls;

/// Reads certificate chain and key; the message says which file is wrong and how.
pub fn server_config(tls: &Tls) -> Result<ServerConfig, String> {
    let broken = |path: &Path, why: String| format!("{}: {why}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&tls.cert_file)
        .and_then(Iterator::collect)
        .map_err(|err| broken(&tls.cert_file, format!("no certificate in PEM: {err}")))?;
    if chain.is_empty() {
        return Err(broken(&tls.cert_file, "no certificate in PEM".into()));
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key_file)
        .map_err(|err| broken(&tls.key_file, format!("no private key in PEM: {err}")))?;
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|err| broken(&tls.cert_file, format!("certificate and key do not fit: {err}")))
}
