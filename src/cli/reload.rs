//! Reloads without a restart: on SIGHUP everything that is read from files, and the certificate also when its files
//! change. A reload that fails keeps the previous value and logs an error.
//!
//! The certificate's files are looked at every 2 s; a change counts once two looks saw the same, so a certificate is
//! not taken without its key. A new App key is swapped in after GitHub was asked with it; only a 401 counts against
//! it. `POLICY_FILE` does what a start does: a document that was applied before and replaced since is not applied.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Failure;
use super::policy_file::PolicyFile;
use crate::broker::Broker;
use crate::config;
use crate::http::Certificate;
use crate::model::{Target, with_causes};
use crate::policy::Defaults;
use crate::telemetry;

/// How often the files of the certificate are checked; a change counts at the second check.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Everything that can be reloaded.
pub struct Reloads {
    pub broker: Arc<Broker>,
    pub certificate: Option<Arc<Certificate>>,
    pub policy_file: Option<std::path::PathBuf>,
    pub defaults: Defaults,
    /// A new key must be good for this target's installation.
    pub org: Target,
}

impl Reloads {
    /// Until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => hangups,
            Err(err) => {
                tracing::error!(error = %err, "cannot listen for SIGHUP: reloads are off");
                return;
            }
        };
        let mut polls = interval(POLL_INTERVAL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = polls.tick() => {
                    if let Some(certificate) = &self.certificate {
                        report("certificate", certificate.poll().map_err(|broken| broken.to_string()));
                    }
                }
                hangup = hangups.recv() => match hangup {
                    Some(()) => self.all().await,
                    None => return,
                },
            }
        }
    }

    async fn all(&self) {
        tracing::info!("SIGHUP: reloading files");
        report("log_level", log_level());
        if let Some(certificate) = &self.certificate {
            report("certificate", certificate.reload().map_err(|broken| broken.to_string()));
        }
        report("github_key", self.github_key().await);
        report("policy", self.policy().await);
    }

    /// `GITHUB_APP_PRIVATE_KEY_PATH`; a key in the environment itself cannot change.
    async fn github_key(&self) -> Result<bool, String> {
        let key = config::private_key().map_err(|faults| faults.to_string())?;
        let replaced = self.broker.github().replace_key(&key, &self.org).await;
        replaced.map_err(|err| format!("GITHUB_APP_PRIVATE_KEY_PATH: {}", with_causes(&err)))
    }

    async fn policy(&self) -> Result<bool, String> {
        let Some(path) = &self.policy_file else { return Ok(false) };
        let applied = async { PolicyFile::read(path, &self.defaults)?.apply(&self.broker).await };
        match applied.await {
            Ok(()) => Ok(true),
            Err(Failure::Usage(why) | Failure::Failed(why)) => Err(why),
            Err(Failure::Exit(code)) => Err(format!("exit code {code}")),
        }
    }
}

fn log_level() -> Result<bool, String> {
    let level = config::log_level_again().map_err(|faults| faults.to_string())?;
    telemetry::set_level(&level)
}

/// Counts and logs a reload; `Ok(false)`, nothing changed, does neither.
fn report(what: &'static str, result: Result<bool, String>) {
    let outcome = match result {
        Ok(false) => return,
        Ok(true) => {
            tracing::info!(what, "reloaded");
            "done"
        }
        Err(why) => {
            tracing::error!(what, error = why, "reload failed, keeping the previous one");
            "failed"
        }
    };
    counter!("broker_reloads_total", "what" => what, "result" => outcome).increment(1);
}
