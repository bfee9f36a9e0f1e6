//! All configuration, read once and checked at once. Plain values; knows none of the layers that use them.

mod issuers;
mod login;
mod reader;
mod shown;
mod variables;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use url::{Host, Url};

pub use issuers::issuers;
pub use login::{Login, LoginKind};
pub use reader::Faults;
pub use shown::{Setting, Shown};
pub use variables::{VARIABLES, Variable, env_example};

use crate::model::Target;
use reader::{Reader, nowhere};

/// Everything that `serve` needs.
#[derive(Clone, Debug)]
pub struct Config {
    pub http: Http,
    pub database_url: SecretString,
    pub github: GitHub,
    pub oidc: Oidc,
    /// Where people sign in to the console.
    pub logins: Vec<Login>,
    pub broker: Broker,
    pub policy_file: Option<PathBuf>,
}

impl Config {
    /// The files that hold secrets, each with the variable that names it.
    pub fn secret_files(&self) -> Vec<(&'static str, PathBuf)> {
        let app_key = "GITHUB_APP_PRIVATE_KEY_PATH";
        let key =
            std::env::var_os(app_key).filter(|path| !path.is_empty()).map(|path| (app_key, path.into()));
        let tls = self.http.tls.as_ref().map(|tls| ("HTTPS_KEY_FILE", tls.key_file.clone()));
        let signing = self.broker.audit_signing_key.clone().map(|path| ("AUDIT_SIGNING_KEY_PATH", path));
        [key, tls, signing].into_iter().flatten().collect()
    }
}

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct Http {
    pub host: String,
    pub port: u16,
    pub public_url: Url,
    /// `None`: plain HTTP.
    pub tls: Option<Tls>,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// PEM files of the certificate chain and its key.
#[derive(Clone, Debug)]
pub struct Tls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// The GitHub App and where GitHub is.
#[derive(Clone, Debug)]
pub struct GitHub {
    pub app_id: u64,
    /// PKCS#1 or PKCS#8, PEM.
    pub private_key: SecretString,
    /// The target of a request that names none.
    pub org: Target,
    /// Of `org`; other targets' installations are looked up.
    pub installation_id: Option<u64>,
    pub api_url: Url,
    pub url: Url,
    /// For one call.
    pub timeout: Duration,
    /// What GitHub signs its webhooks with; `None`: there is no webhook route.
    pub webhook_secret: Option<SecretString>,
}

/// Whose tokens are accepted.
#[derive(Clone, Debug)]
pub struct Oidc {
    pub issuers: Vec<Issuer>,
    /// Clock skew allowed on exp, nbf and iat.
    pub leeway: Duration,
}

/// One identity provider. `issuer` is compared with `iss` to the last character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    pub issuer: String,
    pub audience: String,
    /// `None`: as discovery says.
    pub jwks_url: Option<Url>,
}

/// What the use cases are told.
#[derive(Clone, Debug)]
pub struct Broker {
    pub default_runner_group_id: i64,
    /// How long a JIT runner may take to connect.
    pub jit_start_deadline: Duration,
    pub sync_enabled: bool,
    pub sync_interval: Duration,
    pub lease: Duration,
    /// Offline for longer than this: removed.
    pub stale_after: Duration,
    /// What becomes of runners that nobody asked for.
    pub unmanaged_runners: Unmanaged,
    /// Whether a busy runner whose labels drifted is removed as soon as it is idle.
    pub drift_deletes_busy: bool,
    /// What becomes of a job on a runner whose labels its team may not have.
    pub label_policy_enforcement: Enforcement,
    /// PKCS#8 PEM with the Ed25519 key that signs the audit log's checkpoints.
    pub audit_signing_key: Option<PathBuf>,
    /// Where security events are posted.
    pub alerts: Option<Alerts>,
}

/// What becomes of a runner on a managed target that no row knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmanaged {
    Report,
    Remove,
    Ignore,
}

/// Whether a job that breaks the label policy is only reported or its workflow run cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    Audit,
    Enforce,
}

/// Where security events are posted, and what signs them.
#[derive(Clone, Debug)]
pub struct Alerts {
    pub url: Url,
    pub secret: SecretString,
}

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level or a list of tracing directives.
    pub level: String,
    /// `None`: pretty on a terminal, else JSON.
    pub json: Option<bool>,
}

impl Config {
    /// What `serve` needs, from the process's environment (and `.env`, which `main` has loaded).
    pub fn from_env() -> Result<(Config, Log), Faults> {
        Reader::of_process().finish(|reader| (Config::read(reader), Log::read(reader)))
    }

