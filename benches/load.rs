//! How much the broker does, as a process of its own, under a real load over HTTP:
//!
//! ```text
//! cargo bench --bench load                      # some eight minutes, after the build
//! BENCH_SECONDS=3 BENCH_CONNECTIONS=8 BENCH_REPLICAS=1 cargo bench --bench load
//! ```
//!
//! First how long it takes from its start to ready. Then for each number of connections: JIT provisions, then reads of
//! one runner, then `pgbench` with the very statements of both (as Postgres logged them; `benches/provision.sql` and
//! `read.sql` are written anew each time) in the same transactions on the same Postgres. Then the same with more replicas
//! on one Postgres. Postgres, the `dev` GitHub (no delay, no limits), the issuer and this load share the machine with the
//! broker; what each takes of it is shown. Postgres is a private one with autovacuum; it does not wait for the disk
//! unless told to, since the disk is not what is measured. The broker logs at its default level, into a file. The team
//! has no quota and no rate, so that requests do not wait for each other.
//!
//! Tables are printed as Markdown and kept in `target/bench` as CSV.
//!
//! | variable | default | |
//! |---|---|---|
//! | `BENCH_SECONDS` | `10` | for each step |
//! | `BENCH_CONNECTIONS` | `1,2,4,8,16,32,64,128,256` | `0`: none |
//! | `BENCH_STARTS` | `20` | how often the start is timed |
//! | `BENCH_REPLICAS` | `1,2,3` | `0`: none |
//! | `BENCH_REPLICA_CONNECTIONS` | `64` | on all of them together |
//! | `BENCH_WEBHOOKS` | `1000` | a second, for twice as long as a step; `0`: none |
//! | `BENCH_FSYNC` | `off` | `on`: commits wait for the disk |
//! | `BENCH_BROKER` | the one just built | another binary |

#[path = "shared/client.rs"]
#[allow(dead_code, reason = "some of it is another benchmark's")]
mod client;
#[path = "load/pgbench.rs"]
mod pgbench;
#[path = "shared/process.rs"]
#[allow(dead_code, reason = "some of it is another benchmark's")]
mod process;
#[path = "shared/site.rs"]
#[allow(dead_code, reason = "some of it is another benchmark's")]
mod site;
#[path = "shared/table.rs"]
mod table;
#[path = "load/webhooks.rs"]
mod webhooks;

use std::path::Path;
use std::time::{Duration, Instant};

use runner_broker::dev::postgres::Options;
use serde_json::json;

use client::{Load, Measured};
use pgbench::Run;
use site::{Cpu, Plan, Site, member, number, numbers, setting};
use table::{Table, digits};

const DATABASE: &str = "postgres";

/// What a start may take.
const READY_WITHIN: f64 = 200.0;

/// How long a broker rests before its memory at rest is read.
const REST: Duration = Duration::from_secs(3);

fn policy(issuer: &str) -> String {
    "[[team]]\nname = \"blue\"\nallowed_labels = [\"docker\"]\n".to_owned()
        + &member("team.member", issuer, "blue")
}

fn new_site() -> Site {
    let settings = [
        ("autovacuum", "on"),
        ("shared_buffers", "256MB"),
        ("max_wal_size", "4GB"),
        ("log_line_prefix", "%p "),
    ];
    let postgres = Options {
        fsync: setting("BENCH_FSYNC").as_deref() == Some("on"),
        max_connections: 300,
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..Options::temporary()
    };
    let variables = vec![
        ("POLICY_FILE", "policy.toml".to_owned()),
        // One sweep at the start: a list of 100,000 runners is another benchmark.
        ("SYNC_INTERVAL_SECONDS", "86400".to_owned()),
    ];
    let site = Site::new(Plan { postgres, policy: &policy, variables });
    site.run(DATABASE, &["migrate"]);
    site
}

