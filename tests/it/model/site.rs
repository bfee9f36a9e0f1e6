//! Three replicas, each on a runtime of its own that can be ended at any await, one Postgres, one GitHub and one
//! clock, all in this process. A fresh GitHub costs a millisecond, a fresh database a hundred: it is emptied instead.

use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use chrono::TimeDelta;
use futures_util::future::join_all;
use runner_broker::auth::Verified;
use runner_broker::broker::Broker;
use runner_broker::broker::audit::sealer::Sealer;
use runner_broker::broker::people::caller::{Caller, Origin};
use runner_broker::clock::Clock;
use runner_broker::config::Config;
use runner_broker::dev::github::{self, GitHub};
use runner_broker::model::Identity;
use runner_broker::policy::Document;
use runner_broker::store::Store;
use runner_broker::store::leases::Lease;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio_postgres::Client;
use uuid::Uuid;

use super::checks::Scene;
use super::steps::REPLICAS;
use super::told::TEAMS;
use crate::database::{Connection, TestDatabase, connect};
use crate::support::{ORG, REPO, config, schema_hash, team};

/// For one call of GitHub's: what hangs costs this in real time, and three times that at most.
const GITHUB_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(250);
pub const ISSUER: &str = "https://issuer.example";

/// What one sequence after the other uses.
pub struct Database {
    client: Arc<Client>,
    tables: Vec<String>,
    database: TestDatabase,
    _connection: Connection,
}

pub struct Site {
    pub github: GitHub,
    pub clock: Clock,
    pub db: Arc<Client>,
    pub replicas: Vec<Replica>,
    config: Config,
    quotas: [i64; 2],
}

/// One process's worth of broker.
pub struct Replica {
    pub broker: Arc<Broker>,
    pub id: Uuid,
    /// The last lease that it held.
    pub lease: Arc<Mutex<Option<Lease>>>,
    /// What it remembers of sealing, and since which epoch.
    pub sealer: Arc<tokio::sync::Mutex<(i64, Sealer)>>,
    runtime: Option<Runtime>,
}

impl Database {
    pub async fn new() -> Database {
        let truth = concat!(include_str!("truth.sql"), include_str!("leader.sql"));
        let hash = hex::encode(&digest(&SHA256, truth.as_bytes()).as_ref()[..4]);
        let schema = format!("{}_{hash}", schema_hash());
        let database = TestDatabase::create(&schema, async |url: &str| {
            Store::new(&url.into(), 1).expect("a URL").migrate().await.expect("the migrations");
            let (client, _connection) = connect(url).await;
            client.batch_execute(truth).await.expect("the model's tables");
        })
        .await;
        let (client, connection) = connect(database.url()).await;
        let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE '\\_\\_%'";
        let tables: Vec<String> =
            client.query(tables, &[]).await.expect("the tables").iter().map(|row| row.get(0)).collect();
        for table in &tables {
            let rows = client.query(&format!("SELECT 1 FROM {table} LIMIT 1"), &[]).await.expect("a table");
            assert!(rows.is_empty(), "{table} has rows from the start, which emptying it would lose");
        }
        Database { client: Arc::new(client), tables, database, _connection: connection }
    }

    /// As after the migrations, and nobody of the last sequence is at work on it any more.
    async fn empty(&self) {
        let others = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.client.query(others, &[]).await.expect("an end of the others");
        let all: String = self.tables.iter().map(|table| format!("DELETE FROM {table};")).collect();
        // To anybody but a replication worker the audit log refuses it.
        let empty = format!("BEGIN; SET LOCAL session_replication_role = replica; {all} COMMIT");
        self.client.batch_execute(&empty).await.expect("an empty database");
    }
}

