//! A row of the series: what the broker's process holds, what Postgres says, what requests took meanwhile.

use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio_postgres::Client;

use crate::client::Load;
use crate::plot::Chart;
use crate::process;
use crate::site::{Cpu, Site};
use crate::streams::Streams;
use crate::tally::KINDS;
use crate::work::Work;

const OF_THE_PROCESS: [&str; 7] =
    ["memory_mb", "memory_peak_mb", "handles", "threads", "broker_cores", "postgres_cores", "load_cores"];
const OF_POSTGRES: [&str; 4] = ["postgres_connections", "database_mb", "live_runners", "events"];
const OF_THE_METRICS: [&str; 4] = ["seal_lag_s", "unsealed_events", "sweep_age_s", "webhook_backlog"];
const OF_THE_STREAMS: [&str; 3] = ["streams", "stream_events", "stream_silence_s"];

pub const CHARTS: [Chart; 8] = [
    Chart {
        title: "The broker's memory, MB",
        lines: &[("memory_mb", "resident"), ("memory_peak_mb", "peak")],
        logarithmic: false,
    },
    Chart {
        title: "Cores in use",
        lines: &[
            ("broker_cores", "broker"),
            ("postgres_cores", "Postgres"),
            ("load_cores", "GitHub and load"),
        ],
        logarithmic: false,
    },
    Chart {
        title: "Handles, threads, connections, streams",
        lines: &[
            ("handles", "open handles"),
            ("threads", "threads"),
            ("postgres_connections", "connections to Postgres"),
            ("streams", "streams"),
        ],
        logarithmic: false,
    },
    Chart {
        title: "Behind, seconds",
        lines: &[
            ("seal_lag_s", "sealing"),
            ("sweep_age_s", "last whole sweep"),
            ("stream_silence_s", "streams' silence"),
        ],
        logarithmic: false,
    },
    Chart {
        title: "p99 of each 10 s, ms (powers of ten)",
        lines: &[
            ("provision_p99_ms", "provision"),
            ("read_p99_ms", "read"),
            ("list_p99_ms", "list"),
            ("webhook_p99_ms", "webhook"),
            ("audit_p99_ms", "audit"),
            ("page_p99_ms", "page"),
        ],
        logarithmic: true,
    },
    Chart {
        title: "Median of each 10 s, ms (powers of ten)",
        lines: &[
            ("provision_p50_ms", "provision"),
            ("read_p50_ms", "read"),
            ("list_p50_ms", "list"),
            ("webhook_p50_ms", "webhook"),
            ("audit_p50_ms", "audit"),
            ("page_p50_ms", "page"),
        ],
        logarithmic: true,
    },
    Chart {
        title: "Live runners; the database's MB",
        lines: &[("live_runners", "live runners"), ("database_mb", "database")],
        logarithmic: false,
    },
    Chart {
        title: "The machine's load average; errors",
        lines: &[("machine_load", "load average"), ("errors", "errors in 10 s")],
        logarithmic: false,
    },
];

/// The columns after the time, in the order of `sample`.
pub fn columns() -> Vec<String> {
    let fixed = OF_THE_PROCESS.iter().chain(&OF_POSTGRES).chain(&OF_THE_METRICS).chain(&OF_THE_STREAMS);
    let of_kinds = KINDS.iter().flat_map(|kind| {
        ["count", "p50_ms", "p99_ms", "max_ms"].into_iter().map(move |what| format!("{kind}_{what}"))
    });
    fixed
        .map(|name| (*name).to_owned())
        .chain(of_kinds)
        .chain(["machine_load".into(), "errors".into()])
        .collect()
}

pub struct Sampler {
    client: Client,
    load: Load,
    cpu: Cpu,
    at: Instant,
}

impl Sampler {
    pub async fn new(site: &Site) -> Sampler {
        let load = Load { ports: vec![site.replicas[0].port], token: String::new() };
        Sampler { client: site.client("postgres").await, load, cpu: site.cpu(), at: Instant::now() }
    }

    /// A value for each column, and what errors there were.
    pub async fn sample(&mut self, work: &Work, streams: &Streams) -> (Vec<f64>, String) {
        let broker = work.site.replicas[0].id();
        let (cpu, now) = (work.site.cpu(), Instant::now());
        let (used, took) = (cpu.since(self.cpu), (now - self.at).as_secs_f64());
        (self.cpu, self.at) = (cpu, now);
        let [memory, peak, threads] =
            ["VmRSS", "VmHWM", "Threads"].map(|field| process::status(broker, field));
        let mut values = vec![
            memory / 1024.0,
            peak / 1024.0,
            process::handles(broker),
            threads,
            used.broker / took,
            used.postgres / took,
            (used.github + used.load) / took,
        ];
        values.extend(self.of_postgres().await);
        values.extend(self.of_the_metrics().await);
        values.push(streams.open.load(Ordering::Relaxed) as f64);
        values.push(streams.events.swap(0, Ordering::Relaxed) as f64);
        values.push(streams.silence.swap(0, Ordering::Relaxed) as f64 / 1000.0);
        let counted = work.tally.take();
        for kind in 0..KINDS.len() {
            values.push(counted.count(kind) as f64);
            values.extend([0.5, 0.99, 1.0].map(|q| counted.quantile(kind, q)));
        }
        values.push(process::machine_load());
        values.push(counted.errors() as f64);
        (values, counted.described())
    }

    async fn of_postgres(&self) -> [f64; OF_POSTGRES.len()] {
        let row = self
            .client
            .query_one(
                "SELECT (SELECT count(*) FROM pg_stat_activity
                            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid())::float8,
                        pg_database_size(current_database())::float8 / 1000000,
                        (SELECT count(*) FROM runners
                            WHERE status IN ('requested', 'pending', 'active', 'offline', 'deleting'))::float8,
                        (SELECT coalesce(max(id), 0) FROM audit_log)::float8",
                &[],
            )
            .await
            .expect("numbers");
        [0, 1, 2, 3].map(|column| row.get(column))
    }

    async fn of_the_metrics(&self) -> [f64; OF_THE_METRICS.len()] {
        let text = self.load.text("/metrics").await.unwrap_or_default();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or(f64::NAN)
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        [
            value("broker_audit_seal_lag_seconds"),
            value("broker_audit_unsealed_events"),
            now - value("broker_sweep_last_complete_timestamp_seconds"),
            value("webhook_backlog"),
        ]
    }
}
