//! Logs, metrics and traces. Nothing here knows what is logged; secrets never reach it.

pub mod traces;

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::{Level, Span};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload;

use crate::config::Log;
use crate::visible::visible;
pub use traces::{SPANS, Traces};

const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts logging to standard error. A second call changes nothing.
pub fn logs(log: &Log) {
    logs_and_traces(log, None);
}

/// As `logs`, and sends spans to the collector of traces.
pub fn logs_and_traces(log: &Log, traces: Option<&Traces>) {
    // Below `info` the libraries print whole requests, headers and all, whatever `LOG_LEVEL` says.
    let ours = filter_fn(|what| {
        what.target() != traces::SPANS
            && (*what.level() <= Level::INFO || what.target().starts_with("runner_broker"))
    });
    let sent = traces.map(|traces| traces.layer().with_filter(filter_fn(traces::is_traced)));
    let terminal = std::io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer().with_writer(|| Visible).with_ansi(terminal);
    let layer = match log.json.unwrap_or(!terminal) {
        true => layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
        false => layer.boxed(),
    };
    let (level, handle) = reload::Layer::new(EnvFilter::new(&log.level));
    // Refused if there is one already, as in a test.
    if tracing_subscriber::registry().with(sent).with(layer.with_filter(level.and(ours))).try_init().is_ok() {
        // No library's detail is wanted, so none should be put together only to be dropped.
        log::set_max_level(log::LevelFilter::Info);
        let change = move |filter| handle.reload(filter).map_err(|err| err.to_string());
        drop(LEVEL.set((Mutex::new(log.level.clone()), Box::new(change))));
    }
}

/// Standard error. What callers chose may be in a line, and people must see all of it.
struct Visible;

impl Write for Visible {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Colours begin with an escape; tracing lets none of what is quoted through.
        let line = String::from_utf8_lossy(bytes);
        let parts: Vec<_> = line.split('\u{1b}').map(visible).collect();
        std::io::stderr().write_all(parts.join("\u{1b}").as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// A span within a trace. What the broker does by itself and nobody traces begins none.
pub fn step(span: impl FnOnce() -> Span) -> Span {
    match Span::current().is_none() {
        true => Span::none(),
        false => span(),
    }
}

type Change = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// What is logged now, and how to change that.
static LEVEL: OnceLock<(Mutex<String>, Change)> = OnceLock::new();

/// Logs by these directives from now on; `false`: it does already.
pub fn set_level(level: &str) -> Result<bool, String> {
    let Some((current, change)) = LEVEL.get() else { return Ok(false) };
    let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
    if *current == level {
        return Ok(false);
    }
    change(EnvFilter::new(level))?;
    *current = level.to_owned();
    Ok(true)
}

/// What `/metrics` prints; the recorder is installed at the first call.
pub fn metrics() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    const SECONDS: &[f64] =
        &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
    let install = || {
        let builder =
            PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS);
        let handle = builder.ok()?.install_recorder().ok()?;
        let kept = handle.clone();
        // What is measured piles up until it is sorted into its buckets, which else only `/metrics` does.
        let upkeep = move || {
            loop {
                std::thread::sleep(UPKEEP_INTERVAL);
                kept.run_upkeep();
            }
        };
        std::thread::Builder::new().name("metrics".into()).spawn(upkeep).ok()?;
        Some(handle)
    };
    HANDLE.get_or_init(install).as_ref()
}
