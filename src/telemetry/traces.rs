//! Traces over OTLP, if OpenTelemetry's own variables name somewhere to send them; else nothing is started. A trace
//! consists of the request and the spans whose target is `SPANS`, so that nothing gets into one by accident.
//!
//! Exported are the span `request` and those with the target `trace` (`telemetry::SPANS`), which logs do not show;
//! without traces they are disabled. Begin one with `telemetry::step`, which leaves out what the broker does by
//! itself outside a sweep. OpenTelemetry's variables are read by its SDK, so `config` does not list them.

use std::env;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics::counter;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Status, TraceContextExt, TracerProvider};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
use tokio::runtime::Handle;
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::registry::LookupSpan;

/// The target of spans that are for traces alone: logs do not show them.
pub const SPANS: &str = "trace";
/// The span of a request, which logs show as well.
pub const REQUEST: &str = "request";

/// For one batch of spans.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// For what is left at the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// A collector that is away is told of so often.
const REMINDER: u64 = 60;

/// Whether anybody traces.
static ON: OnceLock<()> = OnceLock::new();

/// What sends the spans; to be finished at the end.
#[derive(Clone, Debug)]
pub struct Traces(SdkTracerProvider);

/// Starts sending, if the variables say where. Sampling, resource, batches, headers and endpoint are as OpenTelemetry
/// defines them (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>). Within a tokio
/// runtime only. The message says which variable is wrong.
pub fn start() -> Result<Option<Traces>, String> {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let endpoint = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let disabled = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let elsewhere = set("OTEL_TRACES_EXPORTER").is_some_and(|value| value != "otlp");
    if endpoint.is_none() || disabled || elsewhere {
        return Ok(None);
    }
    for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
        match set(name) {
            Some(other) if other != "http/protobuf" => {
                return Err(format!("{name}: found '{other}', wanted http/protobuf"));
            }
            _ => {}
        }
    }
    let client = reqwest::Client::builder()
        .timeout(EXPORT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|err| format!("OTEL_EXPORTER_OTLP_ENDPOINT: no HTTP client: {err}"))?;
    let courier =
        Courier { client, runtime: Handle::current(), told: AtomicU64::new(0), since: Instant::now() };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(courier)
        .build()
        .map_err(|err| format!("OTEL_EXPORTER_OTLP_ENDPOINT: {err}"))?;
    let named = set("OTEL_SERVICE_NAME").is_some()
        || set("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|value| value.contains("service.name="));
    let resource = match named {
        true => Resource::builder(),
        false => Resource::builder().with_service_name("runner-broker"),
    };
    let provider =
        SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    ON.get_or_init(|| ());
    Ok(Some(Traces(provider)))
}

impl Traces {
    /// Turns spans into those of the trace.
    pub(super) fn layer<S>(&self) -> OpenTelemetryLayer<S, Tracer>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_tracer(self.0.tracer("runner-broker"))
    }

    /// Sends what is left. Blocks, for some seconds if the collector is away.
    pub fn finish(&self) {
        if let Err(err) = self.0.shutdown_with_timeout(FAREWELL) {
            tracing::warn!(error = %err, "the last spans could not be sent");
        }
    }
}

/// Whether a span is part of a trace.
pub(super) fn is_traced(what: &Metadata<'_>) -> bool {
    what.is_span()
        && (what.target() == SPANS
            || (what.name() == REQUEST && what.target().starts_with("runner_broker::http")))
}

/// Before the span is entered: makes it part of the caller's trace, if its `traceparent` names one (W3C Trace Context).
pub fn continue_from(span: &Span, traceparent: Option<&str>, tracestate: Option<&str>) {
    if ON.get().is_none() {
        return;
    }
    span.record("otel.kind", "server");
    let carrier = Incoming { traceparent, tracestate };
    if traceparent.is_some() && span.set_parent(TraceContextPropagator::new().extract(&carrier)).is_err() {
        tracing::debug!("a request's span began before its parent was known");
    }
}

/// What became of a request: its pattern, not its path, and its status.
pub fn conclude(span: &Span, method: &'static str, route: &str, status: u16) {
    if ON.get().is_none() {
        return;
    }
    let context = span.context();
    context.span().update_name(format!("{method} {route}"));
    span.set_attribute("http.route", route.to_owned());
    span.set_attribute("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.set_status(Status::error(""));
    }
}

/// The `traceparent` for a call that is made now. The caller's `tracestate` is nobody else's business.
pub fn traceparent() -> Option<String> {
    ON.get()?;
    let context = Span::current().context();
    let span = context.span().span_context().clone();
    span.is_valid()
        .then(|| format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8() & 1))
}

struct Incoming<'a> {
    traceparent: Option<&'a str>,
    tracestate: Option<&'a str>,
}

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.traceparent,
            "tracestate" => self.tracestate,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// Carries batches to the collector over the HTTP client that all use, on the runtime that it needs: the sending
/// thread has none.
#[derive(Debug)]
struct Courier {
    client: reqwest::Client,
    runtime: Handle,
    /// When a failure was last told of, in seconds after `since`, plus one.
    told: AtomicU64,
    since: Instant,
}

impl Courier {
    fn failed(&self, why: &str) {
        counter!("broker_trace_batches_lost_total").increment(1);
        let now = self.since.elapsed().as_secs() + 1;
        let told = self.told.load(Ordering::Relaxed);
        if told == 0 || now >= told + REMINDER {
            self.told.store(now, Ordering::Relaxed);
            tracing::warn!(why, "spans could not be sent to the collector");
        }
    }
}

impl HttpClient for Courier {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let client = self.client.clone();
            let sent = self.runtime.spawn(async move {
                let (head, body) = request.into_parts();
                let request =
                    client.request(head.method, head.uri.to_string()).headers(head.headers).body(body);
                let answer = request.send().await?;
                let status = answer.status();
                Ok::<_, reqwest::Error>((status, answer.bytes().await?))
            });
            let result: Result<_, HttpError> = match sent.await {
                Ok(Ok(answer)) => Ok(answer),
                // The URL may hold a key.
                Ok(Err(err)) => Err(err.without_url().into()),
                Err(err) => Err(err.into()),
            };
            match &result {
                Ok((status, _)) if !status.is_success() => self.failed(status.as_str()),
                Ok(_) => {}
                Err(err) => self.failed(&err.to_string()),
            }
            let (status, body) = result?;
            Ok(Response::builder().status(status).body(body)?)
        })
    }
}
