//! All configuration, read once and checked at once. Plain values; knows none of the layers that use them.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use url::{Host, Url};

use crate::model::Target;

/// Everything that `serve` needs.
#[derive(Clone, Debug)]
pub struct Config {
    pub http: Http,
    pub database_url: SecretString,
    pub github: GitHub,
    pub oidc: Oidc,
    pub broker: Broker,
    pub policy_file: Option<PathBuf>,
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
}

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level or a list of tracing directives.
    pub level: String,
    /// `None`: pretty on a terminal, else JSON.
    pub json: Option<bool>,
}

/// A variable as `.env.example` and `--help` show it.
pub struct Variable {
    pub name: &'static str,
    /// As text; `None`: required or simply absent.
    pub default: Option<&'static str>,
    pub required: bool,
    pub meaning: &'static str,
}

const fn required(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default: None, required: true, meaning }
}

const fn optional(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default: None, required: false, meaning }
}

const fn defaulted(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default: Some(default), required: false, meaning }
}

/// Every variable that is read, in the order of `.env.example`; a test holds the two together.
pub const VARIABLES: &[Variable] = &[
    required("DATABASE_URL", "Postgres: postgres://user:password@host:5432/database?sslmode=require"),
    defaulted("HOST", "0.0.0.0", "address to listen on"),
    defaulted("PORT", "8000", "port to listen on"),
    optional("PUBLIC_URL", "how people reach this service; default http(s)://HOST:PORT"),
    defaulted("HTTPS_ENABLED", "true", "false for development or behind a proxy that ends TLS"),
    optional("HTTPS_CERT_FILE", "certificate chain (PEM), required with HTTPS_ENABLED=true"),
    optional("HTTPS_KEY_FILE", "its private key (PEM), required with HTTPS_ENABLED=true"),
    optional("TRUSTED_PROXIES", "CIDRs, separated by commas, whose X-Forwarded-For is believed"),
    required("GITHUB_APP_ID", "the GitHub App's id, a number"),
    optional(
        "GITHUB_APP_PRIVATE_KEY_PATH",
        "file with the App's private key (PEM); this or GITHUB_APP_PRIVATE_KEY",
    ),
    optional("GITHUB_APP_PRIVATE_KEY", "the App's private key itself (PEM; \\n may stand for a line's end)"),
    required("GITHUB_ORG", "the organisation, or owner/name, used when a request names none"),
    optional("GITHUB_APP_INSTALLATION_ID", "the installation of GITHUB_ORG; default: looked up"),
    defaulted("GITHUB_API_URL", "https://api.github.com", "Enterprise Server: https://HOST/api/v3"),
    defaulted("GITHUB_URL", "https://github.com", "Enterprise Server: https://HOST"),
    defaulted(
        "GITHUB_TIMEOUT_SECONDS",
        "10",
        "for one call to GitHub; a provision ends within three times that",
    ),
    required("OIDC_ISSUER", "the identity provider whose tokens are accepted"),
    required("OIDC_AUDIENCE", "the audience that a token must name"),
    optional("OIDC_JWKS_URL", "where the issuer's keys are; default: as discovery says"),
    optional(
        "OIDC_EXTRA_ISSUERS",
        "more issuers: [{\"issuer\":\"https://…\",\"audience\":\"…\",\"jwks_url\":\"https://…\"}]",
    ),
    defaulted("OIDC_LEEWAY_SECONDS", "60", "clock skew allowed on exp, nbf and iat"),
    optional("POLICY_FILE", "the policy document (TOML), applied at start"),
    defaulted("DEFAULT_RUNNER_GROUP_ID", "1", "runner group of teams that name none"),
    defaulted("JIT_START_DEADLINE_SECONDS", "3600", "a JIT runner that has not connected by then is removed"),
    defaulted(
        "SYNC_ENABLED",
        "true",
        "the sweep; false still finishes interrupted provisions and keeps deadlines",
    ),
    defaulted("SYNC_INTERVAL_SECONDS", "120", "time between two sweeps"),
    defaulted("LEASE_SECONDS", "10", "how long a dead leader is waited for"),
    defaulted("CLEANUP_STALE_RUNNERS_HOURS", "24", "runners offline for longer are removed"),
    defaulted("LOG_LEVEL", "info", "error, warn, info, debug, trace, or tracing directives"),
    optional("LOG_FORMAT", "pretty or json; default: pretty on a terminal, else json"),
];

