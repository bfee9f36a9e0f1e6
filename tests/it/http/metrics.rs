//! What Prometheus reads. The recorder is the process's, so other tests count in it as well.

use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::support::World;

async fn metrics(world: &World) -> String {
    let answer = world.call(Method::GET, "/metrics", "", &[], None).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").starts_with("text/plain"));
    answer.text
}

/// The value of one series; 0 if there is none.
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_decisions_github_pool_and_sweep_are_counted() {
    let world = World::new().await;
    let counters = [
        r#"http_requests_total{method="POST",route="/api/v1/runners/jit",status="201"}"#,
        r#"http_requests_total{method="POST",route="/api/v1/runners/jit",status="403"}"#,
        r#"http_requests_total{method="POST",route="/api/v1/runners/provision",status="201"}"#,
        r#"broker_decisions_total{method="jit",outcome="granted"}"#,
        r#"broker_decisions_total{method="jit",outcome="LABEL_POLICY_VIOLATION"}"#,
        r#"broker_decisions_total{method="registration_token",outcome="granted"}"#,
    ];
    let before = metrics(&world).await;
    assert_eq!(world.jit("b1").await.status, 201);
    let refused = json!({ "runner_name": "b2", "labels": ["gpu"] });
    assert_eq!(world.post("/api/v1/runners/jit", "blue", refused).await.status, 403);
    let registered = world.post("/api/v1/runners/provision", "blue", json!({ "runner_name": "b3" })).await;
    assert_eq!(registered.status, 201);
    world.sweep().await;
    let after = metrics(&world).await;
    for series in counters {
        assert!(value(&after, series) >= value(&before, series) + 1.0, "{series}\n{after}");
    }
    for name in [
        "http_request_duration_seconds_bucket",
        "github_requests_total",
        "github_request_duration_seconds_count",
        "github_rate_limit_remaining",
        "broker_pool_connections",
        "broker_pool_connections_idle",
        "broker_pool_waiting",
        "broker_sweeps_total",
        "broker_sweep_duration_seconds_count",
    ] {
        assert!(after.lines().any(|line| line.starts_with(name)), "{name}\n{after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_callers_invent_makes_no_series() {
    let world = World::new().await;
    let invented = Uuid::now_v7().simple().to_string();
    let method = Method::from_bytes(format!("M{invented}").as_bytes()).unwrap();
    let token = world.token("blue");
    for (method, path) in [
        (Method::GET, format!("/{invented}")),
        (Method::GET, format!("/api/v1/{invented}")),
        (Method::GET, format!("/api/v1/runners/{invented}")),
        (Method::POST, format!("/api/v1/runners/{invented}/{invented}")),
        (Method::GET, format!("/docs/{invented}")),
        (Method::PUT, format!("/api/v1/runners/{invented}")),
        (method, "/health".to_owned()),
    ] {
        assert!(world.call(method, &path, &token, &[], None).await.status >= 400);
    }
    let metrics = metrics(&world).await;
    assert!(!metrics.contains(&invented), "{metrics}");
    for series in [
        r#"http_requests_total{method="GET",route="/api/v1/runners/{id_or_name}",status="404"}"#,
        r#"http_requests_total{method="GET",route="unknown",status="404"}"#,
        r#"http_requests_total{method="other",route="/health",status="405"}"#,
    ] {
        assert!(value(&metrics, series) >= 1.0, "{series}\n{metrics}");
    }
}
