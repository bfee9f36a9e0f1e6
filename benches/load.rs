//! How much the broker does, as a process of its own, under a real load over HTTP:
//!
//! ```text
//! cargo bench                                  # some three minutes, after the build
//! BENCH_SECONDS=3 BENCH_CONNECTIONS=8 cargo bench
//! ```
//!
//! For each number of connections: JIT provisions, then reads of one runner, then `pgbench` with the very
//! statements of a provision (as Postgres logged them; `benches/provision.sql` is written anew each time) in
//! the same transactions on the same Postgres. Postgres, the `dev` GitHub (no delay, no limits), the issuer
//! and this load share the machine with the broker. Postgres is a private one with autovacuum; it does not
//! wait for the disk unless told to, since the disk is not what is measured. The broker logs at its default
//! level, into a file. The team has no quota and no rate, so that requests do not wait for each other.
//!
//! | variable | default | |
//! |---|---|---|
//! | `BENCH_SECONDS` | `10` | for each step |
//! | `BENCH_CONNECTIONS` | `1,8,64` | |
//! | `BENCH_WEBHOOKS` | `1000` | a second, for twice as long as a step; `0`: none |
//! | `BENCH_FSYNC` | `off` | `on`: commits wait for the disk |
//! | `BENCH_BROKER` | the one just built | another binary |

#[path = "shared/client.rs"]
mod client;
#[path = "load/pgbench.rs"]
mod pgbench;
#[path = "shared/process.rs"]
mod process;
#[path = "load/webhooks.rs"]
mod webhooks;

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runner_broker::clock::Clock;
use runner_broker::dev::github::{self, GitHub};
use runner_broker::dev::issuer::{self, Issuer};
use runner_broker::dev::postgres::{Options, Postgres};
use serde_json::json;
use tempfile::TempDir;

use client::{Load, Measured};

const ORG: &str = "octo-org";
const AUDIENCE: &str = "runner-broker";

struct Settings {
    step: Duration,
    connections: Vec<usize>,
    webhooks: u64,
    fsync: bool,
    broker: String,
}

impl Settings {
    fn from_env() -> Settings {
        let var = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        let number = |text: &str| text.trim().parse().unwrap_or_else(|_| panic!("'{text}' is no number"));
        Settings {
            step: Duration::from_secs(number(&var("BENCH_SECONDS", "10")) as u64),
            connections: var("BENCH_CONNECTIONS", "1,8,64").split(',').map(number).collect(),
            webhooks: number(&var("BENCH_WEBHOOKS", "1000")) as u64,
            fsync: var("BENCH_FSYNC", "off") == "on",
            broker: var("BENCH_BROKER", env!("CARGO_BIN_EXE_runner-broker")),
        }
    }
}

/// The broker and all that it needs; gone when dropped.
struct Site {
    broker: Child,
    port: u16,
    token: String,
    _github: GitHub,
    _issuer: issuer::Running,
    postgres: Postgres,
    folder: TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.broker.kill();
        let _ = self.broker.wait();
    }
}

impl Site {
    fn start(settings: &Settings) -> Site {
        let options = Options {
            fsync: settings.fsync,
            settings: [
                ("autovacuum", "on"),
                ("shared_buffers", "256MB"),
                ("max_wal_size", "4GB"),
                ("log_line_prefix", "%p "),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            ..Options::temporary()
        };
        let postgres = Postgres::start(&options).unwrap_or_else(|err| panic!("{err}"));
        let github = GitHub::start(github::Settings { record_calls: false, ..github::Settings::default() })
            .expect("a GitHub");
        github.add_org(ORG);
        let clock = Clock::default();
        let issuer =
            Issuer::start(issuer::Settings { port: 0, audience: AUDIENCE.into(), clock }).expect("an issuer");
        let folder = tempfile::tempdir().expect("a folder");
        let policy = format!(
            "[[team]]\nname = \"blue\"\nallowed_labels = [\"docker\"]\n\
             [[team.member]]\nissuer = \"{}\"\nclaims = {{ team = \"blue\" }}\n",
            issuer.url()
        );
        std::fs::write(folder.path().join("policy.toml"), policy).expect("a file");
        std::fs::write(folder.path().join("app.pem"), github.private_key_pem()).expect("a file");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let log = File::create(folder.path().join("broker.log")).expect("a file");
        let command = |verb: &str| {
            let mut command = Command::new(&settings.broker);
            command
                .arg(verb)
                .env_clear()
                .current_dir(folder.path())
                .env("DATABASE_URL", postgres.url("postgres"))
                .env("HOST", "127.0.0.1")
                .env("PORT", port.to_string())
                .env("HTTPS_ENABLED", "false")
                .env("GITHUB_APP_ID", github.app_id().to_string())
                .env("GITHUB_APP_PRIVATE_KEY_PATH", "app.pem")
                .env("GITHUB_ORG", ORG)
                .env("GITHUB_WEBHOOK_SECRET", webhooks::SECRET)
                .env("GITHUB_API_URL", github.url())
                .env("OIDC_ISSUER", issuer.url())
                .env("OIDC_AUDIENCE", AUDIENCE)
                .env("POLICY_FILE", "policy.toml")
                // One sweep at the start: a list of 100,000 runners is another benchmark.
                .env("SYNC_INTERVAL_SECONDS", "86400")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log.try_clone().expect("a file"));
            command
        };
        assert!(command("migrate").status().expect("the broker's binary").success());
        let broker = command("serve").spawn().expect("the broker's binary");
        let token = issuer.mint(json!({ "sub": "bench", "team": "blue" }));
        Site { broker, port, token, _github: github, _issuer: issuer, postgres, folder }
    }

