//! Logs and metrics. Nothing here knows what is logged; secrets never reach it.

use std::io::IsTerminal;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

use crate::config::Log;

/// Starts logging to standard error. A second call changes nothing.
pub fn logs(log: &Log) -> Result<(), String> {
    // The libraries below us print whole requests, headers and all, at `trace`: never let them.
    let quiet = [
        "hyper=info",
        "hyper_util=info",
        "h2=info",
        "rustls=info",
        "reqwest=info",
        "tower=info",
        "octocrab=info",
        "tokio_postgres=info",
        "actix_http=info",
        "actix_server=warn",
        "mio=info",
    ];
    let mut filter = EnvFilter::try_new(&log.level).map_err(|err| format!("LOG_LEVEL: {err}"))?;
    for directive in quiet {
        let named = directive.split('=').next().unwrap_or(directive);
        if !log.level.contains(named) || log.level.contains("trace") {
            filter = filter.add_directive(directive.parse().map_err(|err| format!("LOG_LEVEL: {err}"))?);
        }
    }
    let json = log.json.unwrap_or_else(|| !std::io::stderr().is_terminal());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let done = match json {
        true => registry
            .with(layer.json().flatten_event(true).with_current_span(true).with_span_list(false))
            .try_init(),
        false => registry.with(layer.with_ansi(std::io::stderr().is_terminal())).try_init(),
    };
    // Somebody (a test) has set one up already.
    drop(done);
    Ok(())
}

/// What `/metrics` prints; the recorder is installed at the first call.
pub fn metrics() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    const SECONDS: &[f64] =
        &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
    HANDLE
        .get_or_init(|| {
            PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
                .ok()?
                .install_recorder()
                .ok()
        })
        .as_ref()
}
