//! How long lists take with a million runners and ten million audit events:
//!
//! ```text
//! cargo bench --bench scale                                       # fills for some minutes, 10 GB of disk
//! SCALE_RUNNERS=20000 SCALE_EVENTS=200000 cargo bench --bench scale
//! ```
//!
//! A private Postgres, filled by SQL in sets: runners over 90 days in 50 teams on 20 targets, most of them gone, ten
//! events for each, jobs and callers; with names, labels, types and callers that are common, rare, only old, or absent.
//! Then one request at a time over a kept connection to `serve`, a process of its own; what is measured is what the
//! caller waits for, and the CPU that the broker and Postgres spend on it, which hardly depends on what else the machine
//! is doing. To add a path, add a line to `scale/paths.rs`.
//!
//! | variable | default | |
//! |---|---|---|
//! | `SCALE_RUNNERS`, `SCALE_EVENTS` | `1000000`, `10000000` | |
//! | `SCALE_LIVE` | a hundredth of the runners | how many of them live |
//! | `SCALE_IDENTITIES` | a twentieth of the runners | |
//! | `SCALE_ROUNDS` | `40` | how often each path is asked for |
//! | `SCALE_DATA_DIR` | none | keeps the data here, and uses what is there already |
//! | `SCALE_INDEX_COSTS` | `off` | `on`: also what each index of the log costs an insert |

#[path = "shared/client.rs"]
#[allow(dead_code, reason = "its load is another benchmark's")]
mod client;
#[path = "scale/fill.rs"]
mod fill;
#[path = "scale/paths.rs"]
mod paths;
#[path = "shared/process.rs"]
#[allow(dead_code, reason = "its memory is another benchmark's")]
mod process;

use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use runner_broker::clock::Clock;
use runner_broker::dev::github::{self, GitHub};
use runner_broker::dev::issuer::{self, Issuer};
use runner_broker::dev::postgres::{Options, Postgres};
use serde_json::json;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use client::{Connection, Load, Measured};
use fill::Size;

const AUDIENCE: &str = "runner-broker";

/// No page may take more of a CPU; what a caller waits for is another thing on a busy machine.
const LIMIT: Duration = Duration::from_millis(50);

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn number(name: &str, default: u64) -> u64 {
    let parse = |text: String| text.parse().unwrap_or_else(|_| panic!("{name}: '{text}' is no number"));
    setting(name).map_or(default, parse)
}

/// The broker and all that it needs; gone when dropped.
struct Site {
    broker: Option<Child>,
    port: u16,
    issuer: issuer::Running,
    github: GitHub,
    postgres: Postgres,
    folder: TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(broker) = &mut self.broker {
            let _ = broker.kill();
            let _ = broker.wait();
        }
    }
}

