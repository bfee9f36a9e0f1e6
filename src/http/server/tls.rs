//! The TLS certificate of the server. It can be replaced while connections are open; those keep the one that they
//! started with.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::certificate::{Broken, Files, Fingerprint};
use crate::config::Tls;

/// The current certificate, and the files that it is read from.
#[derive(Debug)]
pub struct Certificate {
    tls: Tls,
    current: ArcSwap<CertifiedKey>,
    readings: Mutex<Readings>,
}

/// The fingerprints of the files, to tell a change from a repetition.
#[derive(Debug)]
struct Readings {
    /// At the last poll.
    last: Fingerprint,
    /// When they were last accepted or refused.
    judged: Fingerprint,
}

impl Certificate {
    /// Reads certificate chain and key; the message says which variable's file is wrong and how.
    pub fn read(tls: &Tls) -> Result<Arc<Certificate>, Broken> {
        let files = Files::read(tls)?;
        let current = ArcSwap::from_pointee(files.certified(tls)?);
        let readings = Readings { last: files.fingerprint(), judged: files.fingerprint() };
        Ok(Arc::new(Certificate { tls: tls.clone(), current, readings: Mutex::new(readings) }))
    }

    /// What the server speaks TLS with.
    pub fn server_config(self: &Arc<Self>) -> ServerConfig {
        ServerConfig::builder().with_no_client_auth().with_cert_resolver(self.clone())
    }

    /// Uses the files as they are now. `Ok(false)`: unchanged. On an error the current certificate is kept.
    pub fn reload(&self) -> Result<bool, Broken> {
        let files = Files::read(&self.tls)?;
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut readings.judged, files.fingerprint());
        readings.last = files.fingerprint();
        if before == readings.judged && self.is_current(&files) {
            return Ok(false);
        }
        self.current.store(Arc::new(files.certified(&self.tls)?));
        Ok(true)
    }

    /// As [`reload`](Self::reload), for a poll that may see half-written files: a change counts once two polls in a row see
    /// the same, and a bad change is reported once.
    pub fn poll(&self) -> Result<bool, Broken> {
        // While a file is being replaced there may be none.
        let Ok(files) = Files::read(&self.tls) else { return Ok(false) };
        let settled = {
            let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
            let now = files.fingerprint();
            let before = std::mem::replace(&mut readings.last, now.clone());
            before == now && readings.judged != now
        };
        if settled { self.reload() } else { Ok(false) }
    }

    fn is_current(&self, files: &Files) -> bool {
        files.certified(&self.tls).is_ok_and(|certified| certified.cert == self.current.load().cert)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}
