//! Traces, as a collector gets them over OTLP: one for a request, from its caller's to GitHub's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use runner_broker::dev::github::{Action, Fault};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::process::{Replica, Site, until};
use crate::support::answer;

/// The caller's own trace, and the span of his that asks us.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector that keeps all that it is sent.
#[derive(Clone, Default)]
struct Collector {
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Collector {
    async fn start() -> (Collector, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let collector = Collector::default();
        tokio::spawn({
            let collector = collector.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(collector.clone().serve(stream));
                }
            }
        });
        (collector, url)
    }

    /// One connection, any number of requests.
    async fn serve(self, mut stream: TcpStream) {
        let mut read = Vec::new();
        let mut chunk = vec![0; 65_536];
        loop {
            let whole = loop {
                let head = read.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
                let text = String::from_utf8_lossy(&read[..head.unwrap_or(0)]).to_ascii_lowercase();
                let length = text
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
                if let Some((head, length)) =
                    head.zip(length).filter(|(head, length)| read.len() >= head + length)
                {
                    assert!(text.starts_with("post /v1/traces "), "{text}");
                    assert!(text.contains("content-type: application/x-protobuf"), "{text}");
                    let rest = read.split_off(head + length);
                    let body = read.split_off(head);
                    read = rest;
                    break body;
                }
                match stream.read(&mut chunk).await {
                    Ok(0) | Err(_) => return,
                    Ok(length) => read.extend_from_slice(&chunk[..length]),
                }
            };
            self.requests.lock().expect("no panic").push(whole);
            let fine =
                b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
            if stream.write_all(fine).await.is_err() {
                return;
            }
        }
    }

    fn decoded(&self) -> Vec<ExportTraceServiceRequest> {
        let requests = self.requests.lock().expect("no panic");
        requests.iter().map(|body| ExportTraceServiceRequest::decode(&body[..]).expect("OTLP")).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let resources = self.decoded().into_iter().flat_map(|request| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    fn of_trace(&self, trace: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| hex::encode(&span.trace_id) == trace).collect()
    }

    /// The resource's attributes, as text.
    fn resource(&self) -> HashMap<String, String> {
        let resources = self.decoded().into_iter().flat_map(|request| request.resource_spans);
        resources
            .filter_map(|spans| spans.resource)
            .flat_map(|resource| resource.attributes)
            .filter_map(|attribute| match attribute.value?.value? {
                AnyValue::StringValue(text) => Some((attribute.key, text)),
                _ => None,
            })
            .collect()
    }
}

/// The names from a span up to the caller's own, which is the last one.
fn way_up(span: &Span, spans: &[Span]) -> Vec<String> {
    let mut names = vec![span.name.clone()];
    let mut at = span.clone();
    loop {
        match spans.iter().find(|other| other.span_id == at.parent_span_id) {
            Some(parent) => {
                names.push(parent.name.clone());
                at = parent.clone();
            }
            None => {
                names.push(hex::encode(&at.parent_span_id));
                return names;
            }
        }
    }
}

