//! One order for many things: what came of each, what the log says, and what is never done by accident.

use std::time::Duration;

use reqwest::Method;
use runner_broker::dev::github::{Action, Fault};
use serde_json::{Value, json};

use crate::people::identities::{COMMENT, id_of, new_world, seen};
use crate::support::{Answer, ORG, World, eventually};

const RUNNERS: &str = "/api/v1/admin/batch/delete-runners";
const IDENTITIES: &str = "/api/v1/admin/batch/deactivate-identities";
const TEAMS: &str = "/api/v1/admin/batch/deactivate-teams";

/// With the comment, as the admin boss.
async fn order(world: &World, path: &str, mut body: Value) -> Answer {
    body["comment"] = json!(COMMENT);
    world.post(path, "boss", body).await
}

/// `name outcome code` of each item.
fn outcomes(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let items = answer.body["items"].as_array().expect("items").iter();
    let text = |item: &Value, field: &str| item[field].as_str().unwrap_or("-").to_owned();
    items
        .map(|item| format!("{} {} {}", text(item, "name"), text(item, "outcome"), text(item, "error_code")))
        .collect()
}

async fn jits(world: &World, names: &[&str]) {
    for name in names {
        assert_eq!(world.jit(name).await.status, 201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_named_are_removed_each_with_its_event_and_one_for_all() {
    let world = new_world().await;
    jits(&world, &["b1", "b2"]).await;
    world.connected("busy").await;
    world.connected("waits").await;
    world.github.start_job(ORG, "busy").unwrap();
    let id = world.get("/api/v1/runners/b2", "blue").await.str("runner_id").to_owned();
    assert_eq!(world.delete("/api/v1/runners/b2", "blue").await.status, 200);
    let named = json!({ "ids": ["b1", id, "busy", "missing", "no name!", "b1"] });
    let answer = order(&world, RUNNERS, named).await;
    assert_eq!(
        outcomes(&answer),
        [
            "- removed -",
            "- unchanged -",
            "- refused RUNNER_BUSY",
            "- refused RUNNER_NOT_FOUND",
            "- refused RUNNER_NOT_FOUND"
        ]
    );
    assert_eq!((&answer.body["succeeded"], &answer.body["failed"]), (&json!(2), &json!(3)));
    let batch = answer.str("batch_id");
    let told = world.log(&format!("event_data->>'batch_id' = '{batch}'")).await;
    let lines: Vec<String> = told
        .iter()
        .map(|event| {
            format!(
                "{} {}",
                event["event_type"].as_str().unwrap(),
                event["runner_name"].as_str().unwrap_or("-")
            )
        })
        .collect();
    let mut sorted = lines.clone();
    sorted.sort();
    assert_eq!(
        sorted,
        [
            "batch_executed -",
            "deprovision_refused busy",
            "deprovision_requested b1",
            "deprovision_requested busy",
            "deprovisioned b1",
        ]
    );
    assert_eq!(lines.last().unwrap(), "batch_executed -", "when all was done");
    assert!(told.iter().all(|event| event["event_data"]["comment"] == COMMENT), "{told:?}");
    assert!(told.iter().all(|event| event["user_identity"] == "boss-user"));
    let whole = &told.last().unwrap()["event_data"];
    assert_eq!(
        (&whole["items"], &whole["failed"], &whole["action"]),
        (&json!(5), &json!(3), &json!("delete_runners"))
    );
    // What the removal itself says is there as well.
    let requested = told.iter().find(|event| event["event_type"] == "deprovision_requested").unwrap();
    assert_eq!(requested["event_data"]["reason"], "asked for");
    assert_eq!(world.status("busy").await, "pending");

    world.github.start_job(ORG, "waits").unwrap();
    let forced = order(&world, RUNNERS, json!({ "ids": ["waits"], "force_when_idle": true })).await;
    assert_eq!(outcomes(&forced), ["- when_idle -"]);
    assert_eq!(world.status("waits").await, "deleting");
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_are_chosen_by_a_filter_that_filters_and_a_dry_run_does_nothing() {
    let world = new_world().await;
    jits(&world, &["ci-1", "ci-2", "other"]).await;
    let red = json!({ "runner_name": "ci-red", "labels": ["docker"] });
    assert_eq!(world.post("/api/v1/runners/jit", "red", red).await.status, 201);
    jits(&world, &["ci-gone"]).await;
    world.delete("/api/v1/runners/ci-gone", "blue").await;
    let calls = world.github.calls().len();
    let dry = |filter: Value| order(&world, RUNNERS, json!({ "filter": filter, "dry_run": true }));
    let answer = dry(json!({ "q": "CI-" })).await;
    assert_eq!(outcomes(&answer), ["ci-red would -", "ci-2 would -", "ci-1 would -"]);
    assert_eq!((&answer.body["batch_id"], &answer.body["dry_run"]), (&Value::Null, &json!(true)));
    assert_eq!(outcomes(&dry(json!({ "label": "docker" })).await), ["ci-red would -"]);
    assert_eq!(outcomes(&dry(json!({ "team": "red", "status": "active" })).await), Vec::<String>::new());
    let named = order(&world, RUNNERS, json!({ "ids": ["ci-gone", "ci-1", "x"], "dry_run": true })).await;
    assert_eq!(outcomes(&named), ["ci-gone unchanged -", "ci-1 would -", "- refused RUNNER_NOT_FOUND"]);
    assert_eq!(world.github.calls().len(), calls);
    assert!(world.log("event_type IN ('batch_executed', 'access_refused')").await.is_empty());

    let done = order(&world, RUNNERS, json!({ "filter": { "q": "ci-", "team": "blue" } })).await;
    assert_eq!(outcomes(&done), ["ci-2 removed -", "ci-1 removed -"]);
    assert_eq!(world.on_github().len(), 2);
    let event = world.log("event_type = 'batch_executed'").await.pop().unwrap();
    assert_eq!(event["event_data"]["chosen_by"]["team"], "blue");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_never_chosen_by_accident() {
    let world = new_world().await;
    jits(&world, &["b1"]).await;
    let many: Vec<String> = (0..501).map(|n| format!("b{n}")).collect();
    for (path, named, body) in [
        (RUNNERS, "ids", json!({ "filter": {} })),
        (RUNNERS, "ids", json!({ "filter": { "q": "", "team": null } })),
        (IDENTITIES, "ids", json!({ "filter": {} })),
        (TEAMS, "names", json!({ "filter": { "q": "" } })),
    ] {
        let refused = order(&world, path, body).await;
        assert_eq!(refused.refusal(), (422, "INVALID_REQUEST"), "{}", refused.text);
        assert_eq!(refused.body["errors"][0]["field"], "filter", "{}", refused.text);
        let both = json!({ named: ["b1"], "filter": { "q": "b1" } });
        for body in [json!({}), both, json!({ named: [] }), json!({ named: many })] {
            let refused = order(&world, path, body.clone()).await;
            assert_eq!(refused.body["errors"][0]["field"], named, "{path} {body} {}", refused.text);
        }
    }
    for filter in
        [json!({ "status": "deleted" }), json!({ "status": "x" }), json!({ "q": "\u{0}" }), json!({ "x": 1 })]
    {
        let refused = order(&world, RUNNERS, json!({ "filter": filter })).await;
        assert_eq!(refused.refusal(), (422, "INVALID_REQUEST"), "{filter}");
    }
    for comment in [json!(""), json!("too short"), json!(null), json!("x".repeat(501))] {
        let body = json!({ "ids": ["b1"], "comment": comment });
        assert_eq!(world.post(RUNNERS, "boss", body).await.refusal(), (422, "INVALID_REQUEST"), "{comment}");
    }
    assert_eq!(world.on_github(), ["b1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_goes_on_without_its_caller() {
    let world = new_world().await;
    let names: Vec<String> = (0..12).map(|n| format!("b{n}")).collect();
    jits(&world, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.github.set_latency(Duration::from_millis(300));
    let body = json!({ "ids": names, "comment": COMMENT });
    let request = world.client().post(format!("{}{RUNNERS}", world.url)).bearer_auth(world.token("boss"));
    let hasty = tokio::spawn(request.json(&body).send());
    let begun = async || world.github.calls().iter().any(|call| call.method == "DELETE");
    eventually("it has begun", begun).await;
    assert!(!hasty.is_finished());
    hasty.abort();
    eventually("all of them", async || !world.log("event_type = 'batch_executed'").await.is_empty()).await;
    assert!(world.on_github().is_empty());
    let ended = world.log("event_type = 'deprovisioned' AND event_data ? 'batch_id'").await;
    assert_eq!(ended.len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_github_wants_no_more_calls_the_rest_is_left_alone() {
    let world = new_world().await;
    let names: Vec<String> = (0..12).map(|n| format!("b{n}")).collect();
    jits(&world, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world
        .github
        .fail(Fault::new("DELETE", "/runners/", Action::RateLimited { reset_seconds: 600 }).skip(2).always());
    let answer = order(&world, RUNNERS, json!({ "ids": names })).await;
    let outcomes = outcomes(&answer);
    let limited = outcomes.iter().filter(|one| *one == "- refused GITHUB_RATE_LIMITED").count();
    assert_eq!((limited, outcomes.len()), (10, 12), "{outcomes:?}");
    let untouched = world.sql("SELECT name FROM runners WHERE status = 'pending'").await;
    assert!(untouched.len() >= 6, "only those that were at it: {untouched:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_are_deactivated_but_for_ones_own() {
    let world = new_world().await;
    seen(&world, &["blue", "red", "boss", "watch"]).await;
    let (blue, boss) = (id_of(&world, "blue").await, id_of(&world, "boss").await);
    let ids = json!(["x", blue, boss, "0197f7a0-0000-7000-8000-000000000000"]);
    let dry = order(&world, IDENTITIES, json!({ "ids": ids, "dry_run": true })).await;
    let wanted =
        ["- refused NOT_FOUND", "blue-user would -", "boss-user refused OWN_IDENTITY", "- refused NOT_FOUND"];
    assert_eq!(outcomes(&dry), wanted);
    assert_eq!(world.get("/api/v1/auth/me", "blue").await.status, 200);
    let done = order(&world, IDENTITIES, json!({ "ids": ids })).await;
    let wanted = ["- refused NOT_FOUND", "- deactivated -", "- refused OWN_IDENTITY", "- refused NOT_FOUND"];
    assert_eq!(outcomes(&done), wanted);
    assert_eq!(world.get("/api/v1/auth/me", "blue").await.refusal(), (403, "IDENTITY_DEACTIVATED"));
    let batch = done.str("batch_id");
    let told = world.log(&format!("event_data->>'batch_id' = '{batch}'")).await;
    let types: Vec<&str> = told.iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    assert_eq!(types, ["identity_deactivated", "batch_executed"]);
    assert_eq!(told[0]["event_data"]["comment"], COMMENT);
    let again = order(&world, IDENTITIES, json!({ "ids": [blue] })).await;
    assert_eq!(outcomes(&again), ["- unchanged -"]);

    world.pass(3600);
    let since = world.clock.now().to_rfc3339();
    world.pass(1);
    seen(&world, &["watch", "boss"]).await;
    let unseen = json!({ "filter": { "unseen_since": since, "issuer": world.issuer.url() } });
    assert_eq!(outcomes(&order(&world, IDENTITIES, unseen).await), ["red-user deactivated -"]);
    let own = order(&world, IDENTITIES, json!({ "filter": { "q": "BOSS" } })).await;
    assert_eq!(outcomes(&own), ["boss-user refused OWN_IDENTITY"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn teams_are_deactivated_by_name_or_filter() {
    let world = new_world().await;
    for name in ["old-1", "old-2", "old-3"] {
        assert_eq!(world.post("/api/v1/admin/teams", "boss", json!({ "name": name })).await.status, 201);
    }
    let named = json!({ "names": ["OLD-1", "nobody", "\u{0}"] });
    let dry = order(&world, TEAMS, {
        let mut dry = named.clone();
        dry["dry_run"] = json!(true);
        dry
    })
    .await;
    assert_eq!(outcomes(&dry), ["- would -", "- refused NOT_FOUND", "- refused NOT_FOUND"]);
    let done = order(&world, TEAMS, named).await;
    assert_eq!(outcomes(&done), ["- deactivated -", "- refused NOT_FOUND", "- refused NOT_FOUND"]);
    let done = order(&world, TEAMS, json!({ "filter": { "q": "old" } })).await;
    assert_eq!(outcomes(&done), ["old-2 deactivated -", "old-3 deactivated -"]);
    let again = order(&world, TEAMS, json!({ "names": ["old-2"] })).await;
    assert_eq!(outcomes(&again), ["old-2 unchanged -"].map(|_| "- unchanged -"));
    let batch = done.str("batch_id");
    let told = world.log(&format!("event_data->>'batch_id' = '{batch}'")).await;
    let lines: Vec<String> = told
        .iter()
        .map(|event| {
            format!("{} {}", event["event_type"].as_str().unwrap(), event["team"].as_str().unwrap_or("-"))
        })
        .collect();
    assert_eq!(lines, ["team_deactivated old-2", "team_deactivated old-3", "batch_executed -"]);
    assert!(told.iter().all(|event| event["event_data"]["comment"] == COMMENT), "{told:?}");
    assert_eq!(world.jit("b1").await.status, 201, "nobody else");
    assert_eq!(
        world.call(Method::POST, TEAMS, &world.token("watch"), &[], Some(json!({}))).await.status,
        403
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_fit_are_done_in_portions() {
    let world = new_world().await;
    world
        .sql(
            "INSERT INTO runners (id, name, target, team, status, method, labels, ephemeral, runner_group_id,
                 github_runner_id, issuer, subject, provisioned_by, created_at, updated_at, requested_at)
             SELECT gen_random_uuid(), 'many-' || n, 'octo-org', 'blue', 'offline', 'jit', '{linux}', true, 1, n,
                 'i', 's', 'p', now(), now(), now() FROM generate_series(1, 501) AS n",
        )
        .await;
    let filter = json!({ "filter": { "q": "many-" } });
    let dry = order(&world, RUNNERS, {
        let mut dry = filter.clone();
        dry["dry_run"] = json!(true);
        dry
    })
    .await;
    assert_eq!((dry.body["items"].as_array().unwrap().len(), &dry.body["more"]), (500, &json!(true)));
    let done = order(&world, RUNNERS, filter.clone()).await;
    assert_eq!((&done.body["succeeded"], &done.body["more"]), (&json!(500), &json!(true)), "{}", done.text);
    let done = order(&world, RUNNERS, filter).await;
    assert_eq!((&done.body["succeeded"], &done.body["more"]), (&json!(1), &json!(false)));
}