impl Site {
    fn new() -> Site {
        let options = Options {
            fsync: false,
            settings: [
                // By hand, once it is filled.
                ("autovacuum", "off"),
                ("shared_buffers", "1GB"),
                ("effective_cache_size", "8GB"),
                ("max_wal_size", "8GB"),
                // A statement's own plan, and nothing of the query's time goes into workers that a busy server lacks.
                ("max_parallel_workers_per_gather", "0"),
                ("max_parallel_maintenance_workers", "2"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            ..setting("SCALE_DATA_DIR").map_or_else(Options::temporary, Options::kept)
        };
        let postgres = Postgres::start(&options).unwrap_or_else(|err| panic!("{err}"));
        let github = GitHub::start(github::Settings { record_calls: false, ..github::Settings::default() })
            .expect("a GitHub");
        github.add_org("octo-org");
        let settings = issuer::Settings { port: 0, audience: AUDIENCE.into(), clock: Clock::default() };
        let issuer = Issuer::start(settings).expect("an issuer");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("app.pem"), github.private_key_pem()).expect("a file");
        std::fs::write(folder.path().join("policy.toml"), policy(issuer.url())).expect("a file");
        Site { broker: None, port, issuer, github, postgres, folder }
    }

    fn command(&self, verbs: &[&str]) -> Command {
        let log = File::options().create(true).append(true).open(self.folder.path().join("broker.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner-broker"));
        command
            .args(verbs)
            .env_clear()
            .current_dir(self.folder.path())
            .env("DATABASE_URL", self.postgres.url("postgres"))
            .env("HOST", "127.0.0.1")
            .env("PORT", self.port.to_string())
            .env("HTTPS_ENABLED", "false")
            .env("GITHUB_APP_ID", self.github.app_id().to_string())
            .env("GITHUB_APP_PRIVATE_KEY_PATH", "app.pem")
            .env("GITHUB_ORG", "octo-org")
            .env("GITHUB_API_URL", self.github.url())
            .env("OIDC_ISSUER", self.issuer.url())
            .env("OIDC_AUDIENCE", AUDIENCE)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a file"));
        command
    }

    fn run(&self, verbs: &[&str]) {
        let status = self.command(verbs).status().expect("the broker's binary");
        let log = || std::fs::read_to_string(self.folder.path().join("broker.log")).unwrap_or_default();
        assert!(status.success(), "{verbs:?}: {}", log());
    }

    /// Seconds that the broker and Postgres have computed so far.
    fn cpu(&self) -> f64 {
        let broker = self.broker.as_ref().map_or(0.0, |broker| process::cpu(broker.id()));
        broker + self.postgres.pid().map_or(0.0, process::cpu_with_children)
    }

    /// What goes before a path, as this caller.
    fn load(&self, caller: &str) -> Load {
        Load { port: self.port, token: self.issuer.mint(json!({ "sub": caller, "team": caller })) }
    }
}

/// Fifty teams, somebody in a few of them, an admin.
fn policy(issuer: &str) -> String {
    let member = |kind: &str, claim: &str| {
        format!("[[{kind}]]\nissuer = \"{issuer}\"\nclaims = {{ team = \"{claim}\" }}\n")
    };
    let team = |number: usize| {
        let few = if number >= 40 { "|few" } else { "" };
        let name = format!("team-{number:02}");
        format!("[[team]]\nname = \"{name}\"\ntargets = [\"octo-org\", \"octo-org/*\"]\n")
            + &member("team.member", &format!("{name}{few}"))
    };
    (0..50).map(team).collect::<String>() + &member("admin", "admin")
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // `cargo test --all-targets` runs this as well, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runners = number("SCALE_RUNNERS", 1_000_000);
    let size = Size {
        runners,
        live: number("SCALE_LIVE", runners / 100),
        events: number("SCALE_EVENTS", 10_000_000),
        identities: number("SCALE_IDENTITIES", runners / 20),
    };
    let mut site = Site::new();
    let url = site.postgres.url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("Postgres");
    tokio::spawn(connection);
    site.run(&["migrate"]);
    site.run(&["policy", "apply", "policy.toml"]);
    if fill::column(&client, "SELECT id FROM runners LIMIT 1").await.is_empty() {
        fill::fill(&client, size).await;
    }
    fill::sizes(&client).await;
    if setting("SCALE_INDEX_COSTS").as_deref() == Some("on") {
        fill::costs(&client).await;
    }
    site.broker = Some(site.command(&["serve"]).spawn().expect("the broker's binary"));
    let admin = site.load("admin");
    admin
        .until_ready(|| site.broker.as_mut().is_some_and(|broker| matches!(broker.try_wait(), Ok(None))))
        .await;

    let rounds = number("SCALE_ROUNDS", 40);
    println!("| as | path | rows | CPU | p50 | p99 |\n|---|---|---|---|---|---|");
    let mut slow = Vec::new();
    for (caller, path) in paths::paths(&client).await {
        let load = site.load(caller);
        sign_in(&client, site.issuer.url(), caller, &load).await;
        // Warms caches and connections.
        measure(&load, &path, 2).await;
        let begun = site.cpu();
        let (measured, rows) = measure(&load, &path, rounds).await;
        let cpu = (site.cpu() - begun) * 1000.0 / rounds as f64;
        let [p50, p99] = [0.5, 0.99].map(|q| measured.quantile(q));
        println!("| {caller} | `{path}` | {rows} | {cpu:.1} ms | {p50:.1} ms | {p99:.1} ms |");
        if cpu > LIMIT.as_secs_f64() * 1000.0 {
            slow.push(path);
        }
    }
    assert!(slow.is_empty(), "slower than {LIMIT:?}: {slow:#?}");
}

/// What the cookie of this caller's session holds: for a benchmark his token's digest is as good as chance.
fn session_of(load: &Load) -> String {
    hex::encode(digest(&SHA256, load.token.as_bytes()))
}

/// Signs a caller in to the console, past its pages.
async fn sign_in(client: &Client, issuer: &str, caller: &str, load: &Load) {
    let token_sha256 = hex::encode(digest(&SHA256, session_of(load).as_bytes()));
    let claims = json!({ "sub": caller, "team": caller }).to_string();
    let query = "INSERT INTO sessions (token_sha256, identity_sha256, provider, issuer, subject, display_name, claims,
                     created_at, last_seen_at)
                 VALUES ($1, $1, 'bench', $2, $3, $3, $4::text::jsonb, now(), now()) ON CONFLICT DO NOTHING";
    client.execute(query, &[&token_sha256, &issuer, &caller, &claims]).await.expect("a session");
}

/// So many answers one after the other, and how many rows are in one.
async fn measure(load: &Load, path: &str, rounds: u64) -> (Measured, String) {
    // The API goes by the token, pages by the session.
    let session = format!("\r\ncookie: runner-broker={}\r\n\r\n", session_of(load));
    let request = load.get(path).replace("\r\n\r\n", &session);
    let mut connection = Connection::open(load.port).await.expect("a connection");
    let (mut latencies, mut rows) = (Vec::new(), String::new());
    let begun = Instant::now();
    for _ in 0..rounds {
        let sent = Instant::now();
        let (status, body) = connection.call(&request).await.expect("an answer");
        let took = sent.elapsed().as_micros() as u32;
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(body));
        latencies.push(took);
        if rows.is_empty() {
            rows = described(body);
        }
    }
    (Measured::of(latencies, begun.elapsed()), rows)
}

/// How many rows a page has, of how many, and whether there is another one.
fn described(body: &[u8]) -> String {
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else { return String::new() };
    let Some(list) = body.as_object().and_then(|fields| fields.values().find_map(|value| value.as_array()))
    else {
        return String::new();
    };
    let total = match (body["total"].as_i64(), body["total_capped"].as_bool()) {
        (Some(total), Some(true)) => format!(" of {total}+"),
        (Some(total), _) => format!(" of {total}"),
        _ => String::new(),
    };
    let more = if body["next_cursor"].is_null() { "" } else { ", more" };
    format!("{}{total}{more}", list.len())
}