/// `.env.example`: every variable with its meaning. Those that are required are ready to be filled in, the
/// others are comments that show their default.
pub fn env_example() -> String {
    let mut text = "\
# The configuration of runner-broker: copy this file to .env, or set the same variables in the environment.
# An empty variable counts as unset. Lines without a leading # are required.
"
    .to_owned();
    for variable in VARIABLES {
        let mark = if variable.required { "" } else { "# " };
        let default = variable.default.unwrap_or_default();
        text.push_str(&format!("\n# {}\n{mark}{}={default}\n", variable.meaning, variable.name));
    }
    text
}

/// What is wrong with the configuration: every fault, never a secret's value.
#[derive(Debug, thiserror::Error)]
pub struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} fault(s):", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl Config {
    /// What `serve` needs, from the process's environment (and `.env`, which `main` has loaded).
    pub fn from_env() -> Result<(Config, Log), Faults> {
        Reader::of_process().finish(|reader| (Config::read(reader), Log::read(reader)))
    }

    fn read(reader: &mut Reader) -> Config {
        Config {
            http: Http::read(reader),
            database_url: reader.database_url(),
            github: GitHub::read(reader),
            oidc: Oidc::read(reader),
            broker: Broker::read(reader),
            policy_file: reader.get("POLICY_FILE").map(PathBuf::from),
        }
    }
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
            match serde_json::from_str::<Vec<Extra>>(&text) {
                Ok(extras) => extras.into_iter().for_each(|extra| {
                    issuers.extend(reader.issuer(name, extra.issuer, extra.audience, (name, extra.jwks_url)));
                }),
                Err(err) => {
                    reader.fault(name, &err.to_string(), "a JSON list of {issuer, audience, jwks_url?}")
                }
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
        }
    }
}

/// Reads variables and gathers what is wrong with them.
struct Reader {
    vars: HashMap<String, String>,
    faults: Vec<String>,
}

impl Reader {
    fn of(vars: impl IntoIterator<Item = (String, String)>) -> Reader {
        Reader { vars: vars.into_iter().collect(), faults: Vec::new() }
    }

    /// The process's own; what is no Unicode has its bad bytes replaced, and is refused for what it then says.
    fn of_process() -> Reader {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Reader::of(std::env::vars_os().map(|(name, value)| (text(name), text(value))))
    }

    fn finish<T>(mut self, read: impl FnOnce(&mut Reader) -> T) -> Result<T, Faults> {
        let value = read(&mut self);
        match self.faults.is_empty() {
            true => Ok(value),
            false => Err(Faults(self.faults)),
        }
    }

    /// An empty variable counts as unset.
    fn get(&self, name: &str) -> Option<String> {
        self.vars.get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn or_default(&self, name: &str) -> String {
        let default = VARIABLES.iter().find(|var| var.name == name).and_then(|var| var.default);
        self.get(name).unwrap_or_else(|| default.unwrap_or_default().to_owned())
    }

    fn fault(&mut self, name: &str, found: &str, wanted: &str) {
        self.faults.push(format!("{name}: found {}, wanted {wanted}", shown(found)));
    }

    fn required(&mut self, name: &str) -> Option<String> {
        let value = self.get(name);
        if value.is_none() {
            let meaning = VARIABLES.iter().find(|var| var.name == name).map_or("a value", |var| var.meaning);
            self.faults.push(format!("{name}: not set, wanted {meaning}"));
        }
        value
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        text: &str,
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let value = parse(text);
        if value.is_none() {
            self.fault(name, text, wanted);
        }
        value
    }

    fn number(&mut self, name: &str, least: u64, most: u64) -> u64 {
        let text = self.or_default(name);
        let wanted = format!("a whole number from {least} to {most}");
        self.parsed(name, &text, &wanted, |t| t.parse().ok().filter(|n| (least..=most).contains(n)))
            .unwrap_or(least)
    }

    fn required_number(&mut self, name: &str) -> u64 {
        let text = self.required(name);
        text.and_then(|text| self.parsed(name, &text, "a number", |t| t.parse().ok())).unwrap_or_default()
    }

    fn group_id(&mut self) -> i64 {
        self.number("DEFAULT_RUNNER_GROUP_ID", 1, i64::MAX as u64) as i64
    }

    fn flag(&mut self, name: &str) -> bool {
        let text = self.or_default(name).to_ascii_lowercase();
        self.parsed(name, &text, "true or false", |t| match t {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        })
        .unwrap_or_default()
    }

    fn file(&mut self, name: &str, wanted: &str) -> PathBuf {
        let Some(path) = self.get(name).map(PathBuf::from) else {
            self.faults.push(format!("{name}: not set, wanted {wanted}"));
            return PathBuf::new();
        };
        if let Err(err) = std::fs::File::open(&path) {
            self.fault(name, &path.display().to_string(), &format!("a readable file ({err})"));
        }
        path
    }

    fn org(&mut self) -> Target {
        let text = self.required("GITHUB_ORG");
        let wanted = "the name of an organisation, or owner/name of a repository";
        text.and_then(|text| self.parsed("GITHUB_ORG", &text, wanted, |t| t.parse().ok()))
            .unwrap_or(Target::Organization(String::new()))
    }

    fn database_url(&mut self) -> SecretString {
        let url = self.required("DATABASE_URL").unwrap_or_default();
        if !url.is_empty() && !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            self.faults.push("DATABASE_URL: found something else, wanted postgres://…".into());
        }
        url.into()
    }