async fn ends(mut replica: Replica) {
    replica.signal(Signal::TERM);
    assert!(replica.ended(Duration::from_secs(30)).await.success(), "{}", replica.read_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_trace_from_its_caller_over_policy_and_sql_to_github() {
    let site = Site::new().await;
    let (collector, url) = Collector::start().await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*url),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        // Whatever arrives was sent at the end.
        ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
        ("LOG_LEVEL", "error"),
    ];
    let replica = site.serve_with(&variables).await;
    let header = format!("00-{TRACE}-{PARENT}-01");
    let asked =
        site.jit(&replica, "r1").header("traceparent", &header).header("tracestate", "vendor=private");
    let made = answer(asked).await;
    assert_eq!(made.status, 201, "{}", made.text);
    // A credential in an error of GitHub's must not get into a span either.
    let secret = made.body["encoded_jit_config"].as_str().expect("a credential").to_owned();
    let refusal = format!("cannot use {secret} here");
    let canned =
        runner_broker::dev::github::Canned::status(500).body(&json!({ "message": refusal }).to_string());
    site.github.fail(Fault::new("POST", "jitconfig", Action::Respond(canned)).times(2));
    assert!(answer(site.jit(&replica, "r2")).await.status >= 500);
    let calls = site.github.calls();
    ends(replica).await;

    let spans = collector.of_trace(TRACE);
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    let named = |name: &str| -> Vec<&Span> { spans.iter().filter(|span| span.name == name).collect() };
    let request = "POST /api/v1/runners/jit";
    for (name, up) in [
        (request, vec![request, PARENT]),
        ("policy", vec!["policy", request, PARENT]),
        ("decision", vec!["decision", "transaction", request, PARENT]),
    ] {
        let [one] = named(name)[..] else { panic!("{name}: {names:?}") };
        assert_eq!(way_up(one, &spans), up);
    }
    // The intent and the result.
    let transactions = named("transaction");
    assert!(transactions.len() >= 2, "{names:?}");
    let github: Vec<&Span> = named("GitHub");
    for span in transactions.iter().chain(&github) {
        assert_eq!(way_up(span, &spans)[1..], [request, PARENT]);
        assert_eq!(span.kind, 3, "a client's");
    }
    assert_eq!(named(request)[0].kind, 2, "a server's");
    // GitHub was told of the very span that asked it, and of nothing else.
    let posted = calls.iter().find(|call| call.path.ends_with("/generate-jitconfig")).expect("a call");
    let told = posted.traceparent.as_deref().expect("a header");
    let ours = github.iter().map(|span| format!("00-{TRACE}-{}-01", hex::encode(&span.span_id)));
    assert!(ours.into_iter().any(|header| header == told), "{told}");

    let resource = collector.resource();
    assert_eq!(resource.get("service.name").map(String::as_str), Some("runner-broker"));
    assert_eq!(resource.get("deployment.environment.name").map(String::as_str), Some("test"));
    // The other request has a trace of its own, and failed.
    let other = collector
        .spans()
        .into_iter()
        .find(|span| span.name == request && hex::encode(&span.trace_id) != TRACE);
    assert_eq!(other.expect("another trace").status.expect("a status").code, 2);

    let mut secrets = site.github.issued();
    secrets.extend(site.issuer.issued());
    secrets.push(crate::process::DATABASE_PASSWORD.to_owned());
    for body in collector.requests.lock().expect("no panic").iter() {
        let text = String::from_utf8_lossy(body);
        for secret in &secrets {
            let piece = &secret[..secret.len().min(40)];
            assert!(!text.contains(piece), "a secret in a span");
        }
        assert!(!text.contains("SELECT") && !text.contains("INSERT"), "a query in a span");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sampled_is_not_sent_and_a_collector_that_is_away_holds_nobody_up() {
    let site = Site::new().await;
    let (collector, url) = Collector::start().await;
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*url), ("OTEL_TRACES_SAMPLER", "always_off")];
    let replica = site.serve_with(&variables).await;
    assert_eq!(answer(site.jit(&replica, "r1")).await.status, 201);
    ends(replica).await;
    assert!(collector.spans().is_empty());

    let variables =
        [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let replica = site.serve_with(&variables).await;
    assert_eq!(answer(site.jit(&replica, "r2")).await.status, 201);
    until("it is told of", async || {
        replica.metric(&site.client, "broker_trace_batches_lost_total").await > Some(0.0)
            && replica.read_log().contains("could not be sent")
    })
    .await;
    ends(replica).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_nothing_is_started_and_a_protocol_that_is_not_spoken_is_refused() {
    let site = Site::new().await;
    let replica = site.serve_with(&[("OTEL_SERVICE_NAME", "ours")]).await;
    let asked = site.jit(&replica, "r1").header("traceparent", format!("00-{TRACE}-{PARENT}-01"));
    assert_eq!(answer(asked).await.status, 201);
    assert!(site.github.calls().iter().all(|call| call.traceparent.is_none()));
    assert!(!threads(&replica).iter().any(|name| name.contains("OpenTelemetry")), "{:?}", threads(&replica));
    let (_collector, url) = Collector::start().await;
    let traced = site.serve_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &*url)]).await;
    // So the look above can see it.
    assert!(!cfg!(target_os = "linux") || threads(&traced).iter().any(|name| name.contains("OpenTelemetry")));

    let mut command = site.command(&["serve"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &url).env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let ended = command.output().await.expect("the binary");
    assert_eq!(ended.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("OTEL_EXPORTER_OTLP_PROTOCOL"));
}

/// The names of a process's threads, as Linux tells.
fn threads(replica: &Replica) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", replica.pid()));
    tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .collect()
}
