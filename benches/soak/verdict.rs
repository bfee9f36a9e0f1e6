//! What the rows say as a whole: a table for the documentation, what grows, and what failed.

use std::fmt::Write;

use crate::series::Series;
use crate::tally::{Counted, KINDS};

/// A column, how much it may grow in an hour, and what that is.
const STEADY: [(&str, f64, &str); 3] =
    [("memory_mb", 4.0, "MB of memory"), ("handles", 20.0, "open handles"), ("threads", 4.0, "threads")];

/// Connections to Postgres for each core. The pools fill up as chance has it, which is no growth; nothing is opened
/// beyond them.
const CONNECTIONS_PER_CORE: usize = 12;

/// Below this many rows (20 minutes) a slope says more about the start than about growth.
const ENOUGH: usize = 120;

/// The last row in short.
pub fn line(series: &Series) -> String {
    format!(
        "{:>5.0} s | {:.0} MB, {:.0} handles, {:.0} connections | broker {:.2} cores, Postgres {:.2}, rest {:.2} | \
         provision p50 {:.1} p99 {:.1} ms | {:.0} live, sealing {:.1} s behind | {:.0} errors",
        series.last("seconds"),
        series.last("memory_mb"),
        series.last("handles"),
        series.last("postgres_connections"),
        series.last("broker_cores"),
        series.last("postgres_cores"),
        series.last("load_cores"),
        series.last("provision_p50_ms"),
        series.last("provision_p99_ms"),
        series.last("live_runners"),
        series.last("seal_lag_s"),
        series.last("errors"),
    )
}

/// In Markdown, and whether all is well.
pub fn verdict(series: &Series, whole: &Counted) -> (String, bool) {
    let seconds = series.last("seconds");
    let mut text =
        "| request | how many | a second | p50 | p99 | slowest |\n|---|---|---|---|---|---|\n".to_owned();
    for (kind, name) in KINDS.iter().enumerate() {
        let count = whole.count(kind);
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|q| whole.quantile(kind, q));
        let rate = count as f64 / seconds;
        let _ = writeln!(text, "| {name} | {count} | {rate:.1} | {p50:.1} ms | {p99:.1} ms | {most:.0} ms |");
    }
    text += "\n| | middle | most | at the end |\n|---|---|---|---|\n";
    for (column, name) in [
        ("memory_mb", "the broker's memory, MB"),
        ("handles", "its open handles"),
        ("threads", "its threads"),
        ("broker_cores", "its cores"),
        ("postgres_cores", "Postgres' cores"),
        ("load_cores", "cores of GitHub and the load"),
        ("postgres_connections", "connections to Postgres"),
        ("streams", "streams"),
        ("stream_silence_s", "longest silence of a stream, s"),
        ("live_runners", "live runners"),
        ("seal_lag_s", "sealing behind, s"),
        ("sweep_age_s", "last whole sweep, s ago"),
        ("webhook_backlog", "webhooks that wait"),
        ("database_mb", "database, MB"),
        ("machine_load", "the machine's load average"),
    ] {
        let [middle, most, last] = [series.middle(column), series.most(column), series.last(column)];
        let _ = writeln!(text, "| {name} | {middle:.1} | {most:.1} | {last:.1} |");
    }
    let mut is_good = true;
    text += "\nOver the second half, in an hour: ";
    for (column, bound, what) in STEADY {
        let slope = series.slope(column);
        let said = match series.len() < ENOUGH {
            true => "too short to tell",
            false if slope <= bound => "steady",
            false => "grows",
        };
        is_good &= said != "grows";
        let _ = write!(text, "{slope:+.1} {what} ({said}); ");
    }
    let connections = series.most("postgres_connections");
    let allowed = CONNECTIONS_PER_CORE * std::thread::available_parallelism().map_or(2, usize::from);
    is_good &= connections <= allowed as f64;
    let _ = write!(text, "at most {connections:.0} of {allowed} connections to Postgres; ");
    let errors = whole.errors();
    is_good &= errors == 0;
    let _ = writeln!(
        text,
        "{errors} errors{}.",
        if errors > 0 { format!(" ({})", whole.described()) } else { String::new() }
    );
    (text, is_good)
}

/// The last of what the broker warned of.
pub fn warnings(log: &str) -> String {
    let said: Vec<&str> =
        log.lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).collect();
    said[said.len().saturating_sub(20)..].join("\n")
}
