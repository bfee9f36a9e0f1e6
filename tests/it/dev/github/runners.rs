//! Runners: made, listed, connected, busy, removed.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::TimeDelta;
use serde_json::{Value, json};

use super::client::World;

const RUNNERS: &str = "/orgs/octo-org/actions/runners";

#[test]
fn a_jit_runner_exists_from_the_call_on_and_its_labels_are_lower_cased() {
    let world = World::new();
    let token = world.token(Value::Null);
    let made = world.jit(&token, "Builder-1");
    assert_eq!(made.status, 201);
    assert_eq!(
        made.body["runner"]["labels"],
        json!([{ "name": "self-hosted" }, { "name": "linux" }, { "name": "gpu" }])
    );
    let id = made.body["runner"]["id"].as_i64().unwrap();
    let seen = world.get(&format!("{RUNNERS}/{id}"), &token).body;
    assert_eq!((&seen["name"], &seen["status"]), (&json!("Builder-1"), &json!("offline")));
    assert_eq!((&seen["version"], &seen["ephemeral"]), (&Value::Null, &json!(true)));
    assert_eq!(seen["labels"][2]["type"], "custom");
    assert_eq!(world.github.runners("octo-org")[0].labels, ["self-hosted", "linux", "gpu"]);
}

#[test]
fn a_name_is_taken_whatever_its_case_but_only_in_its_scope() {
    let world = World::new();
    let token = world.token(Value::Null);
    assert_eq!(world.jit(&token, "Builder").status, 201);
    let again = world.jit(&token, "bUILDER");
    assert_eq!((again.status, again.message()), (409, "Already exists"));
    let body = json!({ "name": "builder", "runner_group_id": 1, "labels": ["x"] });
    let repo = "/repos/octo-org/hello/actions/runners/generate-jitconfig";
    assert_eq!(world.ask("POST", repo, &token, body).status, 201);
    world.github.remove("octo-org", "BUILDER").unwrap();
    assert_eq!(world.jit(&token, "builder").status, 201);
}

#[test]
fn a_jit_request_is_checked() {
    let world = World::new();
    let token = world.token(Value::Null);
    let ask = |body: Value| world.ask("POST", &format!("{RUNNERS}/generate-jitconfig"), &token, body).status;
    let many = |n: usize| (0..n).map(|i| format!("l{i}")).collect::<Vec<_>>();
    assert_eq!(ask(json!({ "name": "a", "runner_group_id": 99, "labels": ["x"] })), 404);
    assert_eq!(ask(json!({ "name": "a", "labels": ["x"] })), 422);
    assert_eq!(ask(json!({ "name": "a", "runner_group_id": 1 })), 422);
    assert_eq!(ask(json!({ "runner_group_id": 1, "labels": ["x"] })), 422);
    assert_eq!(ask(json!({ "name": "a", "runner_group_id": 1, "labels": [] })), 422);
    assert_eq!(ask(json!({ "name": "a", "runner_group_id": 1, "labels": ["x".repeat(257)] })), 422);
    assert_eq!(ask(json!({ "name": "a", "runner_group_id": 1, "labels": many(101) })), 422);
    assert_eq!(ask(json!({ "name": "", "runner_group_id": 1, "labels": ["x"] })), 422);
    assert_eq!(ask(json!({ "name": "a", "runner_group_id": 1, "labels": many(100) })), 201);
    assert_eq!(world.github.runners("octo-org").len(), 1);
}

#[test]
fn groups_are_listed_and_a_closed_one_is_refused() {
    let world = World::new();
    let token = world.token(Value::Null);
    let gpu = world.github.add_group("octo-org", "gpu").unwrap();
    let groups = world.get("/orgs/octo-org/actions/runner-groups?per_page=1", &token);
    assert_eq!(
        (&groups.body["total_count"], &groups.body["runner_groups"][0]["name"]),
        (&json!(2), &json!("Default"))
    );
    assert!(groups.header("link").unwrap().contains("page=2>; rel=\"next\""));
    let one = world.get(&format!("/orgs/octo-org/actions/runner-groups/{gpu}"), &token);
    assert_eq!(one.body["name"], "gpu");
    let body = |name: &str| json!({ "name": name, "runner_group_id": gpu, "labels": ["x"] });
    let jit = format!("{RUNNERS}/generate-jitconfig");
    assert_eq!(world.ask("POST", &jit, &token, body("a")).body["runner"]["runner_group_id"], gpu);
    world.github.close_group("octo-org", gpu);
    assert_eq!(world.ask("POST", &jit, &token, body("b")).status, 403);
}

