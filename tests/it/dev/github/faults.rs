//! Every way to fail, seen by a client that sees every byte.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use runner_broker::dev::github::{Action, Canned, Fault, GitHub, Limits, Settings};
use serde_json::{Value, json};

use super::client::World;

const JIT: &str = "/orgs/octo-org/actions/runners/generate-jitconfig";

fn failing(action: Action) -> (World, String) {
    let world = World::new();
    let token = world.token(Value::Null);
    world.github.fail(Fault::new("POST", "generate-jitconfig", action));
    (world, token)
}

fn ask() -> Value {
    json!({ "name": "a", "runner_group_id": 1, "labels": ["x"] })
}

impl World {
    fn exists(&self) -> bool {
        self.github.runner("octo-org", "a").is_some()
    }
}

#[test]
fn a_502_before_the_act_leaves_nothing() {
    let (world, token) = failing(Action::Respond(Canned::status(502).header("x-why", "test")));
    let answer = world.ask("POST", JIT, &token, ask());
    assert_eq!((answer.status, answer.header("x-why"), world.exists()), (502, Some("test"), false));
    assert_eq!(world.jit(&token, "a").status, 201, "a fault strikes once");
}

#[test]
fn a_502_after_the_act_leaves_a_runner() {
    let (world, token) = failing(Action::ActThenRespond(Canned::status(502)));
    assert_eq!((world.ask("POST", JIT, &token, ask()).status, world.exists()), (502, true));
}

#[test]
fn a_runner_can_appear_after_the_502() {
    let (world, token) = failing(Action::RespondThenAct { answer: Canned::status(504), millis: 150 });
    assert_eq!((world.ask("POST", JIT, &token, ask()).status, world.exists()), (504, false));
    let start = Instant::now();
    while !world.exists() {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_dropped_connection_gives_no_byte() {
    let (world, token) = failing(Action::Drop);
    assert_eq!(world.bytes("POST", JIT, &token, ask(), ""), b"");
    assert!(!world.exists());
    assert_eq!(world.github.calls().last().unwrap().status, None);
    let (world, token) = failing(Action::ActThenDrop);
    assert_eq!(world.bytes("POST", JIT, &token, ask(), ""), b"");
    assert!(world.exists());
}

#[test]
fn half_an_answer_promises_the_whole() {
    let (world, token) = failing(Action::Truncate);
    let bytes = world.bytes("POST", JIT, &token, ask(), "");
    let text = String::from_utf8(bytes).unwrap().to_lowercase();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("http/1.1 201"), "{head}");
    let promised = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(body.len(), promised.parse::<usize>().unwrap() / 2);
    assert!(world.exists());
}

#[test]
fn a_page_for_people_comes_with_any_status() {
    for status in [200, 502] {
        let (world, token) = failing(Action::Html { status });
        let answer = world.unchecked("POST", JIT, &token, ask(), "");
        assert_eq!(
            (answer.status, answer.header("content-type").unwrap()),
            (status, "text/html; charset=utf-8")
        );
        assert!(answer.raw.starts_with(b"<!DOCTYPE html>") && !world.exists());
    }
}

#[test]
fn an_answer_can_be_late_before_and_after_the_act() {
    for (action, acted) in
        [(Action::Delay { millis: 400 }, false), (Action::ActThenDelay { millis: 400 }, true)]
    {
        let (world, token) = failing(action);
        let start = Instant::now();
        let mut stream = world.send("POST", JIT, &token, ask(), "Connection: close\r\n");
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(world.exists(), acted);
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 201") && start.elapsed() >= Duration::from_millis(400));
        assert!(world.exists());
    }
}

#[test]
fn a_call_can_hang_until_the_client_gives_up() {
    let (world, token) = failing(Action::Hang);
    let mut stream = world.send("POST", JIT, &token, ask(), "");
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let gave_up = stream.read(&mut [0; 1]).unwrap_err().kind();
    assert!(matches!(gave_up, ErrorKind::WouldBlock | ErrorKind::TimedOut));
    assert!(!world.exists());
    world.github.set_limits(Some(Limits { concurrent: 1, ..Limits::default() }));
    assert_eq!(world.get("/orgs/octo-org/actions/runners", &token).status, 429, "it is under way");
    drop(stream);
    while world.get("/orgs/octo-org/actions/runners", &token).status == 429 {
        std::thread::sleep(Duration::from_millis(10));
    }
    world.github.fail(Fault::new("POST", JIT, Action::Hang));
    let _hanging = world.send("POST", JIT, &token, ask(), "");
    std::thread::sleep(Duration::from_millis(50));
    let start = Instant::now();
    drop(world);
    assert!(start.elapsed() < Duration::from_secs(2), "a hanging call holds nobody up");
}

#[test]
fn a_fresh_token_can_be_refused_for_its_first_uses() {
    for (status, message) in [(401, "Bad credentials"), (403, "Resource not accessible by integration")] {
        let world = World::new();
        world.github.fail(Fault::new("POST", "access_tokens", Action::RefuseFreshToken { status, uses: 2 }));
        let token = world.token(Value::Null);
        for _ in 0..2 {
            let refused = world.jit(&token, "a");
            assert_eq!((refused.status, refused.message()), (status, message));
        }
        assert_eq!(world.jit(&token, "a").status, 201);
    }
}

#[test]
fn a_fault_waits_for_its_call() {
    let world = World::new();
    let token = world.token(Value::Null);
    let fault = Fault::new("get", "?name=x", Action::Respond(Canned::status(500)));
    world.github.fail(fault.skip(1).times(2));
    let get = |path: &str| world.get(&format!("/orgs/octo-org/actions/runners{path}"), &token).status;
    assert_eq!(get(""), 200, "another path");
    assert_eq!([get("?name=x"), get("?name=x"), get("?name=x"), get("?name=x")], [200, 500, 500, 200]);
    world.github.fail(Fault::everywhere(Action::Drop));
    for _ in 0..3 {
        assert_eq!(world.bytes("GET", "/app", &world.jwt(), Value::Null, ""), b"");
    }
    world.github.clear_faults();
    assert_eq!(get(""), 200);
}

#[test]
fn every_call_takes_the_latency() {
    let world = World::new();
    let token = world.token(Value::Null);
    world.github.set_latency(Duration::from_millis(120));
    let start = Instant::now();
    world.jit(&token, "a");
    assert!(start.elapsed() >= Duration::from_millis(120));
}

#[test]
fn a_call_without_user_agent_is_turned_away() {
    use std::io::Write;
    let world = World::new();
    let mut stream = std::net::TcpStream::connect(&world.github.url()["http://".len()..]).unwrap();
    write!(stream, "GET /rate_limit HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 403"), "{text}");
}