    fn private_key(&mut self) -> SecretString {
        let (path_name, name) = ("GITHUB_APP_PRIVATE_KEY_PATH", "GITHUB_APP_PRIVATE_KEY");
        let (source, pem) = match (self.get(name), self.get(path_name)) {
            (Some(pem), None) => (name, Ok(pem.replace("\\n", "\n"))),
            (None, Some(path)) => (path_name, std::fs::read_to_string(path)),
            (None, None) => {
                self.faults
                    .push(format!("{path_name}: not set, wanted the file with the App's private key (PEM)"));
                return SecretString::default();
            }
            (Some(_), Some(_)) => {
                self.faults.push(format!("{path_name}: set together with {name}, wanted one of the two"));
                return SecretString::default();
            }
        };
        match pem {
            Err(err) => {
                self.faults.push(format!("{source}: the file cannot be read ({err}), wanted a PEM file"))
            }
            Ok(pem) if !pem.contains("PRIVATE KEY-----") => {
                self.faults.push(format!(
                    "{source}: found no PEM private key, wanted '-----BEGIN … PRIVATE KEY-----'"
                ));
            }
            Ok(pem) => return pem.into(),
        }
        SecretString::default()
    }

    fn service_url(&mut self, name: &str) -> Url {
        let text = self.or_default(name);
        let wanted = "an https URL without user or query (http only on loopback)";
        self.parsed(name, &text, wanted, trusted_url).unwrap_or_else(nowhere)
    }

    fn issuer(
        &mut self,
        name: &str,
        issuer: String,
        audience: String,
        (jwks_name, jwks_url): (&str, Option<String>),
    ) -> Option<Issuer> {
        let wanted = "an https URL without user, query or fragment (http only on loopback)";
        self.parsed(name, &issuer, wanted, trusted_url)?;
        if audience.is_empty() {
            self.fault(name, &issuer, "an audience for each issuer");
        }
        let jwks_url = match jwks_url {
            Some(text) => Some(self.parsed(jwks_name, &text, wanted, trusted_url)?),
            None => None,
        };
        Some(Issuer { issuer, audience, jwks_url })
    }
}

/// A value as a message may show it: without what could be a secret in the wrong place.
fn shown(found: &str) -> String {
    if found.contains("PRIVATE KEY") {
        return "a private key".into();
    }
    // A user, and perhaps his password, before the host.
    let without_user = match (found.find("://"), found.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}…{}", &found[..scheme + 3], &found[at..]),
        _ => found.to_owned(),
    };
    match without_user.char_indices().nth(200) {
        Some((end, _)) => format!("'{}…'", &without_user[..end]),
        None => format!("'{without_user}'"),
    }
}

/// An https URL, or http on loopback; no user, no query, no fragment.
fn trusted_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    (plain && is_secure(&url)).then_some(url)
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

fn nowhere() -> Url {
    Url::parse("http://localhost/").expect("a constant URL")
}
