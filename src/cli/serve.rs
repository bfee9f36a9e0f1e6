//! `serve` and `migrate`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::policy_file::{PolicyFile, warn_of_stored};
use super::reload::Reloads;
use super::{CommandResult, Failure};
use crate::auth::Verifier;
use crate::auth::login::Logins;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::github::{self, GitHub};
use crate::model::with_causes;
use crate::policy::Defaults;
use crate::seal::key::SigningKey;
use crate::store::service_role::Setup;
use crate::store::{self, Store};
use crate::{background, http, telemetry};

/// How long `serve` and `migrate` wait for a Postgres that is still starting.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections to Postgres for each core; provisions hold none while GitHub answers.
const CONNECTIONS_PER_CORE: usize = 8;

#[derive(Args)]
pub struct Migrate {
    /// Grant this role, which must exist, exactly the permissions that `serve` needs
    #[arg(long, value_name = "NAME")]
    service_role: Option<String>,
}

impl Migrate {
    pub async fn run(self) -> CommandResult {
        let (database_url, log) = config::database_and_log()?;
        telemetry::logs(&log);
        let store = Store::new(&database_url, 1)?;
        wait_for(&store, DATABASE_TIMEOUT).await?;
        let ran = store.migrate().await.map_err(needs_owner)?;
        match ran.is_empty() {
            true => super::print("the schema is up to date\n")?,
            false => {
                super::print(&ran.iter().map(|name| format!("migrated {name}\n")).collect::<String>())?;
            }
        }
        match &self.service_role {
            None => Ok(()),
            Some(role) => set_up_role(&store, role).await,
        }
    }
}

/// Adds to Postgres' refusal that migrations need the owner of the database.
fn needs_owner(err: store::Error) -> Failure {
    match Failure::from(err) {
        Failure::Failed(why) if why.contains("permission denied") || why.contains("must be owner") => {
            Failure::Failed(format!("{why}; migrate needs the role that owns the database in DATABASE_URL"))
        }
        failure => failure,
    }
}

async fn set_up_role(store: &Store, role: &str) -> CommandResult {
    match store.set_up_service_role(role).await? {
        Setup::Done => super::print(&format!("granted {role} exactly what serve needs\n")),
        Setup::NoSuchRole => Err(Failure::Failed(format!(
            "there is no role {role}: create it with CREATE ROLE \"{role}\" LOGIN PASSWORD '…', then run this command again"
        ))),
        Setup::TooPowerful => Err(Failure::Failed(format!(
            "role {role} is a superuser or owns the tables, so its permissions cannot be restricted: create another role for serve"
        ))),
    }
}

pub async fn serve() -> CommandResult {
    let (config, log) = Config::from_env()?;
    let traces = telemetry::traces::start().map_err(Failure::Usage)?;
    telemetry::logs_and_traces(&log, traces.as_ref());
    keep_memory_to_ourselves();
    let done = serve_until_stopped(config).await;
    if let Some(traces) = traces {
        let finished = tokio::task::spawn_blocking(move || traces.finish()).await;
        finished.map_err(|err| Failure::Failed(err.to_string()))?;
    }
    done
}

async fn serve_until_stopped(config: Config) -> CommandResult {
    let stop = stop_on_signal()?;
    // A signal must not have to wait for the database.
    let started = tokio::select! {
        started = start(config.clone(), Clock::default()) => started?,
        () = stop.cancelled() => return Ok(()),
    };
    warn_of_settings(&config);
    warn_of_weaknesses(&started.broker).await?;
    tracing::info!(address = %started.server.address, version = env!("CARGO_PKG_VERSION"), "serving");
    started.run(stop).await
}

/// The memory holds the App's key: no core dump leaves it on a disk, and no other process of this user reads it.
#[cfg(target_os = "linux")]
fn keep_memory_to_ourselves() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let kept = setrlimit(Resource::Core, none).and(set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(err) = kept {
        tracing::warn!(error = %err, "other processes of this user may read the memory of this one");
    }
}

#[cfg(not(target_os = "linux"))]
fn keep_memory_to_ourselves() {}

/// The shortest webhook secret that is not warned of, in bytes.
const SHORTEST_SECRET: usize = 16;

