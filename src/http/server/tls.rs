//! The TLS certificate of the server. It can be replaced while connections are open; those keep the one that they
//! started with.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::certificate::{Broken, Files, Fingerprint};
use crate::config::Tls;

/// The certificate in force, and the files that it is read from.
#[derive(Debug)]
pub struct Certificate {
    tls: Tls,
    current: ArcSwap<CertifiedKey>,
    looks: Mutex<Looks>,
}

/// What the files said, so that a change is told from a repetition.
#[derive(Debug)]
struct Looks {
    /// At the last look.
    last: Fingerprint,
    /// When they were taken over, or refused.
    judged: Fingerprint,
}

impl Certificate {
    /// Reads certificate chain and key; the message says which variable's file is wrong and how.
    pub fn read(tls: &Tls) -> Result<Arc<Certificate>, Broken> {
        let files = Files::read(tls)?;
        let current = ArcSwap::from_pointee(files.certified(tls)?);
        let looks = Looks { last: files.fingerprint(), judged: files.fingerprint() };
        Ok(Arc::new(Certificate { tls: tls.clone(), current, looks: Mutex::new(looks) }))
    }

    /// What the server speaks TLS with.
    pub fn server_config(self: &Arc<Self>) -> ServerConfig {
        ServerConfig::builder().with_no_client_auth().with_cert_resolver(self.clone())
    }

    /// Takes over what the files say now; `Ok(false)`: nothing new. If it cannot be used, the old one stays.
    pub fn reload(&self) -> Result<bool, Broken> {
        let files = Files::read(&self.tls)?;
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut looks.judged, files.fingerprint());
        looks.last = files.fingerprint();
        if before == looks.judged && self.is_current(&files) {
            return Ok(false);
        }
        self.current.store(Arc::new(files.certified(&self.tls)?));
        Ok(true)
    }

    /// As `reload`, by somebody who was not told that the files are whole: a change counts once two looks in a row
    /// have seen the same, and a bad one is told of once.
    pub fn look(&self) -> Result<bool, Broken> {
        // Between a file's removal and its successor there may be none.
        let Ok(files) = Files::read(&self.tls) else { return Ok(false) };
        let settled = {
            let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
            let now = files.fingerprint();
            let before = std::mem::replace(&mut looks.last, now.clone());
            before == now && looks.judged != now
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