    /// The same with everything that is wrong with it. What is at fault has a stand-in.
    pub fn from_env_with_faults() -> (Config, Faults) {
        Reader::of_process().finish_anyway(|reader| {
            let config = Config::read(reader);
            Log::read(reader);
            config
        })
    }

    fn read(reader: &mut Reader) -> Config {
        Config {
            http: Http::read(reader),
            database_url: reader.database_url(),
            github: GitHub::read(reader),
            oidc: Oidc::read(reader),
            logins: login::read(reader, "LOGIN_PROVIDERS"),
            broker: Broker::read(reader),
            policy_file: reader.get("POLICY_FILE").map(PathBuf::from),
        }
    }
}

/// Adds what `.env` says to the process's environment, where that says nothing itself. To be called before there
/// are threads that could read the environment while it changes. A missing file is fine.
pub fn load_env_file() -> Result<(), dotenvy::Error> {
    LEVEL_IS_GIVEN.get_or_init(|| std::env::var_os("LOG_LEVEL").is_some());
    match dotenvy::from_path(ENV_FILE) {
        Err(err) if !err.not_found() => Err(err),
        _ => Ok(()),
    }
}

/// `LOG_LEVEL` as it is by now: the process's own environment cannot change, but the file can.
pub fn log_level_again() -> Result<String, Faults> {
    let given = *LEVEL_IS_GIVEN.get_or_init(|| true);
    let in_file = || dotenvy::from_path_iter(ENV_FILE).ok()?.flatten().find(|(name, _)| name == "LOG_LEVEL");
    let reader = match given {
        true => Reader::of_process(),
        false => Reader::of(in_file()),
    };
    reader.finish(Log::read).map(|log| log.level)
}

const ENV_FILE: &str = ".env";

/// Whether `LOG_LEVEL` was there before `.env` was read.
static LEVEL_IS_GIVEN: OnceLock<bool> = OnceLock::new();

/// The App's key as it is by now.
pub fn private_key() -> Result<SecretString, Faults> {
    Reader::of_process().finish(Reader::private_key)
}

/// What the commands on the table alone need.
pub fn database_url() -> Result<SecretString, Faults> {
    Reader::of_process().finish(Reader::database_url)
}

/// What `migrate` needs.
pub fn database_and_log() -> Result<(SecretString, Log), Faults> {
    Reader::of_process().finish(|reader| (reader.database_url(), Log::read(reader)))
}

/// What the commands that ask GitHub need: the database, the App, the use cases.
pub fn without_http() -> Result<(SecretString, GitHub, Broker, Log), Faults> {
    Reader::of_process().finish(|r| (r.database_url(), GitHub::read(r), Broker::read(r), Log::read(r)))
}

/// What policy commands need to fill in a team's defaults: (GITHUB_ORG, DEFAULT_RUNNER_GROUP_ID).
pub fn policy_defaults() -> Result<(Target, i64), Faults> {
    Reader::of_process().finish(|r| (r.org(), r.group_id()))
}

/// How to log, for a command that needs nothing else.
pub fn log() -> Result<Log, Faults> {
    Reader::of_process().finish(Log::read)
}

impl Log {
    fn read(reader: &mut Reader) -> Log {
        let json = match reader.get("LOG_FORMAT").as_deref() {
            None => None,
            Some("json") => Some(true),
            Some("pretty") => Some(false),
            Some(other) => {
                reader.fault("LOG_FORMAT", other, "pretty or json");
                None
            }
        };
        let level = reader.or_default("LOG_LEVEL");
        if !is_filter(&level) {
            reader.fault("LOG_LEVEL", &level, "error, warn, info, debug, trace, or tracing directives");
        }
        Log { level, json }
    }
}

/// Whether these are directives of `tracing`. On its own it would take a misspelt level for the name of a
/// module, and log nothing else.
fn is_filter(text: &str) -> bool {
    let levels = ["error", "warn", "info", "debug", "trace", "off"];
    let is_level = |part: &str| levels.contains(&part.to_ascii_lowercase().as_str());
    text.split(',').all(|part| part.contains(['=', '[', ']', '{', '}']) || is_level(part.trim()))
        && EnvFilter::try_new(text).is_ok()
}