/// What is accepted and yet weak.
fn warn_of_settings(config: &Config) {
    let proxies = &config.http.trusted_proxies;
    if let Some(everybody) = proxies.iter().find(|net| net.prefix_len() == 0) {
        tracing::warn!(
            network = %everybody,
            "TRUSTED_PROXIES trusts every address, so that anybody can write any address into the audit log: name \
             your proxies alone"
        );
    }
    let secret = config.github.webhook_secret.as_ref().map(|secret| secret.expose_secret().len());
    if secret.is_some_and(|length| length < SHORTEST_SECRET) {
        tracing::warn!(
            "GITHUB_WEBHOOK_SECRET has fewer than {SHORTEST_SECRET} characters, so that it can be guessed: make one \
             with 'openssl rand -hex 32'"
        );
    }
    for (name, path) in config.secret_files() {
        if is_readable_by_others(&path) {
            tracing::warn!(file = %path.display(), "{name} names a file that every user can read: chmod 600 it");
        }
    }
}

#[cfg(unix)]
fn is_readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).is_ok_and(|file| file.mode() & 0o004 != 0)
}

/// Warnings for operators; `dev` does not need them.
async fn warn_of_weaknesses(broker: &Broker) -> CommandResult {
    if broker.config().audit_signing_key.is_none() {
        tracing::warn!(
            "AUDIT_SIGNING_KEY_PATH is not set: checkpoints of the audit log are not signed, so anybody who can \
             write to the database can forge them"
        );
    }
    let excess = broker.store().excess_rights().await?;
    if !excess.is_empty() {
        tracing::warn!(
            excess = excess.join(", "),
            "the role in DATABASE_URL has more permissions than serve needs and could change the audit log: \
             see 'runner-broker migrate --service-role'"
        );
    }
    Ok(())
}

/// Cancelled by SIGTERM or Ctrl-C.
pub fn stop_on_signal() -> Result<CancellationToken, Failure> {
    let failed = |err: std::io::Error| Failure::Failed(err.to_string());
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    // A handler from the first moment on, since SIGHUP would end the process without one.
    drop(signal(SignalKind::hangup()).map_err(failed)?);
    tokio::spawn({
        let stop = stop.clone();
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.cancel();
        }
    });
    Ok(stop)
}

/// A broker that listens already; `run` it, or await `server` alone, to serve.
pub struct Started {
    pub broker: Arc<Broker>,
    pub verifier: Verifier,
    pub server: http::Server,
    pub reloads: Reloads,
}

/// Connects, checks the schema, applies `POLICY_FILE`, asks the issuers for their keys, and listens.
pub async fn start(config: Config, clock: Clock) -> Result<Started, Failure> {
    // Before the first request, so that no count is lost.
    telemetry::metrics();
    // Faults of the configuration first: they are reported without waiting for the database.
    let certificate = config.http.tls.as_ref().map(http::Certificate::read).transpose();
    let certificate = certificate.map_err(|broken| Failure::Usage(broken.to_string()))?;
    let github = github(&config.github, &clock)?;
    let defaults =
        Defaults { target: config.github.org.clone(), group_id: config.broker.default_runner_group_id };
    let policy = config.policy_file.as_deref().map(|path| PolicyFile::read(path, &defaults)).transpose()?;
    let signer = config.broker.audit_signing_key.as_deref().map(signing_key).transpose()?;
    let verifier =
        Verifier::new(&config.oidc, clock.clone()).map_err(|err| Failure::Failed(with_causes(&err)))?;
    let logins = Logins::new(&config.logins, &config.http.public_url, config.oidc.leeway, &clock)
        .map_err(|err| Failure::Failed(with_causes(&err)))?;
    let store = Store::new(&config.database_url, CONNECTIONS_PER_CORE * cores())?;
    wait_for(&store, DATABASE_TIMEOUT).await?;
    check_schema(&store).await?;
    let broker = Broker::new(config.broker.clone(), &config.github, store, github, clock);
    broker.show_config(&config);
    if let Some(signer) = signer {
        broker.sign_with(signer);
    }
    let is_of_file = policy.is_some();
    if let Some(policy) = policy {
        policy.apply(&broker).await?;
        broker.follow_policy_file();
    }
    broker.refresh_policy().await?;
    if !is_of_file {
        warn_of_stored(&broker).await?;
    }
    // In the background: an issuer that is down must not delay the start.
    tokio::spawn({
        let verifier = verifier.clone();
        async move { verifier.refresh().await }
    });
    let tls = certificate.as_ref().map(http::Certificate::server_config);
    let server =
        http::listen(&config.http, tls, broker.clone(), verifier.clone(), logins).map_err(Failure::Failed)?;
    let reloads = Reloads {
        broker: broker.clone(),
        certificate,
        policy_file: config.policy_file.clone(),
        defaults,
        org: config.github.org.clone(),
    };
    Ok(Started { broker, verifier, server, reloads })
}

