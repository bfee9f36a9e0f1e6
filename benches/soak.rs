//! An hour of everything at once, at rates that a third of a core bears, to see what grows:
//!
//! ```text
//! nice -n -10 cargo bench --bench soak
//! SOAK_SECONDS=120 cargo bench --bench soak
//! ```
//!
//! Callers of five teams provision, read, list and remove runners; the runners connect to `dev`'s GitHub, take a job
//! and end; GitHub tells of each job; the sweep runs every few seconds; an admin reads the log, people look at pages and
//! leave twenty of them open. Each request is due at a moment of its own and its time counts from there, so that a
//! broker that stalls does not get less to do. There are as many live runners at the end as after two minutes.
//!
//! Every ten seconds a row goes to `soak.csv`, every minute `soak.svg` is drawn anew, and at the end (also by Ctrl-C or
//! SIGTERM) a table and a verdict are printed. It fails if there was an error or if something grows.
//!
//! | variable | default | |
//! |---|---|---|
//! | `SOAK_SECONDS` | `3600` | |
//! | `SOAK_PROVISIONS` | `20` | a second; three webhooks go with each |
//! | `SOAK_READS`, `SOAK_LISTS`, `SOAK_AUDITS`, `SOAK_PAGES` | `40`, `3`, `2`, `2` | a second |
//! | `SOAK_STREAMS` | `20` | pages that are left open |
//! | `SOAK_OUT` | `target/soak` | the folder for both files |
//! | `BENCH_FSYNC` | `off` | `on`: commits wait for the disk |
//! | `BENCH_BROKER` | the one just built | another binary |

#[path = "shared/client.rs"]
#[allow(dead_code, reason = "its load is another benchmark's")]
mod client;
#[path = "soak/lines.rs"]
mod lines;
#[path = "soak/plot.rs"]
mod plot;
#[path = "shared/process.rs"]
#[allow(dead_code, reason = "some of it is another benchmark's")]
mod process;
#[path = "soak/sample.rs"]
mod sample;
#[path = "soak/series.rs"]
mod series;
#[path = "shared/site.rs"]
#[allow(dead_code, reason = "some of it is another benchmark's")]
mod site;
#[path = "soak/streams.rs"]
mod streams;
#[path = "soak/tally.rs"]
mod tally;
#[path = "soak/verdict.rs"]
mod verdict;
#[path = "soak/work.rs"]
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_broker::dev::postgres::Options;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use sample::Sampler;
use series::Series;
use site::{Plan, Site, member, number, setting, sign_in};
use work::{PEOPLE, Rates, TEAMS, Work};

/// How often a row is written.
const EVERY: Duration = Duration::from_secs(10);

/// How often tokens are made anew; they are good for an hour.
const TOKENS: Duration = Duration::from_secs(600);

/// Five teams, two of them with a quota that nobody reaches, and an admin.
fn policy(issuer: &str) -> String {
    let team = |number: u64| {
        let quota = if number < 2 { "max_runners = 100000\n" } else { "" };
        format!("[[team]]\nname = \"team-{number}\"\nallowed_labels = [\"docker\"]\n{quota}")
            + &member("team.member", issuer, &format!("team-{number}"))
    };
    (0..TEAMS).map(team).collect::<String>() + &member("admin", issuer, "admin")
}

fn rates() -> Rates {
    let rate = |name: &str, default: u64| {
        let parse = |text: String| text.parse().unwrap_or_else(|_| panic!("{name}: '{text}' is no number"));
        setting(name).map_or(default as f64, parse)
    };
    Rates {
        provisions: rate("SOAK_PROVISIONS", 20),
        reads: rate("SOAK_READS", 40),
        lists: rate("SOAK_LISTS", 3),
        audits: rate("SOAK_AUDITS", 2),
        pages: rate("SOAK_PAGES", 2),
    }
}

async fn site() -> Site {
    let options = Options {
        fsync: setting("BENCH_FSYNC").as_deref() == Some("on"),
        settings: [("autovacuum", "on"), ("shared_buffers", "256MB"), ("max_wal_size", "4GB")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..Options::temporary()
    };
    let variables =
        vec![("POLICY_FILE", "policy.toml".to_owned()), ("SYNC_INTERVAL_SECONDS", "10".to_owned())];
    let mut site = Site::new(Plan { postgres: options, policy: &policy, variables });
    site.run("postgres", &["migrate"]);
    let client = site.client("postgres").await;
    for person in 0..PEOPLE {
        // Half of them see everything, half their team's.
        let team = if person.is_multiple_of(2) { "admin".into() } else { format!("team-{}", person % TEAMS) };
        sign_in(&client, site.issuer.url(), &format!("person-{person}"), &team).await;
    }
    site.start("postgres");
    site.ready().await;
    site
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // `cargo test --all-targets` runs this as well, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let out = setting("SOAK_OUT")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/soak"), PathBuf::from);
    std::fs::create_dir_all(&out).expect("a folder");
    let length = Duration::from_secs(number("SOAK_SECONDS", 3600));
    let mut ended =
        [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).expect("a signal"));

    let work = Arc::new(Work::at(site().await));
    let mut sampler = Sampler::new(&work.site).await;
    let mut series = Series::begin(&out.join("soak.csv"), sample::columns()).expect("a file");
    println!("{} s; rows go to {}", length.as_secs(), out.join("soak.csv").display());
    let stop = CancellationToken::new();
    let streams = streams::begin(number("SOAK_STREAMS", 20), &work, &stop);
    work.begin(&rates(), &stop);
    renew_tokens(work.clone(), stop.clone());

    let begun = Instant::now();
    let [interrupted, terminated] = &mut ended;
    loop {
        let next = EVERY.min(length.saturating_sub(begun.elapsed()));
        let is_over = tokio::select! {
            _ = interrupted.recv() => true,
            _ = terminated.recv() => true,
            () = tokio::time::sleep(next) => begun.elapsed() >= length,
        };
        let (values, errors) = sampler.sample(&work, &streams).await;
        series.push(begun.elapsed().as_secs_f64(), values, &errors).expect("a file");
        if is_over || series.len().is_multiple_of(6) {
            draw(&series, &out);
            println!("{}", verdict::line(&series));
        }
        if is_over {
            break;
        }
    }
    // What is under way now is not counted any more.
    stop.cancel();
    let whole = work.tally.whole();
    let (text, is_good) = verdict::verdict(&series, &whole);
    println!("\n{text}\n{}", out.join("soak.svg").display());
    if is_good {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "something grows or failed; the broker's last warnings:\n{}",
        verdict::warnings(&work.site.log())
    );
    ExitCode::FAILURE
}

fn draw(series: &Series, out: &Path) {
    let minutes = series.last("seconds") / 60.0;
    let heading = format!("{minutes:.0} minutes of mixed load; one value each 10 s");
    std::fs::write(out.join("soak.svg"), plot::svg(series, &heading, &sample::CHARTS)).expect("a file");
}

fn renew_tokens(work: Arc<Work>, stop: CancellationToken) {
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TOKENS) => work.mint(),
            }
        }
    });
}