impl Http {
    fn read(reader: &mut Reader) -> Http {
        let host = reader.get("HOST").unwrap_or_else(|| "0.0.0.0".into());
        let port = reader.number("PORT", 1, u16::MAX.into()) as u16;
        let tls = reader.flag("HTTPS_ENABLED").then(|| Tls {
            cert_file: reader
                .file("HTTPS_CERT_FILE", "a PEM file; or set HTTPS_ENABLED=false behind a proxy"),
            key_file: reader.file("HTTPS_KEY_FILE", "a PEM file; or set HTTPS_ENABLED=false behind a proxy"),
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listening = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(v6)) => format!("{scheme}://[{v6}]:{port}"),
            _ => format!("{scheme}://{host}:{port}"),
        };
        let public_url = reader.get("PUBLIC_URL").unwrap_or(listening);
        let public_url = reader.parsed("PUBLIC_URL", &public_url, "an http or https URL", |text| {
            Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
        });
        let proxies = reader.get("TRUSTED_PROXIES").unwrap_or_default();
        let trusted_proxies = proxies
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .filter_map(|text| {
                let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
                if net.is_none() {
                    reader.fault(
                        "TRUSTED_PROXIES",
                        text,
                        "addresses or CIDRs such as 10.0.0.0/8, separated by commas",
                    );
                }
                net
            })
            .collect();
        Http { host, port, public_url: public_url.unwrap_or_else(nowhere), tls, trusted_proxies }
    }
}

impl GitHub {
    fn read(reader: &mut Reader) -> GitHub {
        GitHub {
            app_id: reader.required_number("GITHUB_APP_ID"),
            private_key: reader.private_key(),
            org: reader.org(),
            installation_id: reader.get("GITHUB_APP_INSTALLATION_ID").and_then(|text| {
                reader.parsed("GITHUB_APP_INSTALLATION_ID", &text, "a number", |t| t.parse::<u64>().ok())
            }),
            api_url: reader.service_url("GITHUB_API_URL"),
            url: reader.service_url("GITHUB_URL"),
            timeout: Duration::from_secs(reader.number("GITHUB_TIMEOUT_SECONDS", 1, 60)),
            webhook_secret: reader.get("GITHUB_WEBHOOK_SECRET").map(SecretString::from),
        }
    }
}

impl Oidc {
    fn read(reader: &mut Reader) -> Oidc {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Extra {
            issuer: String,
            audience: String,
            jwks_url: Option<String>,
        }
        let mut issuers = Vec::new();
        let first = (reader.required("OIDC_ISSUER"), reader.required("OIDC_AUDIENCE"));
        let jwks_url = reader.get("OIDC_JWKS_URL");
        if let (Some(issuer), Some(audience)) = first {
            issuers.extend(reader.issuer("OIDC_ISSUER", issuer, audience, ("OIDC_JWKS_URL", jwks_url)));
        }
        if let Some(text) = reader.get("OIDC_EXTRA_ISSUERS") {
            let name = "OIDC_EXTRA_ISSUERS";
            let extras: Option<Vec<Extra>> =
                reader.json(name, &text, "a JSON list of {issuer, audience, jwks_url?}", false);
            for extra in extras.into_iter().flatten() {
                issuers.extend(reader.issuer(name, extra.issuer, extra.audience, (name, extra.jwks_url)));
            }
        }
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = issuers.iter().find(|issuer| !seen.insert(issuer.issuer.clone())) {
            reader.fault("OIDC_EXTRA_ISSUERS", &twice.issuer, "each issuer once");
        }
        Oidc { issuers, leeway: Duration::from_secs(reader.number("OIDC_LEEWAY_SECONDS", 0, 600)) }
    }
}

impl Broker {
    fn read(reader: &mut Reader) -> Broker {
        Broker {
            default_runner_group_id: reader.group_id(),
            jit_start_deadline: Duration::from_secs(reader.number("JIT_START_DEADLINE_SECONDS", 60, 86_400)),
            sync_enabled: reader.flag("SYNC_ENABLED"),
            sync_interval: Duration::from_secs(reader.number("SYNC_INTERVAL_SECONDS", 1, 86_400)),
            lease: Duration::from_secs(reader.number("LEASE_SECONDS", 1, 600)),
            stale_after: Duration::from_secs(3600 * reader.number("CLEANUP_STALE_RUNNERS_HOURS", 1, 8_760)),
            unmanaged_runners: reader.choice(
                "UNMANAGED_RUNNERS",
                &[
                    ("report", Unmanaged::Report),
                    ("remove", Unmanaged::Remove),
                    ("ignore", Unmanaged::Ignore),
                ],
            ),
            drift_deletes_busy: reader.flag("LABEL_DRIFT_DELETE_BUSY_RUNNERS"),
            label_policy_enforcement: reader.choice(
                "LABEL_POLICY_ENFORCEMENT",
                &[("audit", Enforcement::Audit), ("enforce", Enforcement::Enforce)],
            ),
            audit_signing_key: reader.get("AUDIT_SIGNING_KEY_PATH").map(PathBuf::from),
            alerts: reader.alerts(),
        }
    }
}

/// Whether nobody on the way can read or change what this URL carries: https, or http on loopback.
pub fn is_secure(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => return false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}
