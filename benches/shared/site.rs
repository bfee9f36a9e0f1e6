//! The broker as processes of their own, with the Postgres, the issuer and the GitHub that they need; all of it is gone
//! when dropped.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runner_broker::clock::Clock;
use runner_broker::dev::github::{self, GitHub};
use runner_broker::dev::issuer::{self, Issuer};
use runner_broker::dev::postgres::{Options, Postgres};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::client::Load;
use crate::process;

pub const ORG: &str = "octo-org";
const AUDIENCE: &str = "runner-broker";

/// What webhooks are signed with here.
pub const SECRET: &str = "webhook-secret-of-the-benchmark";

/// How often it is looked whether a broker is ready.
const GLANCE: Duration = Duration::from_millis(1);

/// What differs from benchmark to benchmark.
pub struct Plan<'a> {
    pub postgres: Options,
    /// The policy's document, by the issuer's URL.
    pub policy: &'a dyn Fn(&str) -> String,
    /// For every command of the broker, beside those that any needs.
    pub variables: Vec<(&'static str, String)>,
}

/// A running broker.
pub struct Replica {
    process: Child,
    pub port: u16,
}

impl Replica {
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn lives(&mut self) -> bool {
        self.process.try_wait().ok().flatten().is_none()
    }

    /// As an operator stops it; waits for its end.
    pub fn stop(mut self) {
        let _ = Command::new("kill").arg(self.id().to_string()).status();
        let _ = self.process.wait();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub struct Site {
    pub replicas: Vec<Replica>,
    pub issuer: issuer::Running,
    pub github: GitHub,
    pub postgres: Postgres,
    pub folder: TempDir,
    variables: Vec<(&'static str, String)>,
}

/// Seconds of CPU so far.
#[derive(Clone, Copy)]
pub struct Cpu {
    pub broker: f64,
    pub postgres: f64,
    /// GitHub and the issuer.
    pub github: f64,
    pub load: f64,
}

impl Site {
    /// All but the broker itself.
    pub fn new(plan: Plan) -> Site {
        let postgres = Postgres::start(&plan.postgres).unwrap_or_else(|err| panic!("{err}"));
        let github = GitHub::start(github::Settings { record_calls: false, ..github::Settings::default() })
            .expect("a GitHub");
        github.add_org(ORG);
        let settings = issuer::Settings { port: 0, audience: AUDIENCE.into(), clock: Clock::default() };
        let issuer = Issuer::start(settings).expect("an issuer");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("app.pem"), github.private_key_pem()).expect("a file");
        std::fs::write(folder.path().join("policy.toml"), (plan.policy)(issuer.url())).expect("a file");
        Site { replicas: Vec::new(), issuer, github, postgres, folder, variables: plan.variables }
    }

    /// A command of the broker's on this database; what it logs goes to a file, at the default level.
    pub fn command(&self, database: &str, verbs: &[&str]) -> Command {
        let log = File::options().create(true).append(true).open(self.folder.path().join("broker.log"));
        let binary = std::env::var("BENCH_BROKER").unwrap_or(env!("CARGO_BIN_EXE_runner-broker").to_owned());
        let mut command = Command::new(binary);
        command
            .args(verbs)
            .env_clear()
            .current_dir(self.folder.path())
            .env("DATABASE_URL", self.postgres.url(database))
            .env("HOST", "127.0.0.1")
            .env("HTTPS_ENABLED", "false")
            .env("GITHUB_APP_ID", self.github.app_id().to_string())
            .env("GITHUB_APP_PRIVATE_KEY_PATH", "app.pem")
            .env("GITHUB_ORG", ORG)
            .env("GITHUB_WEBHOOK_SECRET", SECRET)
            .env("GITHUB_API_URL", self.github.url())
            .env("OIDC_ISSUER", self.issuer.url())
            .env("OIDC_AUDIENCE", AUDIENCE)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a file"))
            // Ctrl-C is for the benchmark, which ends the broker itself.
            .process_group(0);
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, database: &str, verbs: &[&str]) {
        let status = self.command(database, verbs).status().expect("the broker's binary");
        assert!(status.success(), "{verbs:?}: {}", self.log());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("broker.log")).unwrap_or_default()
    }

    /// One replica more, which may not be ready yet; its port.
    pub fn start(&mut self, database: &str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let mut command = self.command(database, &["serve"]);
        let process = command.env("PORT", port.to_string()).spawn().expect("the broker's binary");
        self.replicas.push(Replica { process, port });
        port
    }

    /// Waits until all replicas are ready.
    pub async fn ready(&mut self) {
        for replica in 0..self.replicas.len() {
            let load = Load { ports: vec![self.replicas[replica].port], token: String::new() };
            let replica = &mut self.replicas[replica];
            load.until_ready(GLANCE, || replica.lives()).await;
        }
    }

    /// A load on all replicas, as a caller with these claims.
    pub fn load(&self, claims: Value) -> Load {
        let ports = self.replicas.iter().map(|replica| replica.port).collect();
        Load { ports, token: self.issuer.mint(claims) }
    }

    /// A connection to a database, past the broker.
    pub async fn client(&self, database: &str) -> Client {
        let (client, connection) =
            tokio_postgres::connect(&self.postgres.url(database), NoTls).await.expect("Postgres");
        tokio::spawn(connection);
        client
    }

    pub fn cpu(&self) -> Cpu {
        let load = process::cpu_of_the_first_thread();
        Cpu {
            broker: self.replicas.iter().map(|replica| process::cpu(replica.id())).sum(),
            postgres: self.postgres.pid().map_or(0.0, process::cpu_with_children),
            github: process::cpu(std::process::id()) - load,
            load,
        }
    }
}

impl Cpu {
    /// All of it together.
    pub fn sum(self) -> f64 {
        self.broker + self.postgres + self.github + self.load
    }