impl Site {
    pub async fn new(database: &Database, quotas: [i64; 2]) -> Site {
        database.empty().await;
        let clock = Clock::default();
        let github = GitHub::start(github::Settings { clock: clock.clone(), ..github::Settings::default() })
            .expect("a GitHub");
        github.add_org(ORG);
        github.add_repo(REPO);
        let mut config = config(database.database.url(), ISSUER, &github);
        config.github.timeout = GITHUB_TIMEOUT;
        // Ended by the model, never by a machine that is slow.
        config.broker.lease = std::time::Duration::from_secs(600);
        let mut site =
            Site { github, clock, db: database.client.clone(), replicas: Vec::new(), config, quotas };
        // The first one alone, so that the others begin with the policy.
        for count in [1, REPLICAS - 1] {
            let starting = (0..count).map(|_| Replica::start(&site.config, &site.clock));
            let started = join_all(starting).await;
            site.replicas.extend(started);
            if site.replicas.len() == 1 {
                site.apply_policy().await;
            }
        }
        site
    }

    /// Puts the quotas in force on all replicas, as some seconds do.
    pub async fn quota(&mut self, team: usize, max: i64) {
        self.quotas[team] = max;
        self.apply_policy().await;
    }

    pub fn quotas(&self) -> [i64; 2] {
        self.quotas
    }

    async fn apply_policy(&self) {
        let [blue, red] = [0, 1].map(|n| team(TEAMS[n], &format!("max_runners = {}", self.quotas[n])));
        let document = Document::parse(&format!("{blue}\n{red}").replace("ISSUER", ISSUER));
        let document = document.unwrap_or_else(|faults| panic!("{faults:?}"));
        self.replicas[0].broker.apply_policy(&document, "model", false).await.expect("a policy");
        for replica in &self.replicas[1..] {
            replica.broker.refresh_policy().await.expect("a policy");
        }
    }

    /// Ends whatever this replica does where it waits, and puts another in its place.
    pub async fn kill(&mut self, replica: usize) {
        self.replicas[replica].end();
        self.replicas[replica] = Replica::start(&self.config, &self.clock).await;
    }

    pub fn pass(&self, seconds: i64) {
        self.clock.advance(TimeDelta::seconds(seconds));
    }

    pub fn scene(&self) -> Scene<'_> {
        Scene { db: &self.db, github: &self.github, now: self.clock.now() }
    }

    /// Postgres as an auditor's program reaches it.
    pub fn store(&self) -> Store {
        Store::new(&self.config.database_url, 1).expect("a URL")
    }

    /// The lease ends, whoever holds it.
    pub async fn end_lease(&self) {
        let end = "UPDATE leases SET expires_at = clock_timestamp() - interval '1 second'";
        self.db.batch_execute(end).await.expect("a lease");
    }
}

impl Replica {
    async fn start(config: &Config, clock: &Clock) -> Replica {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (config, clock, id) = (config.clone(), clock.clone(), Uuid::now_v7());
        let starting = runtime.spawn(async move {
            use secrecy::ExposeSecret;
            let url = config.database_url.expose_secret();
            let separator = if url.contains('?') { '&' } else { '?' };
            let url = format!("{url}{separator}options=-c%20model.replica%3D{id}");
            let store = Store::new(&url.as_str().into(), 6).expect("a URL");
            let github = runner_broker::github::GitHub::new(&config.github, clock.clone()).expect("a key");
            let broker = Broker::new(config.broker.clone(), &config.github, store, github, clock);
            // Tried again, in case the machine has no time for Postgres.
            for _ in 0..10 {
                if broker.refresh_policy().await.is_ok() {
                    return broker;
                }
            }
            panic!("a replica gets no policy");
        });
        let broker = starting.await.expect("a replica");
        Replica { broker, id, lease: Arc::default(), sealer: Arc::default(), runtime: Some(runtime) }
    }

    /// Runs `work` as this process does; it ends with the process.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.as_ref().expect("a replica that lives").spawn(work)
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.end();
    }
}

/// Somebody of this team.
pub fn caller(broker: &Arc<Broker>, team: &str) -> Caller {
    let identity = Identity {
        issuer: ISSUER.into(),
        subject: format!("{team}-user"),
        display_name: format!("{team}-user"),
    };
    let claims = json!({ "team": team }).as_object().cloned().expect("an object");
    let origin = Origin { request_id: Uuid::now_v7().to_string(), ..Origin::default() };
    broker.admit(Verified { identity, claims }, origin).expect("an active identity")
}