/// From the start of the process to the first 200 of `/health/ready`, again and again; its memory then.
async fn starts(site: &mut Site, times: u64) {
    let (mut took, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let begun = Instant::now();
        site.start(DATABASE);
        site.ready().await;
        took.push(begun.elapsed().as_secs_f64() * 1000.0);
        if let Some(replica) = site.replicas.pop() {
            memory.push(process::resident(replica.id()));
            replica.stop();
        }
    }
    memory.sort_by(f64::total_cmp);
    let took = Measured::of_milliseconds(&took);
    let mut table =
        Table::new("start", &["starts", "ready after, p50", "slowest", "expected", "memory then, MB"]);
    let middle = memory.get(memory.len() / 2).copied().unwrap_or(f64::NAN);
    let milliseconds = |q: f64| format!("{:.0} ms", took.quantile(q));
    let expected = format!("at most {READY_WITHIN:.0} ms");
    table.push(vec![times.to_string(), milliseconds(0.5), milliseconds(1.0), expected, digits(middle, 0)]);
    table.print();
}

/// What one of something took of each, in milliseconds, and how many cores were busy in all.
fn cpu_cells(used: Cpu, measured: &Measured) -> Vec<String> {
    let count = measured.count() as f64;
    let each =
        [used.broker, used.postgres, used.github, used.load].map(|part| digits(part * 1000.0 / count, 3));
    let cores = used.sum() / measured.seconds();
    let of_the_load = used.load / measured.seconds();
    each.into_iter().chain([digits(cores, 2), digits(of_the_load, 2)]).collect()
}

/// Provisions, then reads of what was made.
async fn both(site: &Site, load: &Load, connections: usize, step: Duration) -> ([Measured; 2], [Cpu; 2]) {
    let start = site.cpu();
    let (provisions, made) = load.provisions(connections, step).await;
    let middle = site.cpu();
    let reads = load.reads(connections, step, &made).await;
    ([provisions, reads], [middle.since(start), site.cpu().since(middle)])
}

fn milliseconds(measured: &Measured, quantiles: &[f64]) -> Vec<String> {
    quantiles.iter().map(|q| digits(measured.quantile(*q), 2)).collect()
}

