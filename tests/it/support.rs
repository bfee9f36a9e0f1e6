//! A world for one test: its own database, issuer and GitHub, and a broker that serves on a free port. All in
//! this process, all gone at the end.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use reqwest::Method;
use reqwest::header::HeaderMap;
use runner_broker::auth::Verifier;
use runner_broker::broker::Broker;
use runner_broker::broker::sweep::report::Report;
use runner_broker::cli::serve::start;
use runner_broker::clock::Clock;
use runner_broker::config::Config;
use runner_broker::dev::config::config_for;
pub use runner_broker::dev::config::{AUDIENCE, ORG, REPO};
use runner_broker::dev::github::{self, GitHub};
use runner_broker::dev::issuer::{self, Issuer};
use runner_broker::policy::Document;
use runner_broker::store::Store;
use runner_broker::store::leases::Lease;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::database::{Connection, TestDatabase, connect};

pub const WEBHOOK_SECRET: &str = "webhook-secret-of-the-tests";

pub struct World {
    pub issuer: issuer::Running,
    pub github: GitHub,
    pub broker: Arc<Broker>,
    pub verifier: Verifier,
    /// Moves the broker, the issuer and GitHub.
    pub clock: Clock,
    pub url: String,
    pub config: Config,
    pub replica: Uuid,
    client: reqwest::Client,
    server: JoinHandle<std::io::Result<()>>,
    database_url: String,
    /// What `sql` asks.
    past_the_broker: Mutex<Option<(Client, Connection)>>,
    /// `None`: somebody else's server, which goes as a whole.
    _database: Option<TestDatabase>,
}

/// What the broker answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// `Null` for what is no JSON.
    pub body: Value,
    pub text: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The text of a field, or nothing.
    pub fn str(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }

    /// Status and error code: what most tests of refusals look at.
    pub fn refusal(&self) -> (u16, &str) {
        (self.status, self.str("error_code"))
    }
}

impl World {
    /// With one team, blue: any label that begins with `linux` or is `docker`, both methods.
    pub async fn new() -> World {
        World::with(|_| {}).await
    }

    /// As `new`, with the configuration as `change` leaves it.
    pub async fn with(change: impl FnOnce(&mut Config)) -> World {
        let database = migrated().await;
        World::build(database.url().to_owned(), Some(database), change).await
    }

    /// As `with`, on this empty database.
    pub async fn on(database_url: &str, change: impl FnOnce(&mut Config)) -> World {
        Store::new(&database_url.into(), 1).expect("a URL").migrate().await.expect("the migrations");
        World::build(database_url.to_owned(), None, change).await
    }

    /// Another broker on a world's database that logs in there with this URL; its peers are its own.
    pub async fn served_by(world: &World, database_url: &str) -> World {
        let key = world.config.broker.audit_signing_key.clone();
        World::build(database_url.to_owned(), None, |config| config.broker.audit_signing_key = key).await
    }

    async fn build(
        database_url: String,
        database: Option<TestDatabase>,
        change: impl FnOnce(&mut Config),
    ) -> World {
        let clock = Clock::default();
        let issuer =
            Issuer::start(issuer::Settings { port: 0, audience: AUDIENCE.into(), clock: clock.clone() })
                .expect("an issuer");
        let github = GitHub::start(github::Settings { clock: clock.clone(), ..github::Settings::default() })
            .expect("a GitHub");
        github.add_org(ORG);
        github.add_repo(REPO);
        let mut config = config(&database_url, issuer.url(), &github);
        change(&mut config);
        let started = start(config.clone(), clock.clone()).await.expect("a broker");
        started.verifier.refresh().await;
        let world = World {
            url: format!(
                "{}://{}",
                if config.http.tls.is_some() { "https" } else { "http" },
                started.server.address
            ),
            broker: started.broker,
            verifier: started.verifier,
            server: tokio::spawn(started.server),
            client: client(),
            replica: Uuid::now_v7(),
            issuer,
            github,
            clock,
            config,
            database_url,
            past_the_broker: Mutex::default(),
            _database: database,
        };
        world.policy(&team("blue", "")).await;
        world
    }

    /// With the teams blue and red, somebody of both (`both`), an administrator (`boss`) and an auditor (`watch`).
    pub async fn with_people() -> World {
        let world = World::new().await;
        let mut policy = [("blue", "max_runners = 3"), ("red", "")].map(|(name, more)| {
            team(name, more).replace(&format!("\"{name}\" }}"), &format!("\"{name}|both\" }}"))
        });
        policy[1] += "[[admin]]\nissuer = \"ISSUER\"\nclaims = { team = \"boss\" }\n\
                      [[auditor]]\nissuer = \"ISSUER\"\nclaims = { team = \"watch\" }\n";
        world.policy(&policy.concat()).await;
        world
    }

    /// Puts a policy in force here; `ISSUER` stands for the world's.
    pub async fn policy(&self, toml: &str) {
        let toml = toml.replace("ISSUER", self.issuer.url());
        let document = Document::parse(&toml).unwrap_or_else(|faults| panic!("{faults:?}"));
        self.broker.apply_policy(&document, "test", false).await.expect("a policy");
    }

    /// A token with the claim `team`, whose subject is `<team>-user`.
    pub fn token(&self, team: &str) -> String {
        self.issuer.mint(json!({ "sub": format!("{team}-user"), "team": team }))
    }

    pub async fn get(&self, path: &str, team: &str) -> Answer {
        self.call(Method::GET, path, &self.token(team), &[], None).await
    }

