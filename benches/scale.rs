//! How the broker grows: what takes how long with a thousand runners and ten thousand events in its tables, and with a
//! million and ten million.
//!
//! ```text
//! cargo bench --bench scale                     # fills and seals for a quarter of an hour, 15 GB of disk
//! SCALE_RUNNERS=20000 SCALE_EVENTS=200000 cargo bench --bench scale
//! ```
//!
//! A private Postgres with two databases, filled by SQL in sets: runners over 90 days in 50 teams on 20 targets, most
//! of them gone, ten events for each, jobs and callers; with names, labels, types and callers that are common, rare, only
//! old, or absent. In both as many runners live, and each answer has as many rows: what differs is the history.
//!
//! Then, of the two in turns: passes of the sealer over a thousand new events (the whole log is sealed before), sweeps
//! over the live runners of whom a hundred have changed, lists, single runners, pages of the log and of the console, and
//! provisions, one request at a time over a kept connection to a `serve` each. Last, of the large one, every list with
//! every filter. To add a path, add a line to `scale/paths.rs`.
//!
//! | variable | default | |
//! |---|---|---|
//! | `SCALE_RUNNERS`, `SCALE_EVENTS` | `1000000`, `10000000` | of the large one |
//! | `SCALE_SMALL_RUNNERS`, `SCALE_SMALL_EVENTS` | `1000`, `10000` | |
//! | `SCALE_LIVE` | `500` | how many of the runners live, in both |
//! | `SCALE_ROUNDS` | `40` | how often each path is asked for |
//! | `SCALE_DATA_DIR` | none | keeps the data here, and uses what is there already |
//! | `SCALE_ONLY` | none | `compare` leaves out every list with every filter, `paths` all else |
//! | `SCALE_INDEX_COSTS` | `off` | `on`: also what each index of the log costs an insert |

#[path = "shared/client.rs"]
#[allow(dead_code, reason = "its load is another benchmark's")]
mod client;
#[path = "scale/compare.rs"]
mod compare;
#[path = "scale/fill.rs"]
mod fill;
#[path = "shared/inside.rs"]
mod inside;
#[path = "scale/paths.rs"]
mod paths;
#[path = "shared/process.rs"]
#[allow(dead_code, reason = "its memory is another benchmark's")]
mod process;
#[path = "shared/site.rs"]
#[allow(dead_code, reason = "some of it is another benchmark's")]
mod site;
#[path = "shared/table.rs"]
#[allow(dead_code, reason = "some of it is another benchmark's")]
mod table;
#[path = "scale/inside.rs"]
mod within;

use std::time::{Duration, Instant};

use runner_broker::dev::postgres::Options;
use tokio_postgres::Client;

use compare::{Line, Side};
use fill::Size;
use site::{Plan, Site, member, number, setting, sign_in};
use table::Table;
use within::Inside;

/// No page may take more of a CPU; what a caller waits for is another thing on a busy machine.
const LIMIT: Duration = Duration::from_millis(50);

/// The databases, the small one first.
const NAMES: [&str; 2] = ["small", "large"];

/// Passes of the sealer and sweeps that are timed, after some that are not.
const PASSES: usize = 20;
const WARM: usize = 4;

/// Fifty teams, somebody in a few of them, an admin.
fn policy(issuer: &str) -> String {
    let team = |number: usize| {
        let few = if number >= 40 { "|few" } else { "" };
        let name = format!("team-{number:02}");
        format!(
            "[[team]]\nname = \"{name}\"\ntargets = [\"octo-org\", \"octo-org/*\"]\nallowed_labels = [\"docker\"]\n"
        ) + &member("team.member", issuer, &format!("{name}{few}"))
    };
    (0..50).map(team).collect::<String>() + &member("admin", issuer, "admin")
}

fn site() -> Site {
    let settings = [
        // By hand, once it is filled.
        ("autovacuum", "off"),
        ("shared_buffers", "1GB"),
        ("effective_cache_size", "8GB"),
        ("max_wal_size", "8GB"),
        // A statement's own plan, and nothing of the query's time goes into workers that a busy server lacks.
        ("max_parallel_workers_per_gather", "0"),
        ("max_parallel_maintenance_workers", "2"),
    ];
    let postgres = Options {
        fsync: false,
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..setting("SCALE_DATA_DIR").map_or_else(Options::temporary, Options::kept)
    };
    Site::new(Plan { postgres, policy: &policy, variables: Vec::new() })
}

/// Both databases, filled and sealed; who leads is left to `lease`.
async fn filled(site: &Site, sizes: [Size; 2]) -> [Client; 2] {
    let server = site.client("postgres").await;
    let there = fill::column(&server, "SELECT datname FROM pg_database").await;
    for (name, size) in NAMES.into_iter().zip(sizes) {
        if !there.iter().any(|other| other == name) {
            server.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
        }
        site.run(name, &["migrate"]);
        site.run(name, &["policy", "apply", "policy.toml"]);
        let client = site.client(name).await;
        if fill::column(&client, "SELECT id FROM runners LIMIT 1").await.is_empty() {
            fill::fill(&client, size).await;
        }
    }
    [site.client(NAMES[0]).await, site.client(NAMES[1]).await]
}