#[test]
fn a_list_comes_in_pages_of_at_most_a_hundred_that_link_to_each_other() {
    let world = World::new();
    let token = world.token(Value::Null);
    for i in 0..230 {
        world.github.plant("octo-org", &format!("r{i}"), &[], false).unwrap();
    }
    assert_eq!(world.get(RUNNERS, &token).body["runners"].as_array().unwrap().len(), 30);
    let (mut path, mut seen) = (format!("{RUNNERS}?per_page=500"), Vec::new());
    loop {
        let page = world.get(&path, &token);
        assert_eq!(page.body["total_count"], 230);
        let runners = page.body["runners"].as_array().unwrap().clone();
        assert!(runners.len() <= 100);
        seen.extend(runners.iter().map(|runner| runner["name"].as_str().unwrap().to_owned()));
        let next = page.header("link").unwrap().split(", ").find(|link| link.ends_with("rel=\"next\""));
        let Some(next) = next.map(str::to_owned) else { break };
        let url = next.split(['<', '>']).nth(1).unwrap();
        path = url.strip_prefix(world.github.url()).unwrap().to_owned();
    }
    assert_eq!(seen, (0..230).map(|i| format!("r{i}")).collect::<Vec<_>>());
    let beyond = world.get(&format!("{RUNNERS}?per_page=100&page=9"), &token);
    assert_eq!(beyond.body["runners"], json!([]));
}

#[test]
fn links_lead_back_to_where_the_caller_came_in() {
    let world = World::new();
    let token = world.token(Value::Null);
    (0..3).for_each(|i| {
        world.github.plant("octo-org", &format!("r{i}"), &[], false).unwrap();
    });
    let page = world.get(&format!("/api/v3{RUNNERS}?per_page=2"), &token);
    let next = format!("<{}/api/v3{RUNNERS}?per_page=2&page=2>; rel=\"next\"", world.github.url());
    assert!(page.header("link").unwrap().contains(&next));
}

#[test]
fn a_runner_is_found_by_its_whole_name() {
    let world = World::new();
    let token = world.token(Value::Null);
    world.jit(&token, "Builder-1");
    world.jit(&token, "Builder-10");
    let found = world.get(&format!("{RUNNERS}?name=builder-1"), &token).body;
    assert_eq!((&found["total_count"], &found["runners"][0]["name"]), (&json!(1), &json!("Builder-1")));
    assert_eq!(world.get(&format!("{RUNNERS}?name=builder"), &token).body["total_count"], 0);
}

#[test]
fn what_has_not_changed_is_a_304() {
    let world = World::new();
    let token = world.token(Value::Null);
    world.jit(&token, "a");
    let first = world.get(RUNNERS, &token);
    let held = format!("If-None-Match: {}\r\n", first.header("etag").unwrap());
    let again = || world.ask_with("GET", RUNNERS, &token, Value::Null, &held);
    assert_eq!(again().status, 304);
    world.github.connect("octo-org", "a").unwrap();
    let changed = again();
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), first.header("etag"));
}

#[test]
fn a_busy_runner_is_not_deleted() {
    let world = World::new();
    let token = world.token(Value::Null);
    let id = world.jit(&token, "a").body["runner"]["id"].as_i64().unwrap();
    let delete = || world.ask("DELETE", &format!("{RUNNERS}/{id}"), &token, Value::Null).status;
    assert!(world.github.start_job("octo-org", "a").is_err(), "it has not connected");
    world.github.connect("octo-org", "a").unwrap();
    world.github.start_job("octo-org", "A").unwrap();
    assert_eq!(delete(), 422);
    world.github.disconnect("octo-org", "a").unwrap();
    assert_eq!(delete(), 422, "the job seems to run on");
    world.github.finish_job("octo-org", "a").unwrap();
    assert_eq!(delete(), 404, "it was ephemeral");
    let id = world.github.plant("octo-org", "b", &[], false).unwrap();
    let path = format!("{RUNNERS}/{id}");
    assert_eq!(world.ask("DELETE", &path, &token, Value::Null).status, 204);
    assert_eq!(world.ask("DELETE", &path, &token, Value::Null).status, 404);
    assert_eq!(world.get(&path, &token).status, 404);
}

