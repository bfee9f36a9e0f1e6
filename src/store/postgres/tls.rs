//! TLS for Postgres on the rustls that everything else uses. The certificate is always verified, whatever `sslmode`
//! says: against the system's roots or those of `sslrootcert`, and against the host's name unless it is `verify-ca`.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::url::Tls;

/// Makes the TLS sessions of new connections, with channel binding (RFC 5929, `tls-server-end-point`) where the server
/// offers it. Reads the files that the URL names; the message names the parameter.
pub fn connector(tls: &Tls) -> Result<MakeRustlsConnect, String> {
    static SYSTEM_ROOTS: OnceLock<Result<MakeRustlsConnect, String>> = OnceLock::new();
    let connector = || client_config(tls).map(MakeRustlsConnect::new);
    match *tls == Tls::default() {
        // The system's roots are many, and are read once.
        true => SYSTEM_ROOTS.get_or_init(connector).clone(),
        false => connector(),
    }
}

fn client_config(tls: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|err| err.to_string())?;
    let verified = match &tls.roots {
        None => builder.with_platform_verifier().map_err(|err| format!("the system's roots: {err}"))?,
        Some(path) if tls.any_name => {
            let chain = Arc::new(ChainOnly { roots: roots(path)?, provider });
            builder.dangerous().with_custom_certificate_verifier(chain)
        }
        Some(path) => builder.with_root_certificates(roots(path)?),
    };
    match &tls.client {
        None => Ok(verified.with_no_client_auth()),
        Some((cert, key)) => {
            let chain = certificates(cert).map_err(|why| format!("sslcert: {}: {why}", cert.display()))?;
            let wrong = |why: String| format!("sslkey: {}: {why}", key.display());
            let private = PrivateKeyDer::from_pem_file(key).map_err(|err| wrong(err.to_string()))?;
            verified.with_client_auth_cert(chain, private).map_err(|err| wrong(err.to_string()))
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match read {
        Ok(none) if none.is_empty() => Err("no certificate in PEM".into()),
        Ok(chain) => Ok(chain),
        Err(err) => Err(format!("no certificate in PEM ({err})")),
    }
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let wrong = |why: String| format!("sslrootcert: {}: {why}", path.display());
    let mut roots = RootCertStore::empty();
    for cert in certificates(path).map_err(wrong)? {
        roots.add(cert).map_err(|err| wrong(err.to_string()))?;
    }
    Ok(roots)
}

/// `verify-ca`: any certificate that the roots vouch for, whatever name it is for.
#[derive(Debug)]
struct ChainOnly {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let cert = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&cert, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