    /// What was taken since `before`.
    pub fn since(self, before: Cpu) -> Cpu {
        Cpu {
            broker: self.broker - before.broker,
            postgres: self.postgres - before.postgres,
            github: self.github - before.github,
            load: self.load - before.load,
        }
    }
}

/// What goes for each setting of a benchmark: the variable, if it is set and not empty.
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.trim().is_empty())
}

pub fn number(name: &str, default: u64) -> u64 {
    setting(name).map_or(default, |text| parsed(name, &text))
}

/// Numbers with commas between them.
pub fn numbers(name: &str, default: &[usize]) -> Vec<usize> {
    let listed = |text: String| text.split(',').map(|part| parsed(name, part) as usize).collect();
    setting(name).map_or_else(|| default.to_vec(), listed)
}

fn parsed(name: &str, text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("{name}: '{text}' is no number"))
}

/// A policy's member or role: whoever has one of these as `team`.
pub fn member(kind: &str, issuer: &str, claim: &str) -> String {
    format!("[[{kind}]]\nissuer = \"{issuer}\"\nclaims = {{ team = \"{claim}\" }}\n")
}

/// What the cookie of this caller's session holds: for a benchmark a digest of his name is as good as chance.
pub fn session_of(caller: &str) -> String {
    sha256(&format!("the session of {caller}"))
}

/// Signs a caller with this claim in to the console, past its pages.
pub async fn sign_in(client: &Client, issuer: &str, caller: &str, team: &str) {
    let token_sha256 = sha256(&session_of(caller));
    let claims = json!({ "sub": caller, "team": team }).to_string();
    let query = "INSERT INTO sessions (token_sha256, identity_sha256, provider, issuer, subject, display_name, claims,
                     created_at, last_seen_at)
                 VALUES ($1, $1, 'bench', $2, $3, $3, $4::text::jsonb, now(), now())
                 ON CONFLICT (token_sha256) DO UPDATE SET issuer = excluded.issuer, created_at = now(), last_seen_at = now()";
    client.execute(query, &[&token_sha256, &issuer, &caller, &claims]).await.expect("a session");
}

fn sha256(text: &str) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()))
}