/// One replica under more and more connections, beside pgbench.
async fn by_connections(site: &mut Site, load: &Load, step: Duration, connections: &[usize]) {
    let scripts = pgbench::record(&site.postgres, load, site.folder.path()).await;
    for (script, name) in scripts.iter().zip(["provision.sql", "read.sql"]) {
        pgbench::keep(script, &Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches")).join(name));
    }
    let broker = site.replicas[0].id();
    tokio::time::sleep(REST).await;
    let rest = process::resident(broker);
    let watched = process::Watched::start(broker);
    load.provisions(8, Duration::from_secs(1)).await;
    let mut rates = Table::new(
        "connections",
        &[
            "connections",
            "JIT/s",
            "p50 ms",
            "p99 ms",
            "max ms",
            "pgbench/s",
            "ratio",
            "reads/s",
            "p50 ms",
            "p99 ms",
            "pgbench/s",
            "ratio",
            "memory MB",
        ],
    );
    let mut cpu = Table::new(
        "cpu",
        &[
            "connections",
            "request",
            "broker ms",
            "Postgres ms",
            "GitHub ms",
            "load ms",
            "cores in all",
            "cores of the load",
        ],
    );
    for (place, &connections) in connections.iter().enumerate() {
        let ([provisions, reads], used) = both(site, load, connections, step).await;
        let run = Run { number: place + 1, clients: connections, step };
        let pgbench = pgbench::run(&site.postgres, &scripts, run).await;
        let of_pgbench = |place: usize, rate: f64| match pgbench {
            Some(rates) => vec![digits(rates[place], 0), digits(rate / rates[place], 2)],
            None => vec!["no pgbench".into(), String::new()],
        };
        let mut row = vec![connections.to_string(), digits(provisions.rate(), 0)];
        row.extend(milliseconds(&provisions, &[0.5, 0.99, 1.0]));
        row.extend(of_pgbench(0, provisions.rate()));
        row.push(digits(reads.rate(), 0));
        row.extend(milliseconds(&reads, &[0.5, 0.99]));
        row.extend(of_pgbench(1, reads.rate()));
        row.push(digits(process::resident(broker), 0));
        rates.push(row);
        for ((name, measured), used) in [("provision", &provisions), ("read", &reads)].into_iter().zip(used) {
            let names = vec![connections.to_string(), name.to_owned()];
            cpu.push(names.into_iter().chain(cpu_cells(used, measured)).collect());
        }
    }
    rates.print();
    cpu.print();
    println!("the broker's memory: {rest:.0} MB at rest, at most {:.0} MB under load", watched.most());
}

/// So many replicas on the one Postgres.
async fn by_replicas(site: &mut Site, token: &str, step: Duration, counts: &[usize]) {
    let connections = number("BENCH_REPLICA_CONNECTIONS", 64) as usize;
    let mut table = Table::new(
        "replicas",
        &[
            "replicas",
            "request",
            "a second",
            "p50 ms",
            "p99 ms",
            "broker ms",
            "Postgres ms",
            "GitHub ms",
            "load ms",
            "cores in all",
            "cores of the load",
            "sessions",
        ],
    );
    for &count in counts {
        while site.replicas.len() < count {
            site.start(DATABASE);
        }
        site.ready().await;
        let ports = site.replicas.iter().map(|replica| replica.port).collect();
        let load = Load { ports, token: token.to_owned() };
        load.provisions(connections, Duration::from_secs(1)).await;
        let (measured, used) = both(site, &load, connections, step).await;
        let client = site.client(DATABASE).await;
        let query = "SELECT count(*) - 1 FROM pg_stat_activity WHERE backend_type = 'client backend'";
        let sessions: i64 = client.query_one(query, &[]).await.expect("a number").get(0);
        for ((name, measured), used) in ["provision", "read"].into_iter().zip(&measured).zip(used) {
            let mut row = vec![count.to_string(), name.to_owned(), digits(measured.rate(), 0)];
            row.extend(milliseconds(measured, &[0.5, 0.99]));
            row.extend(cpu_cells(used, measured));
            row.push(sessions.to_string());
            table.push(row);
        }
    }
    table.print();
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // `cargo test --all-targets` runs this as well, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let step = Duration::from_secs(number("BENCH_SECONDS", 10));
    let some = |counts: Vec<usize>| counts.into_iter().filter(|count| *count > 0).collect::<Vec<_>>();
    let connections = some(numbers("BENCH_CONNECTIONS", &[1, 2, 4, 8, 16, 32, 64, 128, 256]));
    let replicas = some(numbers("BENCH_REPLICAS", &[1, 2, 3]));
    let mut site = new_site();
    let disk = if setting("BENCH_FSYNC").as_deref() == Some("on") { "waits" } else { "does not wait" };
    println!(
        "{} s a step, {} cores, load average {:.1}; Postgres {disk} for the disk",
        step.as_secs(),
        std::thread::available_parallelism().map_or(0, usize::from),
        process::machine_load()
    );
    starts(&mut site, number("BENCH_STARTS", 20)).await;
    site.start(DATABASE);
    site.ready().await;
    let load = site.load(json!({ "sub": "bench", "team": "blue" }));
    if !connections.is_empty() {
        by_connections(&mut site, &load, step, &connections).await;
    }
    if !replicas.is_empty() {
        by_replicas(&mut site, &load.token, step, &replicas).await;
    }
    let rate = number("BENCH_WEBHOOKS", 1000);
    if rate > 0 {
        let start = site.cpu();
        let measured = load.webhooks(rate, 2 * step).await;
        let head = ["accepted", "a second", "p50 ms", "p99 ms", "max ms", "broker ms", "Postgres ms"];
        let mut table = Table::new("webhooks", &head);
        let mut row = vec![measured.count().to_string(), digits(measured.rate(), 0)];
        row.extend(milliseconds(&measured, &[0.5, 0.99, 1.0]));
        row.extend(cpu_cells(site.cpu().since(start), &measured).into_iter().take(2));
        table.push(row);
        table.print();
    }
}