/// GitHub as configured; nothing is asked yet.
pub fn github(config: &config::GitHub, clock: &Clock) -> Result<GitHub, Failure> {
    GitHub::new(config, clock.clone()).map_err(|err| match err {
        github::Error::BadKey { .. } => {
            Failure::Usage(format!("GITHUB_APP_PRIVATE_KEY_PATH (or GITHUB_APP_PRIVATE_KEY): {err}"))
        }
        err => Failure::Failed(with_causes(&err)),
    })
}

pub(super) fn signing_key(path: &Path) -> Result<SigningKey, Failure> {
    let faulty = |why: String| Failure::Usage(format!("AUDIT_SIGNING_KEY_PATH: {}: {why}", path.display()));
    let pem = std::fs::read_to_string(path).map_err(|err| faulty(err.to_string()))?;
    SigningKey::from_pem(&pem).map_err(|err| faulty(err.to_string()))
}

impl Started {
    /// Serves until `stop`, then finishes the requests in flight.
    pub async fn run(self, stop: CancellationToken) -> CommandResult {
        let Started { broker, verifier, server, reloads } = self;
        tokio::spawn(reloads.run(stop.clone()));
        let jobs = tokio::spawn(background::run(broker.clone(), verifier, stop.clone()));
        // Requests in flight and detached tasks get the same time to end.
        let ending = tokio::spawn({
            let (stop, shutdown_timeout) = (stop.clone(), broker.longest() + Duration::from_secs(5));
            async move {
                stop.cancelled().await;
                tokio::time::Instant::now() + shutdown_timeout
            }
        });
        server.until(stop).await.map_err(|err| Failure::Failed(err.to_string()))?;
        let ending = ending.await.map_err(|err| Failure::Failed(err.to_string()))?;
        if !broker.drain(ending.saturating_duration_since(tokio::time::Instant::now())).await {
            tracing::warn!("some tasks did not end in time; the next sweep completes their work");
        }
        jobs.await.map_err(|err| Failure::Failed(err.to_string()))
    }
}

/// The database in `DATABASE_URL`, for a command that needs an up-to-date schema.
pub async fn existing(database_url: &SecretString, connections: usize) -> Result<Store, Failure> {
    let store = Store::new(database_url, connections)?;
    store.disable_hang_detection();
    store.is_ready().await?;
    check_schema(&store).await?;
    Ok(store)
}

async fn check_schema(store: &Store) -> CommandResult {
    let pending = store.pending_migrations().await?;
    match pending.is_empty() {
        true => Ok(()),
        false => Err(Failure::Failed(format!(
            "the database's schema is old: run 'runner-broker migrate' ({})",
            pending.join(", ")
        ))),
    }
}

/// Whether Postgres refuses for a reason that waiting does not change; of several hosts, all of them.
fn is_refusal(why: &str) -> bool {
    let final_word = |why: &str| {
        ["authentication failed", "does not exist", "no pg_hba.conf entry"]
            .iter()
            .any(|part| why.contains(part))
    };
    why.split("; ").all(final_word)
}

/// Waits for a Postgres that is still starting, as it is when a whole machine starts.
pub async fn wait_for(store: &Store, timeout: Duration) -> CommandResult {
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        match store.is_ready().await {
            Ok(()) => return Ok(()),
            Err(store::Error::Unavailable(why)) if is_refusal(&why) => {
                return Err(Failure::Failed(format!("the database refuses DATABASE_URL: {why}")));
            }
            Err(err @ store::Error::Unavailable(_)) if tokio::time::Instant::now() < deadline => {
                tracing::warn!(error = %err, "waiting for the database");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(err) => return Err(err.into()),
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}
