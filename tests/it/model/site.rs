//! Three replicas, each on a runtime of its own that can be ended at any await, one Postgres, one GitHub and one
//! clock, all in this process.

use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use runner_broker::broker::Broker;
use runner_broker::clock::Clock;
use runner_broker::config::Config;
use runner_broker::dev::github::{self, GitHub};
use runner_broker::policy::Document;
use runner_broker::store::Store;
use runner_broker::store::leases::Lease;
use tokio::runtime::Runtime;
use tokio_postgres::Client;
use uuid::Uuid;

use super::steps::REPLICAS;
use crate::database::{Connection, TestDatabase, connect};
use crate::support::{ORG, REPO, config, schema_hash, team};

/// For one call of GitHub's: what hangs costs this in real time, and three times that at most.
const GITHUB_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(250);
pub const ISSUER: &str = "https://issuer.example";
pub const TEAMS: [&str; 2] = ["blue", "red"];
pub const TARGETS: [&str; 2] = [ORG, REPO];

pub struct Site {
    pub github: GitHub,
    pub clock: Clock,
    pub db: Arc<Client>,
    pub replicas: Vec<Replica>,
    config: Config,
    quotas: [i64; 2],
    _connection: Connection,
    _database: TestDatabase,
}

/// One process's worth of broker.
pub struct Replica {
    pub broker: Arc<Broker>,
    pub id: Uuid,
    /// The last lease that it held.
    pub lease: Arc<Mutex<Option<Lease>>>,
    runtime: Option<Runtime>,
}

impl Site {
    pub async fn new(quotas: [i64; 2]) -> Site {
        let truth = include_str!("truth.sql");
        let schema = format!("{}_model_{}", schema_hash(), truth.len());
        let database = TestDatabase::create(&schema, async |url: &str| {
            Store::new(&url.into(), 1).expect("a URL").migrate().await.expect("the migrations");
            let (client, _connection) = connect(url).await;
            client.batch_execute(truth).await.expect("the model's tables");
        })
        .await;
        let clock = Clock::default();
        let github = GitHub::start(github::Settings { clock: clock.clone(), ..github::Settings::default() })
            .expect("a GitHub");
        github.add_org(ORG);
        github.add_repo(REPO);
        let (db, connection) = connect(database.url()).await;
        let mut config = config(database.url(), ISSUER, &github);
        config.github.timeout = GITHUB_TIMEOUT;
        // Ended by the model, never by a machine that is slow.
        config.broker.lease = std::time::Duration::from_secs(600);
        let mut site = Site {
            github,
            clock,
            db: Arc::new(db),
            replicas: Vec::new(),
            config,
            quotas,
            _connection: connection,
            _database: database,
        };
        for _ in 0..REPLICAS {
            let replica = Replica::start(&site.config, &site.clock).await;
            site.replicas.push(replica);
        }
        site.apply_policy().await;
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
            broker.refresh_policy().await.expect("a policy");
            broker
        });
        let broker = starting.await.expect("a replica");
        Replica { broker, id, lease: Arc::default(), runtime: Some(runtime) }
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
