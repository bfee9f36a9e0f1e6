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
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(|err| Failure::Failed(err.to_string()))?;
    tokio::spawn({
        let stop = stop.clone();
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            stop.cancel();
        }
    });
    let started = start(config, Clock::default()).await?;
    tracing::info!(address = %started.address, version = env!("CARGO_PKG_VERSION"), "serving");
    started.run(stop).await
}

/// A broker that listens already.
pub struct Started {
    pub broker: Arc<Broker>,
    pub address: std::net::SocketAddr,
    verifier: Verifier,
    server: actix_server::Server,
}
