//! `serve` and `migrate`.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Done, Failure};
use crate::auth::Verifier;
use crate::broker::{Broker, administer};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::github::GitHub;
use crate::policy::Document;
use crate::store::{self, Store};
use crate::{http, jobs, telemetry};

/// How long `serve` and `migrate` wait for a Postgres that is still starting.
const DATABASE_PATIENCE: Duration = Duration::from_secs(30);

/// Connections to Postgres for each core; provisions hold none while GitHub answers.
const CONNECTIONS_PER_CORE: usize = 8;

pub async fn migrate() -> Done {
    telemetry::logs(&config::log()?).map_err(Failure::Usage)?;
    let store = Store::new(&config::database_url()?, 1)?;
    wait_for(&store).await?;
    let ran = store.migrate().await?;
    match ran.is_empty() {
        true => super::print("the schema is up to date\n"),
        false => super::print(&ran.iter().map(|name| format!("migrated {name}\n")).collect::<String>()),
    }
}

pub async fn serve() -> Done {
    telemetry::logs(&config::log()?).map_err(Failure::Usage)?;
    let config = Config::from_env()?;
    let stop = stop_on_signal()?;
    let started = start(config, Clock::default()).await?;
    tracing::info!(address = %started.address, version = env!("CARGO_PKG_VERSION"), "serving");
    started.run(stop).await
}

/// Cancelled by SIGTERM or Ctrl-C.
pub fn stop_on_signal() -> Result<CancellationToken, Failure> {
    let failed = |err: std::io::Error| Failure::Failed(err.to_string());
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
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

/// A broker that listens already; `run`, or await `server`, to let it serve.
pub struct Started {
    pub broker: Arc<Broker>,
    pub verifier: Verifier,
    pub address: std::net::SocketAddr,
    pub server: actix_server::Server,
}

/// Connects, checks the schema, applies `POLICY_FILE`, asks the issuers for their keys, and listens.
pub async fn start(config: Config, clock: Clock) -> Result<Started, Failure> {
    // From the first request on, so that no count is lost.
    telemetry::metrics();
    let store = Store::new(&config.database_url, CONNECTIONS_PER_CORE * cores())?;
    wait_for(&store).await?;
    let pending = store.pending_migrations().await?;
    if !pending.is_empty() {
        let why =
            format!("the database's schema is old: run 'runner-broker migrate' ({})", pending.join(", "));
        return Err(Failure::Failed(why));
    }
    let github = GitHub::new(&config.github, clock.clone()).map_err(|err| Failure::Usage(err.to_string()))?;
    let verifier =
        Verifier::new(&config.oidc, clock.clone()).map_err(|err| Failure::Failed(err.to_string()))?;
    let broker = Broker::new(config.broker.clone(), &config.github, store, github, clock);
    if let Some(path) = &config.policy_file {
        apply_file(&broker, path).await?;
    }
    broker.refresh_policy().await?;
    // In the background: an issuer that is down must not keep us from starting.
    tokio::spawn({
        let verifier = verifier.clone();
        async move { verifier.refresh().await }
    });
    let listening = http::listen(&config.http, broker.clone(), verifier.clone()).map_err(Failure::Failed)?;
    Ok(Started { broker, address: listening.address, verifier, server: listening.server })
}

async fn apply_file(broker: &Broker, path: &std::path::Path) -> Done {
    let at = |why: String| Failure::Usage(format!("POLICY_FILE: {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|err| at(err.to_string()))?;
    let document = Document::parse(&text).map_err(|faults| at(administer::listed(&faults)))?;
    match broker.apply_policy(&document, &format!("file {}", path.display()), true).await {
        Ok(administer::Applied::Superseded) => {
            tracing::warn!(
                "POLICY_FILE was applied before and has been replaced since; it is not applied again"
            );
            Ok(())
        }
        Ok(applied) => {
            tracing::info!(?applied, "POLICY_FILE");
            Ok(())
        }
        Err(crate::broker::Error::Policy(faults)) => Err(at(faults)),
        Err(err) => Err(err.into()),
    }
}

impl Started {
    /// Serves until `stop`, then finishes what has begun.
    pub async fn run(self, stop: CancellationToken) -> Done {
        let Started { broker, verifier, server, .. } = self;
        let handle = server.handle();
        let jobs = tokio::spawn(jobs::run(broker.clone(), verifier, stop.clone()));
        let stopping = tokio::spawn(async move {
            stop.cancelled().await;
            tracing::info!("stopping: finishing what has begun");
            handle.stop(true).await;
        });
        server.await.map_err(|err| Failure::Failed(err.to_string()))?;
        stopping.abort();
        if !broker.drain(broker.longest() + Duration::from_secs(5)).await {
            tracing::warn!("something had not ended in time; the next sweep finishes it");
        }
        jobs.await.map_err(|err| Failure::Failed(err.to_string()))
    }
}

/// Waits for a Postgres that is still starting, as it is when a whole machine starts.
async fn wait_for(store: &Store) -> Done {
    let deadline = tokio::time::Instant::now() + DATABASE_PATIENCE;
    loop {
        match store.ping().await {
            Ok(()) => return Ok(()),
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