#[test]
fn a_jit_config_connects_its_runner_and_no_other() {
    let world = World::new();
    let token = world.token(Value::Null);
    let made = world.jit(&token, "a");
    let encoded = made.body["encoded_jit_config"].as_str().unwrap();
    assert!((3_500..5_000).contains(&encoded.len()), "{}", encoded.len());
    let decode =
        |text: &str| -> Value { serde_json::from_slice(&BASE64_STANDARD.decode(text).unwrap()).unwrap() };
    let files = decode(encoded);
    let runner = decode(files[".runner"].as_str().unwrap());
    assert_eq!((&runner["agentId"], &runner["agentName"]), (&made.body["runner"]["id"], &json!("a")));
    assert_eq!(runner["ephemeral"], true);
    assert_ne!(encoded, world.jit(&token, "b").body["encoded_jit_config"]);

    assert_eq!(world.github.connect_jit(encoded).unwrap(), "a");
    let connected = world.github.runner("octo-org", "a").unwrap();
    assert!(connected.online && connected.version.is_some());
    assert!(!world.github.runner("octo-org", "b").unwrap().online);
    assert_eq!(world.github.connect_jit("nonsense").unwrap_err().status, 400);
    world.github.remove("octo-org", "a").unwrap();
    world.jit(&token, "a");
    assert_eq!(world.github.connect_jit(encoded).unwrap_err().status, 401);
    assert!(world.github.issued().iter().any(|secret| secret == encoded));
}

#[test]
fn a_registration_token_registers_any_number_of_runners_of_its_target_for_an_hour() {
    let world = World::new();
    let token = world.token(Value::Null);
    let made = world.ask("POST", &format!("{RUNNERS}/registration-token"), &token, Value::Null);
    let key = made.body["token"].as_str().unwrap();
    for name in ["a", "b"] {
        world.github.register("octo-org", name, &["GPU", "linux"], false, key).unwrap();
    }
    let runner = world.github.runner("octo-org", "A").unwrap();
    assert_eq!(runner.labels, ["self-hosted", "Linux", "X64", "GPU"]);
    assert!(!runner.online && !runner.jit && runner.version.is_some());
    let refused = |target: &str, name: &str, key: &str| {
        world.github.register(target, name, &[], false, key).unwrap_err().status
    };
    assert_eq!(refused("octo-org", "B", key), 409);
    assert_eq!(refused("octo-org/hello", "c", key), 404);
    assert_eq!(refused("octo-org", "c", "AAAA"), 404);

    let removal = world.ask("POST", &format!("{RUNNERS}/remove-token"), &token, Value::Null);
    let removal = removal.body["token"].as_str().unwrap();
    assert_eq!(refused("octo-org", "c", removal), 404);
    world.github.unregister("octo-org", "b", removal).unwrap();
    assert!(world.github.runner("octo-org", "b").is_none());
    world.clock.advance(TimeDelta::minutes(61));
    assert_eq!(refused("octo-org", "c", key), 401);
    let listed = world.get(RUNNERS, &world.token(Value::Null)).body;
    assert_eq!(listed["runners"][0]["labels"][0]["type"], "read-only");
}

#[test]
fn a_repository_has_runners_of_its_own() {
    let world = World::new();
    let token = world.token(json!({ "permissions": { "administration": "write", "actions": "write" } }));
    let path = |rest: &str| format!("/repos/octo-org/Hello/actions/{rest}");
    let body = json!({ "name": "a", "runner_group_id": 1, "labels": ["x"] });
    let made = world.ask("POST", &path("runners/generate-jitconfig"), &token, body);
    let id = made.body["runner"]["id"].as_i64().unwrap();
    assert_eq!(world.get(&path("runners"), &token).body["total_count"], 1);
    for rest in ["runners/registration-token", "runners/remove-token"] {
        assert_eq!(world.ask("POST", &path(rest), &token, Value::Null).status, 201);
    }
    assert_eq!(world.ask("POST", &path("runs/7/cancel"), &token, Value::Null).status, 202);
    let one = path(&format!("runners/{id}"));
    assert_eq!(world.get(&one, &token).status, 200);
    assert_eq!(world.ask("DELETE", &one, &token, Value::Null).status, 204);
    assert!(world.github.runners("octo-org").is_empty());
}

#[test]
fn labels_can_drift() {
    let world = World::new();
    world.github.plant("octo-org", "a", &[], false).unwrap();
    world.github.set_labels("octo-org", "a", &["other"]).unwrap();
    let listed = world.get(RUNNERS, &world.token(Value::Null)).body;
    assert_eq!(listed["runners"][0]["labels"][0]["name"], "other");
}
