//! TLS for Postgres on the rustls that everything else uses. Always verified, whatever `sslmode` says: against
//! the system's roots or those of `sslrootcert`, the name as well unless `verify-ca` leaves that out.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use super::url::Tls;

/// Makes the TLS sessions of new connections; the configuration is built once.
#[derive(Clone)]
pub struct Connector(Arc<ClientConfig>);

impl Connector {
    /// Reads the files that the URL names; the message names the parameter.
    pub fn new(tls: &Tls) -> Result<Connector, String> {
        static USUAL: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
        match *tls == Tls::default() {
            // The system's roots are many, and are read once.
            true => USUAL.get_or_init(|| client_config(tls).map(Arc::new)).clone().map(Connector),
            false => client_config(tls).map(Arc::new).map(Connector),
        }
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

/// `verify-ca`: somebody whom the roots vouch for, whatever his name.
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

impl<S> MakeTlsConnect<S> for Connector
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Handshake> {
        // Asked for sockets as well, whose name is empty and which then do without TLS.
        Ok(Handshake { config: self.0.clone(), name: ServerName::try_from(domain.to_owned()).ok() })
    }
}

/// One session to be.
pub struct Handshake {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl<S> TlsConnect<S> for Handshake
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let name = self.name.ok_or_else(|| io::Error::other("TLS needs a host name to verify"))?;
            TlsConnector::from(self.config).connect(name, stream).await.map(Stream)
        })
    }
}

/// The encrypted stream. Offers no channel binding: that would need a second crypto library's digests.
pub struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl<S> TlsStream for Stream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
