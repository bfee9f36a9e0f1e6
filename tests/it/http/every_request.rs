//! What every request gets, whatever it asks for: ids, addresses, methods, unknown places, headers.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Answer, World, eventually};

async fn call(world: &World, method: Method, path: &str) -> Answer {
    world.call(method, path, &world.token("blue"), &[], None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_a_problem_in_and_out_of_the_api() {
    let world = World::new().await;
    for path in
        ["/nothing", "/api", "/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v1/runners/b1/no", "/healthy"]
    {
        let answer = call(&world, Method::GET, path).await;
        assert_eq!(answer.refusal(), (404, "NOT_FOUND"), "{path}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.body["status"], 404);
        assert_eq!(answer.str("type"), "about:blank");
        assert!(answer.str("detail").contains(path));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_does_not_learn_what_the_api_has() {
    let world = World::new().await;
    for (method, path) in [
        (Method::GET, "/api/v1/nothing"),
        (Method::PUT, "/api/v1/runners"),
        (Method::OPTIONS, "/api/v1/runners"),
    ] {
        let answer = world.call(method, path, "", &[], None).await;
        assert_eq!(answer.refusal(), (401, "MISSING_TOKEN"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_is_told_the_right_ones() {
    let world = World::new().await;
    let cases = [
        (Method::PUT, "/api/v1/runners", "GET, HEAD, OPTIONS, POST"),
        // Also the name of a runner.
        (Method::PUT, "/api/v1/runners/jit", "DELETE, GET, HEAD, OPTIONS, POST"),
        (Method::PATCH, "/api/v1/runners/b1", "DELETE, GET, HEAD, OPTIONS"),
        (Method::GET, "/api/v1/runners/b1/refresh", "OPTIONS, POST"),
        (Method::POST, "/health", "GET, HEAD, OPTIONS"),
        (Method::DELETE, "/metrics", "GET, HEAD, OPTIONS"),
        (Method::POST, "/openapi.json", "GET, HEAD, OPTIONS"),
        (Method::POST, "/policy.schema.json", "GET, HEAD, OPTIONS"),
        (Method::POST, "/docs/", "GET, HEAD, OPTIONS"),
        (Method::from_bytes(b"BREW").unwrap(), "/health", "GET, HEAD, OPTIONS"),
    ];
    for (method, path, allowed) in cases {
        let answer = call(&world, method.clone(), path).await;
        assert_eq!(answer.refusal(), (405, "METHOD_NOT_ALLOWED"), "{method} {path}: {}", answer.text);
        assert_eq!(answer.header("allow"), allowed, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_without_its_last_part_is_not_there() {
    let world = World::new().await;
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(call(&world, method, "/api/v1/runners/").await.refusal(), (404, "NOT_FOUND"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_says_what_is_possible() {
    let world = World::new().await;
    let answer = call(&world, Method::OPTIONS, "/api/v1/runners/b1").await;
    assert_eq!((answer.status, answer.header("allow")), (204, "DELETE, GET, HEAD, OPTIONS"));
    assert_eq!(call(&world, Method::OPTIONS, "/nothing").await.refusal(), (404, "NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_get_without_the_body() {
    let world = World::new().await;
    for path in ["/health", "/api/v1/runners", "/openapi.json"] {
        let (get, head) = (call(&world, Method::GET, path).await, call(&world, Method::HEAD, path).await);
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"));
        assert_eq!(head.header("content-length"), get.text.len().to_string());
    }
    assert_eq!(call(&world, Method::HEAD, "/api/v1/runners/b1/refresh").await.status, 405);
    assert_eq!(world.call(Method::HEAD, "/api/v1/runners", "", &[], None).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_a_request_is_ours_and_the_callers_stands_beside_it() {
    let world = World::new().await;
    let refused = json!({ "runner_name": "b1", "labels": ["gpu"] });
    let own = [("x-request-id", "build_7.step-3")];
    let token = world.token("blue");
    let answer = world.call(Method::POST, "/api/v1/runners/jit", &token, &own, Some(refused)).await;
    assert_eq!(answer.status, 403);
    assert!(Uuid::try_parse(answer.str("request_id")).is_ok());
    assert_eq!(answer.header("x-request-id"), answer.str("request_id"));
    let event = world.log("event_type = 'provision_refused'").await.remove(0);
    assert_eq!(event["request_id"], answer.str("request_id"));
    assert_eq!(event["event_data"]["client_request_id"], own[0].1);
    let again = world.get("/api/v1/runners/nothing", "blue").await;
    assert_ne!(again.str("request_id"), answer.str("request_id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_requests_have_two_ids_whatever_they_bring() {
    let world = World::new().await;
    let mut ids = BTreeSet::new();
    for own in ["", "mine", "mine", &"x".repeat(200), "é"] {
        let answer = world.call(Method::GET, "/nothing", "", &[("x-request-id", own)], None).await;
        let id = answer.header("x-request-id").to_owned();
        assert!(Uuid::try_parse(&id).is_ok() && answer.str("request_id") == id, "{own}: {id}");
        ids.insert(id);
    }
    assert_eq!(ids.len(), 5);
    assert!(!call(&world, Method::GET, "/health").await.header("x-request-id").is_empty());
}

/// The address and the user agent that the log has for a provision with these headers.
async fn logged(trusted: &str, headers: &[(&str, &str)]) -> (String, String) {
    let trusted = trusted.split(',').filter(|net| !net.is_empty()).map(|net| net.parse().unwrap()).collect();
    let world = World::with(|config| config.http.trusted_proxies = trusted).await;
    let body = Some(json!({ "runner_name": "b1" }));
    let answer = world.call(Method::POST, "/api/v1/runners/jit", &world.token("blue"), headers, body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let query = |column| format!("SELECT {column} FROM audit_log WHERE event_type = 'provisioned'");
    (world.sql(&query("request_ip")).await.remove(0), world.sql(&query("user_agent")).await.remove(0))
}

async fn address(trusted: &str, forwarded: &str) -> String {
    logged(trusted, &[("x-forwarded-for", forwarded)]).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_address_is_believed_only_from_a_trusted_proxy() {
    assert_eq!(address("", "203.0.113.7").await, "127.0.0.1");
    assert_eq!(address("10.0.0.0/8", "203.0.113.7").await, "127.0.0.1");
    assert_eq!(address("127.0.0.0/8", "203.0.113.7").await, "203.0.113.7");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_addresses_the_last_that_is_no_proxy_counts() {
    // The client may have written the first ones itself.
    assert_eq!(address("127.0.0.0/8", "198.51.100.1, 203.0.113.7").await, "203.0.113.7");
    assert_eq!(address("127.0.0.0/8,10.0.0.0/8", "203.0.113.7, 10.1.1.1").await, "203.0.113.7");
    assert_eq!(address("127.0.0.0/8,10.0.0.0/8", "203.0.113.7, who knows, 10.1.1.1").await, "10.1.1.1");
    assert_eq!(address("127.0.0.0/8", "203.0.113.7:4711").await, "203.0.113.7");
    assert_eq!(address("127.0.0.0/8", "[2001:db8::7]:4711").await, "2001:db8::7");
    assert_eq!(address("127.0.0.0/8", "::ffff:203.0.113.7").await, "203.0.113.7");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_the_user_agent_without_control_characters() {
    assert_eq!(logged("", &[("user-agent", "curl/8\t(x)")]).await.1, "curl/8(x)");
    assert_eq!(logged("", &[("user-agent", &"a".repeat(1000))]).await.1.len(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_a_secret_is_not_to_be_stored() {
    let world = World::new().await;
    let named = |name: &str| json!({ "runner_name": name });
    let jit = world.post("/api/v1/runners/jit", "blue", named("b1")).await;
    let registered = world.post("/api/v1/runners/provision", "blue", named("b2")).await;
    let remove =
        world.call(Method::POST, "/api/v1/runners/b2/remove-token", &world.token("blue"), &[], None).await;
    for answer in [jit, registered, remove] {
        assert_eq!((answer.status, answer.header("cache-control")), (201, "no-store"), "{}", answer.text);
        assert!(answer.header("location").starts_with("/api/v1/runners/"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_runner_can_have_is_not_found() {
    let world = World::new().await;
    for name in ["%00", "a%00b", "%FF", "a%2Fb", "%20", &"n".repeat(3000)] {
        let answer = call(&world, Method::GET, &format!("/api/v1/runners/{name}")).await;
        assert_eq!(answer.refusal(), (404, "RUNNER_NOT_FOUND"), "{name:.20}: {}", answer.text);
        let answer = call(&world, Method::DELETE, &format!("/api/v1/runners/{name}")).await;
        assert_eq!(answer.refusal(), (404, "RUNNER_NOT_FOUND"), "{name:.20}: {}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_load_nothing_from_elsewhere() {
    let world = World::new().await;
    let page = call(&world, Method::GET, "/docs").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("swagger-ui"), "{}", page.text);
    assert!(page.header("content-security-policy").starts_with("default-src 'self'"));
    let parts: Vec<&str> =
        page.text.split(['"', '\'']).filter(|part| part.ends_with(".js") || part.ends_with(".css")).collect();
    assert!(parts.len() >= 3, "{parts:?}");
    for part in parts {
        assert!(!part.contains("//"), "{part}");
        let path = format!("/docs/{}", part.trim_start_matches("./"));
        let loaded = call(&world, Method::GET, &path).await;
        assert_eq!(loaded.status, 200, "{path}");
        if path.contains("initializer") {
            assert!(
                loaded.text.contains("/openapi.json") && loaded.text.contains(r#""validatorUrl": "none""#),
                "{}",
                loaded.text
            );
        }
    }
    let nothing = call(&world, Method::GET, "/docs/nothing.js").await;
    assert_eq!(
        (nothing.refusal(), nothing.header("content-type")),
        ((404, "NOT_FOUND"), "application/problem+json")
    );
    assert_eq!(nothing.str("request_id"), nothing.header("x-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_hangs_up_cancels_nothing() {
    let world = World::new().await;
    world.github.set_latency(std::time::Duration::from_millis(300));
    let request = world.client().post(format!("{}/api/v1/runners/jit", world.url));
    let request = request.bearer_auth(world.token("blue")).json(&json!({ "runner_name": "b1" }));
    let hasty = request.timeout(std::time::Duration::from_millis(100)).send().await;
    assert!(hasty.is_err());
    eventually("the provision", async || world.status("b1").await == "pending").await;
    assert_eq!(
        world.get("/api/v1/runners/b1", "blue").await.body["events"][0]["event_type"],
        Value::from("provisioned")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_hides_plain_characters_is_no_path() {
    let world = World::new().await;
    for path in ["/%6detrics", "/metric%73", "/%6D%65trics", "/health%2flive", "/openapi%2ejson"] {
        let answer = call(&world, Method::GET, path).await;
        assert_eq!(answer.refusal(), (404, "NOT_FOUND"), "{path}");
    }
    let hidden = world.get("/api/v1/%72unners", "blue").await;
    assert_eq!(hidden.status, 404);
    let spaced = world.get("/api/v1/runners/a%20b", "blue").await;
    assert_eq!(spaced.refusal(), (404, "RUNNER_NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_keeps_to_itself_and_https_stays_https() {
    let plain = World::new().await;
    let secure = World::with(|config| {
        config.http.public_url = "https://broker.example.com/".parse().unwrap();
    })
    .await;
    for path in ["/health", "/nothing", "/sign-in", "/api/v1/runners", "/docs/", "/openapi.json"] {
        let answer = call(&secure, Method::GET, path).await;
        assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin", "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{path}");
        assert!(answer.header("permissions-policy").contains("camera=()"), "{path}");
        assert_eq!(answer.header("strict-transport-security"), "max-age=31536000", "{path}");
        assert_eq!(call(&plain, Method::GET, path).await.header("strict-transport-security"), "", "{path}");
    }
}