#[test]
fn calls_are_recorded_unless_told_otherwise() {
    let world = World::new();
    let token = world.token(Value::Null);
    world.github.clear_calls();
    world.jit(&token, "a");
    world.get("/api/v3/orgs/octo-org/actions/runners?name=a", &token);
    let calls = world.github.calls();
    assert_eq!((calls[0].method.as_str(), calls[0].path.as_str(), calls[0].status), ("POST", JIT, Some(201)));
    assert_eq!(calls[0].resource, "actions_runner_registration");
    assert_eq!(calls[1].path, "/orgs/octo-org/actions/runners?name=a");
    let silent = World::with(Settings { record_calls: false, ..Settings::default() });
    silent.token(Value::Null);
    assert!(silent.github.calls().is_empty() && silent.github.issued().is_empty());
}

#[test]
fn two_live_side_by_side_and_each_ends_when_dropped() {
    let (one, other) = (World::new(), World::new());
    assert_ne!(one.github.url(), other.github.url());
    let url = one.github.url().trim_start_matches("http://").to_owned();
    let kept = std::net::TcpStream::connect(&url).unwrap();
    drop(one);
    assert!(std::net::TcpStream::connect(&url).is_err());
    drop(kept);
    assert_eq!(other.get("/app", &other.jwt()).status, 200);
    let port = other.github.url().rsplit(':').next().unwrap().parse().unwrap();
    assert!(GitHub::start(Settings { port, ..Settings::default() }).is_err(), "the port is taken");
}

#[test]
fn another_process_leads_a_runners_life_over_http() {
    let world = World::new();
    let token = world.token(Value::Null);
    let dev = |method: &str, path: &str, body: Value| {
        world.unchecked(method, &format!("/_dev{path}"), "", body, "")
    };
    let made = world.jit(&token, "a");
    let config = json!({ "encoded_jit_config": made.body["encoded_jit_config"] });
    assert_eq!(dev("POST", "/jit", config).body["name"], "a");
    let named = json!({ "target": "octo-org", "name": "a" });
    assert_eq!(dev("POST", "/start-job", named.clone()).status, 204);
    let listed = dev("GET", "/runners?target=octo-org", Value::Null).body;
    assert_eq!((&listed[0]["busy"], &listed[0]["online"]), (&json!(true), &json!(true)));
    assert_eq!(dev("POST", "/disconnect", named.clone()).status, 204);
    assert_eq!(dev("POST", "/connect", named.clone()).status, 204);
    assert_eq!(dev("POST", "/finish-job", named.clone()).status, 204);
    assert_eq!(dev("POST", "/remove", named).status, 404);

    let key = world.ask("POST", "/orgs/octo-org/actions/runners/registration-token", &token, Value::Null);
    let ask = json!({ "target": "octo-org", "name": "b", "labels": ["x"], "token": key.body["token"] });
    assert_eq!(dev("POST", "/register", ask).status, 201);

    let fault = json!({ "method": "GET", "path": "runners", "action": { "respond": { "status": 500 } } });
    assert_eq!(dev("POST", "/faults", fault).status, 204);
    assert_eq!(dev("POST", "/faults", json!({ "path": "runners", "action": "drop" })).status, 204);
    assert_eq!(dev("POST", "/faults", json!({ "action": "explode" })).status, 400);
    assert_eq!(world.get("/orgs/octo-org/actions/runners", &token).status, 500);
    assert_eq!(dev("DELETE", "/faults", Value::Null).status, 204);
    assert_eq!(world.get("/orgs/octo-org/actions/runners", &token).status, 200);

    let calls = dev("GET", "/calls", Value::Null).body;
    assert_eq!(calls.as_array().unwrap().last().unwrap()["status"], 200);
    assert_eq!(dev("DELETE", "/calls", Value::Null).status, 204);
    assert!(world.github.calls().is_empty());
    let overview = dev("GET", "", Value::Null).body;
    assert_eq!(overview["targets"], json!(["octo-org", "octo-org/hello"]));
    assert_eq!(overview["issued"]["jit_configs"], 1);
}
