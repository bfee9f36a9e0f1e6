//! What is tried again, as one request, and what is not.

use tokio::net::TcpListener;

use super::between::{Act, Between};
use super::{Running, as_blue, assert_no_secret, command, request};
use crate::support::World;

const NAMED: &[&str] = &["jit", "--name", "a1"];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_on_the_way_one_runner_is_left() {
    let world = World::new().await;
    let acts = || {
        vec![
            Act::Drop,
            Act::PassThenDrop,
            Act::problem(503, "GITHUB_UNAVAILABLE", "retry-after: 0\r\n"),
            Act::Answer(502, "content-type: text/html\r\n", "<h1>Bad Gateway</h1>".into()),
            Act::Answer(200, "content-length: 5000\r\n", String::new()),
            Act::problem(429, "RATE_LIMITED", "retry-after: 0\r\n"),
        ]
    };
    let between = Between::start(&world.url, acts()).await;
    let ended = as_blue(&world, &between.url, NAMED).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let seen = between.seen();
    assert!(seen.len() == 7 && seen.iter().all(|other| other.key == seen[0].key), "{seen:?}");
    assert_eq!(ended.err.matches("; trying again in ").count(), 6, "{}", ended.err);
    assert!(ended.err.contains("told to (503 GITHUB_UNAVAILABLE); trying again"), "{}", ended.err);
    assert_no_secret(&world, &ended.err);

    assert_eq!(world.on_github(), ["a1"]);
    // The one that was printed is the one that is there.
    let made: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(world.github.connect_jit(made["encoded_jit_config"].as_str().unwrap()).unwrap(), "a1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_still_under_way_is_waited_for() {
    let world = World::with(|config| config.github.timeout = std::time::Duration::from_secs(1)).await;
    world.github.set_latency(std::time::Duration::from_millis(400));
    let between = Between::start(&world.url, vec![Act::Abandon]).await;
    let ended = as_blue(&world, &between.url, NAMED).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(world.on_github(), ["a1"]);
    assert_eq!(world.log("event_type = 'provisioned' AND runner_name = 'a1'").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_up_yet_is_waited_for() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (url, token) = (format!("http://{address}"), world.token("blue"));
    let environment = [("RUNNER_BROKER_URL", url.as_str()), ("RUNNER_BROKER_TOKEN", &token)];
    let mut running = Running::start(command(NAMED, &environment));
    running.says("trying again in").await;
    let _between = Between::on(TcpListener::bind(address).await.unwrap(), &world.url, vec![]);
    let ended = running.end().await;
    assert!(ended.code == 0 && ended.err.contains("refused"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_an_end_to_trying() {
    let ended =
        request(&[NAMED, &["--url", "http://127.0.0.1:1", "--token", "t", "--timeout", "1"]].concat(), &[])
            .await;
    assert!(ended.code == 1 && ended.err.contains("gave up after"), "{}", ended.err);
    // Whoever never answers, too.
    let hanging = Between::start("", vec![Act::Hang]).await;
    let args = [NAMED, &["--url", &hanging.url, "--token", "t", "--timeout", "1s"]].concat();
    let ended = request(&args, &[]).await;
    assert!(ended.code == 1 && ended.err.contains("no answer"), "{}", ended.err);
    // What takes longer than there is time for is not waited for at all.
    let limited =
        Between::start("", vec![Act::problem(503, "GITHUB_RATE_LIMITED", "retry-after: 3000\r\n")]).await;
    let begun = tokio::time::Instant::now();
    let ended = request(&[NAMED, &["--url", &limited.url, "--token", "t"]].concat(), &[]).await;
    assert!(begun.elapsed().as_secs() < 60);
    assert!(ended.code == 1 && ended.err.contains("GITHUB_RATE_LIMITED"), "{}", ended.err);
    assert!(ended.err.contains("it wants 50 min to pass first"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waiting_does_not_change_is_not_tried_again() {
    for (status, code) in [
        (400, "INVALID_REQUEST"),
        (401, "INVALID_TOKEN"),
        (403, "QUOTA_EXCEEDED"),
        (409, "RUNNER_NAME_TAKEN"),
        (409, "IDEMPOTENCY_KEY_SPENT"),
        (422, "TEAM_REQUIRED"),
        (500, "INTERNAL"),
        (502, "GITHUB_REFUSED"),
        (502, "GITHUB_PERMISSION_MISSING"),
    ] {
        let between = Between::start("", vec![Act::problem(status, code, "")]).await;
        let ended = request(&[NAMED, &["--url", &between.url, "--token", "t"]].concat(), &[]).await;
        assert!(ended.code == 1 && ended.err.contains(code), "{}", ended.err);
        assert_eq!(between.seen().len(), 1, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_given_key_replaces_the_runner_that_has_not_started_and_is_spent_with_it() {
    let world = World::new().await;
    let args = ["jit", "--name-prefix", "a", "--idempotency-key", "job-1"];
    let ask = async || as_blue(&world, &world.url, &args).await;
    let (first, second) = (ask().await, ask().await);
    let made = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(made(&first.out)["runner_id"], made(&second.out)["runner_id"]);
    assert_eq!(world.on_github().len(), 1);
    world.github.connect_jit(made(&second.out)["encoded_jit_config"].as_str().unwrap()).unwrap();
    world.sweep().await;
    let spent = ask().await;
    assert!(spent.code == 1 && spent.err.contains("use a new key"), "{}", spent.err);
    assert!(spent.err.contains("409 IDEMPOTENCY_KEY_SPENT"), "{}", spent.err);
    // Without a key each call is its own.
    let other = as_blue(&world, &world.url, &args[..3]).await;
    assert!(other.code == 0 && world.on_github().len() == 2, "{}", other.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_a_ci_job_that_is_repeated_replaces_its_runner_and_another_job_does_not() {
    let world = World::new().await;
    let token = world.token("blue");
    let job = |tracking: &'static str| {
        [
            ("RUNNER_BROKER_TOKEN", token.clone()),
            ("RUNNER_BROKER_URL", world.url.clone()),
            ("GITHUB_ACTIONS", "true".into()),
            ("GITHUB_RUN_ID", "4711".into()),
            ("GITHUB_RUN_ATTEMPT", "1".into()),
            ("GITHUB_JOB", "build".into()),
            ("RUNNER_TRACKING_ID", tracking.into()),
        ]
    };
    let ask = async |tracking: &'static str| {
        let job = job(tracking);
        let environment: Vec<(&str, &str)> =
            job.iter().map(|(name, value)| (*name, value.as_str())).collect();
        request(NAMED, &environment).await
    };
    assert_eq!(ask("github_1").await.code, 0);
    let again = ask("github_1").await;
    assert_eq!(again.code, 0, "{}", again.err);
    assert_eq!(world.on_github(), ["a1"]);
    // A job of the same matrix that wants the same name.
    let other = ask("github_2").await;
    assert!(other.code == 1 && other.err.contains("409 RUNNER_NAME_TAKEN"), "{}", other.err);
    assert_eq!(world.on_github(), ["a1"]);
    // Once it has had its job, the same step gets a new one.
    let made: serde_json::Value = serde_json::from_str(&again.out).unwrap();
    world.github.connect_jit(made["encoded_jit_config"].as_str().unwrap()).unwrap();
    world.github.start_job("octo-org", "a1").unwrap();
    world.github.finish_job("octo-org", "a1").unwrap();
    world.post("/api/v1/runners/a1/refresh", "blue", serde_json::json!({})).await;
    let new = ask("github_1").await;
    assert!(new.code == 0 && new.err.contains("has started already"), "{}", new.err);
    assert_eq!(world.on_github(), ["a1"]);
}