    pub async fn post(&self, path: &str, team: &str, body: Value) -> Answer {
        self.call(Method::POST, path, &self.token(team), &[], Some(body)).await
    }

    pub async fn delete(&self, path: &str, team: &str) -> Answer {
        self.call(Method::DELETE, path, &self.token(team), &[], None).await
    }

    /// A JIT provision of team blue's.
    pub async fn jit(&self, name: &str) -> Answer {
        self.post("/api/v1/runners/jit", "blue", json!({ "runner_name": name })).await
    }

    /// One with an idempotency key.
    pub async fn jit_with_key(&self, body: Value, key: &str) -> Answer {
        let headers = [("idempotency-key", key)];
        self.call(Method::POST, "/api/v1/runners/jit", &self.token("blue"), &headers, Some(body)).await
    }

    /// Any call; an empty token sends none.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request).await
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// The leader's lease, held by this world's replica.
    pub async fn lease(&self) -> Lease {
        self.broker.lead(self.replica).await.expect("a database").expect("nobody else leads")
    }

    /// One sweep, by this world's replica as the leader.
    pub async fn sweep(&self) -> Report {
        let lease = self.lease().await;
        self.broker.sync(&lease).await.expect("a sweep")
    }

    /// Moves the clock of all.
    pub fn pass(&self, seconds: i64) {
        self.clock.advance(TimeDelta::seconds(seconds));
    }

    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// One query on the world's database, past the broker: the first column of all rows, as text.
    pub async fn sql(&self, query: &str) -> Vec<String> {
        let mut past = self.past_the_broker.lock().await;
        if past.as_ref().is_none_or(|(client, _)| client.is_closed()) {
            *past = Some(connect(&self.database_url).await);
        }
        let (client, _) = past.as_ref().expect("it was just made");
        let messages = client.simple_query(query).await.unwrap_or_else(|err| panic!("{query}: {err:?}"));
        messages
            .into_iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
                _ => None,
            })
            .collect()
    }

    /// The types of the events about a runner (by name), oldest first.
    pub async fn events(&self, name: &str) -> Vec<String> {
        self.sql(&format!("SELECT event_type FROM audit_log WHERE runner_name = '{name}' ORDER BY id")).await
    }

    /// The events that fit a condition, as JSON, oldest first.
    pub async fn log(&self, condition: &str) -> Vec<Value> {
        let query = format!("SELECT to_json(e) FROM audit_log e WHERE {condition} ORDER BY id");
        let rows = self.sql(&query).await;
        rows.iter().map(|row| serde_json::from_str(row).expect("JSON")).collect()
    }

    /// How many provisions were refused, with an event of their own or in a count.
    pub async fn refused_provisions(&self) -> String {
        self.broker.flush_refusals().await.expect("a database");
        let query = "SELECT sum(coalesce((event_data->>'further')::int, 1)) FROM audit_log \
                     WHERE event_type = 'provision_refused'";
        self.sql(query).await.pop().unwrap_or_default()
    }

    /// How many runners, or registration tokens, GitHub was asked for.
    pub fn posts(&self) -> usize {
        let asked =
            |path: &str| path.ends_with("/generate-jitconfig") || path.ends_with("/registration-token");
        self.github.calls().iter().filter(|call| asked(&call.path)).count()
    }

    /// The names of the runners that GitHub has for the organisation.
    pub fn on_github(&self) -> Vec<String> {
        self.github.runners(ORG).into_iter().map(|runner| runner.name).collect()
    }

    /// The status of the newest row of this name.
    pub async fn status(&self, name: &str) -> String {
        let query = format!("SELECT status FROM runners WHERE name = '{name}' ORDER BY id DESC LIMIT 1");
        self.sql(&query).await.pop().unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Waits until it is so, for as long as a slow machine may need.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A team of a policy whose members have the claim `team`; `more` lines of its own.
pub fn team(name: &str, more: &str) -> String {
    let default = |key: &str, value: &str| match more.contains(&format!("{key} =")) {
        true => String::new(),
        false => format!("{key} = {value}\n"),
    };
    [
        format!("[[team]]\nname = \"{name}\"\n"),
        default("allowed_labels", r#"["linux.*", "docker"]"#),
        default("methods", r#"["jit", "registration_token"]"#),
        default("targets", r#"["octo-org", "octo-org/*"]"#),
        format!("{more}\n[[team.member]]\nissuer = \"ISSUER\"\nclaims = {{ team = \"{name}\" }}\n"),
    ]
    .concat()
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder().danger_accept_invalid_certs(true).build().expect("a client")
}

pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.expect("a body");
    Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text }
}

/// A database with the schema of this version.
pub async fn migrated() -> TestDatabase {
    TestDatabase::create(&schema_hash(), async |url: &str| {
        Store::new(&url.into(), 1).expect("a URL").migrate().await.expect("the migrations");
    })
    .await
}

/// Changes whenever a migration does.
pub fn schema_hash() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the migrations")
        .map(|entry| entry.expect("a migration").path().join("up.sql"))
        .collect();
    files.sort();
    let mut hasher = DefaultHasher::new();
    files.iter().for_each(|file| std::fs::read(file).expect("a migration").hash(&mut hasher));
    format!("{:016x}", hasher.finish())
}

/// A configuration for these peers, on a free port.
pub fn config(database_url: &str, issuer: &str, github: &GitHub) -> Config {
    let mut config = config_for(database_url, issuer, github.url(), github.app_id());
    config.github.timeout = Duration::from_secs(2);
    config.github.webhook_secret = Some(WEBHOOK_SECRET.into());
    config
}
