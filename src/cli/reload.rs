//! What changes without a restart: on SIGHUP all that is read from files, and the certificate also by itself once its
//! files have changed. What cannot be used leaves what was there, and is an error in the log.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::serve::PolicyFile;
use super::{Failure, with_causes};
use crate::broker::Broker;
use crate::config;
use crate::http::Certificate;
use crate::model::Target;
use crate::policy::Defaults;
use crate::telemetry;

/// How often the certificate's files are looked at; a change counts at the second look.
const LOOK: Duration = Duration::from_secs(2);

/// What is read again, and for whom.
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
                tracing::error!(error = %err, "SIGHUP cannot be listened for: nothing is reloaded");
                return;
            }
        };
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {
                    if let Some(certificate) = &self.certificate {
                        told("certificate", certificate.look().map_err(|broken| broken.to_string()));
                    }
                }
                told = hangups.recv() => match told {
                    Some(()) => self.all().await,
                    None => return,
                },
            }
        }
    }

    async fn all(&self) {
        tracing::info!("SIGHUP: reading again what is in files");
        told("log_level", log_level());
        if let Some(certificate) = &self.certificate {
            told("certificate", certificate.reload().map_err(|broken| broken.to_string()));
        }
        told("github_key", self.github_key().await);
        told("policy", self.policy().await);
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

/// Counts and logs; «nothing new» is no news.
fn told(what: &'static str, result: Result<bool, String>) {
    let outcome = match result {
        Ok(false) => return,
        Ok(true) => {
            tracing::info!(what, "reloaded");
            "done"
        }
        Err(why) => {
            tracing::error!(what, error = why, "not reloaded: what was there stays");
            "failed"
        }
    };
    counter!("broker_reloads_total", "what" => what, "result" => outcome).increment(1);
}
