//! The configuration for people: every variable with its effective value. Of a secret only whether it is set.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use url::Url;

use super::{Config, Enforcement, Unmanaged, VARIABLES};

/// What may be shown of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    Value(String),
    /// It is a secret, or holds one; it is set.
    Set,
    NotSet,
    /// Only the process's environment has it.
    Elsewhere,
}

/// A variable with what may be shown of it.
#[derive(Clone, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub meaning: &'static str,
    pub shown: Shown,
}

fn value(value: impl Display) -> Shown {
    Shown::Value(value.to_string())
}

fn or_not<T: Display>(of: Option<T>) -> Shown {
    of.map_or(Shown::NotSet, value)
}

fn secret(is_set: bool) -> Shown {
    if is_set { Shown::Set } else { Shown::NotSet }
}

fn seconds(time: Duration) -> Shown {
    value(time.as_secs())
}

fn file(path: Option<&Path>) -> Shown {
    or_not(path.map(Path::display))
}

/// A path may hold a secret, as chat systems' webhooks do; where it leads may be known.
fn origin(url: &Url) -> Shown {
    value(format_args!("{}/…", url.origin().ascii_serialization()))
}

impl Config {
    /// Every variable, in the order of `.env.example`.
    pub fn shown(&self) -> Vec<Setting> {
        let setting = |of: &super::Variable| Setting {
            name: of.name,
            meaning: of.meaning,
            shown: self.value_of(of.name),
        };
        VARIABLES.iter().map(setting).collect()
    }

    fn value_of(&self, name: &str) -> Shown {
        let (http, github, oidc, broker) = (&self.http, &self.github, &self.oidc, &self.broker);
        let (first, more) = match oidc.issuers.split_first() {
            Some((first, more)) => (Some(first), more),
            None => (None, &[][..]),
        };
        match name {
            "DATABASE_URL" => Shown::Set,
            "HOST" => value(&http.host),
            "PORT" => value(http.port),
            "PUBLIC_URL" => value(&http.public_url),
            "HTTPS_ENABLED" => value(http.tls.is_some()),
            "HTTPS_CERT_FILE" => file(http.tls.as_ref().map(|tls| tls.cert_file.as_path())),
            "HTTPS_KEY_FILE" => file(http.tls.as_ref().map(|tls| tls.key_file.as_path())),
            "TRUSTED_PROXIES" => list(&http.trusted_proxies),
            "GITHUB_APP_ID" => value(github.app_id),
            "GITHUB_APP_PRIVATE_KEY_PATH" | "GITHUB_APP_PRIVATE_KEY" => Shown::Set,
            "GITHUB_ORG" => value(&github.org),
            "GITHUB_APP_INSTALLATION_ID" => or_not(github.installation_id),
            "GITHUB_API_URL" => value(&github.api_url),
            "GITHUB_URL" => value(&github.url),
            "GITHUB_TIMEOUT_SECONDS" => seconds(github.timeout),
            "GITHUB_WEBHOOK_SECRET" => secret(github.webhook_secret.is_some()),
            "OIDC_ISSUER" => or_not(first.map(|one| &one.issuer)),
            "OIDC_AUDIENCE" => or_not(first.map(|one| &one.audience)),
            "OIDC_JWKS_URL" => or_not(first.and_then(|one| one.jwks_url.as_ref())),
            "OIDC_EXTRA_ISSUERS" => list(more.iter().map(|one| &one.issuer)),
            "OIDC_LEEWAY_SECONDS" => seconds(oidc.leeway),
            "LOGIN_PROVIDERS" => list(self.logins.iter().map(|login| &login.id)),
            "POLICY_FILE" => file(self.policy_file.as_deref()),
            "DEFAULT_RUNNER_GROUP_ID" => value(broker.default_runner_group_id),
            "JIT_START_DEADLINE_SECONDS" => seconds(broker.jit_start_deadline),
            "SYNC_ENABLED" => value(broker.sync_enabled),
            "SYNC_INTERVAL_SECONDS" => seconds(broker.sync_interval),
            "LEASE_SECONDS" => seconds(broker.lease),
            "CLEANUP_STALE_RUNNERS_HOURS" => value(broker.stale_after.as_secs() / 3600),
            "UNMANAGED_RUNNERS" => value(match broker.unmanaged_runners {
                Unmanaged::Report => "report",
                Unmanaged::Remove => "remove",
                Unmanaged::Ignore => "ignore",
            }),
            "LABEL_DRIFT_DELETE_BUSY_RUNNERS" => value(broker.drift_deletes_busy),
            "LABEL_POLICY_ENFORCEMENT" => value(match broker.label_policy_enforcement {
                Enforcement::Audit => "audit",
                Enforcement::Enforce => "enforce",
            }),
            "AUDIT_SIGNING_KEY_PATH" => file(broker.audit_signing_key.as_deref()),
            "ALERT_WEBHOOK_URL" => broker.alerts.as_ref().map_or(Shown::NotSet, |alerts| origin(&alerts.url)),
            "ALERT_WEBHOOK_SECRET" => secret(broker.alerts.is_some()),
            _ => Shown::Elsewhere,
        }
    }
}

fn list<T: Display>(all: impl IntoIterator<Item = T>) -> Shown {
    let all: Vec<String> = all.into_iter().map(|one| one.to_string()).collect();
    or_not((!all.is_empty()).then(|| all.join(", ")))
}