/// Nobody leads, so that nothing but what is measured happens.
async fn lease(client: &Client) {
    let query = "INSERT INTO leases (name, holder, epoch, expires_at)
                 VALUES ('leader', gen_random_uuid(), 1, now() + interval '30 days')
                 ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = leases.epoch + 1,
                     expires_at = excluded.expires_at";
    client.batch_execute(query).await.expect("a lease");
}

/// Sealing and sweeping, which nobody waits for.
async fn behind_the_scenes(site: &Site, clients: &[Client; 2]) -> Vec<Line> {
    let mut both = Vec::new();
    for (name, client) in NAMES.into_iter().zip(clients) {
        let mut inside = Inside::lead(site.postgres.url(name), client).await;
        let begun = Instant::now();
        let (events, size) = inside.seal().await;
        println!("{name}: {events} events sealed in {:.0} s, {size} in all", begun.elapsed().as_secs_f64());
        client.batch_execute("VACUUM (ANALYZE)").await.expect("statistics");
        both.push(inside);
    }
    let milliseconds = |took: Duration| took.as_secs_f64() * 1000.0;
    let [mut sealing, mut sweeps] = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    for round in 0..WARM + PASSES {
        for (place, inside) in both.iter_mut().enumerate() {
            let (sealed, swept) = (inside.sealing(&clients[place]).await, inside.sweep().await);
            if round >= WARM {
                sealing[place].push(milliseconds(sealed));
                sweeps[place].push(milliseconds(swept));
            }
        }
    }
    let live = both.iter().map(|inside| inside.live().to_string()).collect::<Vec<_>>().join(" and ");
    for inside in both {
        inside.step_down().await;
    }
    vec![
        compare::line("sealing", "1,000 new events".into(), sealing, None, String::new()),
        compare::line("sweep", format!("{live} live runners"), sweeps, None, String::new()),
    ]
}

async fn compared(site: &Site, clients: &[Client; 2], rounds: u64, table: &mut Table) -> Vec<Line> {
    let [small, large] = [paths::compared(&clients[0]).await, paths::compared(&clients[1]).await];
    let mut lines = Vec::new();
    for ((group, caller, path), (_, _, other)) in small.iter().zip(&large) {
        let mut sides = [Side::of(site, 0, caller).await, Side::of(site, 1, caller).await];
        let line = compare::ask(site, &mut sides, group, [path, other], rounds).await;
        table.push(line.cells());
        lines.push(line);
    }
    let mut sides = [Side::of(site, 0, "team-07").await, Side::of(site, 1, "team-07").await];
    let line = compare::provisions(site, &mut sides, 5 * rounds).await;
    table.push(line.cells());
    lines.push(line);
    lines
}

/// Every list with every filter on the large one; those that take too much.
async fn all_paths(site: &Site, client: &Client, rounds: u64) -> Vec<String> {
    println!("\n| as | path | rows | CPU | p50 | p99 |\n|---|---|---|---|---|---|");
    let mut slow = Vec::new();
    for (caller, path) in paths::paths(client).await {
        let (measured, rows, cpu) = Side::of(site, 1, caller).await.measure(site, &path, rounds).await;
        let [p50, p99] = [0.5, 0.99].map(|q| measured.quantile(q));
        println!("| {caller} | `{path}` | {rows} | {cpu:.1} ms | {p50:.1} ms | {p99:.1} ms |");
        if cpu > LIMIT.as_secs_f64() * 1000.0 {
            slow.push(path);
        }
    }
    slow
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // `cargo test --all-targets` runs this as well, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("a provider");
    let live = number("SCALE_LIVE", 500);
    let size = |runners: u64, events: u64| Size { runners, live, events, identities: (runners / 20).max(50) };
    let sizes = [
        size(number("SCALE_SMALL_RUNNERS", 1_000), number("SCALE_SMALL_EVENTS", 10_000)),
        size(number("SCALE_RUNNERS", 1_000_000), number("SCALE_EVENTS", 10_000_000)),
    ];
    let only = setting("SCALE_ONLY");
    let mut site = site();
    let clients = filled(&site, sizes).await;
    fill::sizes(&clients[1]).await;
    if setting("SCALE_INDEX_COSTS").as_deref() == Some("on") {
        fill::costs(&clients[1]).await;
    }
    let (mut lines, mut table) = (Vec::new(), compare::table(sizes.map(|size| size.runners)));
    if only.as_deref() != Some("paths") {
        lines = behind_the_scenes(&site, &clients).await;
        lines.iter().for_each(|line| table.push(line.cells()));
    }
    for (name, client) in NAMES.into_iter().zip(&clients) {
        lease(client).await;
        for caller in ["admin", "team-07", "team-48", "few"] {
            sign_in(client, site.issuer.url(), caller, caller).await;
        }
        site.start(name);
    }
    site.ready().await;
    let rounds = number("SCALE_ROUNDS", 40);
    if only.as_deref() != Some("paths") {
        lines.extend(compared(&site, &clients, rounds, &mut table).await);
        table.print();
        compare::print_verdict(&lines);
    }
    if only.as_deref() != Some("compare") {
        let slow = all_paths(&site, &clients[1], rounds).await;
        assert!(slow.is_empty(), "more than {LIMIT:?} of a CPU: {slow:#?}");
    }
}