    fn load(&self) -> Load {
        Load { port: self.port, token: self.token.clone() }
    }

    /// Seconds of CPU that the broker, Postgres, and GitHub with the load have taken so far.
    fn cpu(&self) -> [f64; 3] {
        let postgres = self.postgres.pid().map_or(0.0, process::cpu_with_children);
        [process::cpu(self.broker.id()), postgres, process::cpu(std::process::id())]
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // `cargo test --all-targets` runs this as well, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let settings = Settings::from_env();
    let mut site = Site::start(&settings);
    let load = site.load();
    load.until_ready(|| site.broker.try_wait().ok().flatten().is_none()).await;
    let script = pgbench::record(&site.postgres, &load, site.folder.path()).await;
    pgbench::keep(&script, Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/provision.sql")));
    let rest = process::resident(site.broker.id());
    let watched = process::Watched::start(site.broker.id());
    load.provisions(8, Duration::from_secs(1)).await;

    let fsync = if settings.fsync { "waits for the disk" } else { "does not wait for the disk" };
    println!(
        "{} s a step, {} cores; Postgres {fsync}",
        settings.step.as_secs(),
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    println!(
        "{:>11} | {:>9} {:>7} {:>7} {:>7} | {:>9} {:>7} {:>7} | {:>9} {:>5}",
        "connections",
        "JIT/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "reads/s",
        "p50 ms",
        "p99 ms",
        "pgbench/s",
        "ratio"
    );
    for (run, &connections) in settings.connections.iter().enumerate() {
        let start = site.cpu();
        let (provisions, made) = load.provisions(connections, settings.step).await;
        let middle = site.cpu();
        let reads = load.reads(connections, settings.step, &made).await;
        let end = site.cpu();
        let pgbench = pgbench::run(&site.postgres, &script, run + 1, connections, settings.step).await;
        print_line(connections, &provisions, &reads, pgbench);
        print_cpu("a provision", start, middle, &provisions);
        print_cpu("a read", middle, end, &reads);
    }
    if settings.webhooks > 0 {
        webhooks(&site, &load, &settings).await;
    }
    println!("broker's memory: {rest:.0} MB at rest, at most {:.0} MB under load", watched.most());
}

/// Deliveries at a steady rate; the jobs in them are worked off meanwhile.
async fn webhooks(site: &Site, load: &Load, settings: &Settings) {
    let start = site.cpu();
    let measured = load.webhooks(settings.webhooks, 2 * settings.step).await;
    let end = site.cpu();
    println!(
        "webhooks, {} s: {} accepted, {:.0}/s, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        2 * settings.step.as_secs(),
        measured.count(),
        measured.rate(),
        measured.quantile(0.5),
        measured.quantile(0.99),
        measured.quantile(1.0),
    );
    print_cpu("a webhook", start, end, &measured);
}

fn print_line(connections: usize, provisions: &Measured, reads: &Measured, pgbench: Option<f64>) {
    let (rate, ratio) = match pgbench {
        Some(rate) => (format!("{rate:.0}"), format!("{:.2}", provisions.rate() / rate)),
        None => ("no pgbench".into(), String::new()),
    };
    println!(
        "{connections:>11} | {:>9.0} {:>7.1} {:>7.1} {:>7.1} | {:>9.0} {:>7.2} {:>7.2} | {rate:>9} {ratio:>5}",
        provisions.rate(),
        provisions.quantile(0.5),
        provisions.quantile(0.99),
        provisions.quantile(1.0),
        reads.rate(),
        reads.quantile(0.5),
        reads.quantile(0.99),
    );
}

/// Where the time of the machine goes: unlike rates, hardly touched by whatever else runs on it.
fn print_cpu(what: &str, from: [f64; 3], to: [f64; 3], measured: &Measured) {
    let [broker, postgres, rest] = [0, 1, 2].map(|i| (to[i] - from[i]) * 1000.0 / measured.count() as f64);
    println!(
        "{:>11} | CPU for {what}: broker {broker:.2} ms, Postgres {postgres:.2} ms, GitHub and load {rest:.2} ms",
        ""
    );
}
