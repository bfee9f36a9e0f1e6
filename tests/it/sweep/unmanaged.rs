//! Runners that nobody asked for: reported once, never confused with ours, removed only if wanted and idle.

use runner_broker::config::Unmanaged;
use runner_broker::dev::github::{Action, Canned, Fault};
use serde_json::{Value, json};

use crate::support::{ORG, World, team};

const DETECTED: &str = "event_type = 'unmanaged_runner_detected'";
const REMOVED: &str = "event_type = 'unmanaged_runner_removed'";
const LIST: &str = "per_page=100&page=";

async fn detected(world: &World) -> Vec<String> {
    let names = world.log(DETECTED).await;
    let mut names: Vec<String> =
        names.iter().map(|event| event["runner_name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

async fn removing() -> World {
    World::with(|config| config.broker.unmanaged_runners = Unmanaged::Remove).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_nobody_asked_for_is_reported_once() {
    let world = World::new().await;
    world.connected("b1").await;
    let id = world.github.plant(ORG, "foreign", &["Prod"], false).unwrap();
    for round in 0..3 {
        let report = world.sweep().await;
        assert_eq!((report.unmanaged, report.failures), (usize::from(round == 0), 0));
    }
    let events = world.log(DETECTED).await;
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!((&event["severity"], &event["user_identity"]), (&json!("high"), &json!("system:sync")));
    assert_eq!((&event["target"], &event["runner_name"]), (&json!(ORG), &json!("foreign")));
    let data = &event["event_data"];
    assert_eq!(
        (&data["id"], &data["name"], &data["status"]),
        (&json!(id), &json!("foreign"), &json!("offline"))
    );
    assert_eq!(data["labels"], json!(["self-hosted", "Linux", "X64", "Prod"]));
    assert_eq!((&data["candidates"], &data["action_taken"]), (&json!([]), &json!("reported")));
    assert_eq!(world.on_github(), ["b1", "foreign"], "only reported");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_reported_again_when_its_target_was_none_in_between() {
    let world = World::new().await;
    world.github.plant(ORG, "foreign", &["Prod"], false).unwrap();
    world.sweep().await;
    world.policy(&team("blue", r#"targets = ["octo-org/*"]"#)).await;
    world.sweep().await;
    world.policy(&team("blue", "")).await;
    world.sweep().await;
    assert_eq!(detected(&world).await, ["foreign"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_only_the_policy_names_is_watched_too() {
    let world = World::new().await;
    world.github.plant(ORG, "foreign", &[], false).unwrap();
    assert_eq!(world.sweep().await.unmanaged, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_gone_is_forgotten_but_not_after_one_list_that_missed_it() {
    let world = World::new().await;
    world.github.plant(ORG, "foreign", &[], false).unwrap();
    world.sweep().await;
    let remembered = "SELECT name FROM unmanaged_runners";
    let empty = Canned::status(200).body(r#"{"total_count": 0, "runners": []}"#);
    world.github.fail(Fault::new("GET", LIST, Action::Respond(empty)));
    world.sweep().await;
    world.sweep().await;
    assert_eq!((world.sql(remembered).await.len(), detected(&world).await.len()), (1, 1), "a shifted page");
    assert_eq!(world.sql("SELECT missed_sweeps FROM unmanaged_runners").await, ["0"]);
    world.github.remove(ORG, "foreign").unwrap();
    world.sweep().await;
    world.sweep().await;
    assert!(world.sql(remembered).await.is_empty());
    // Another one of that name is another one.
    world.github.plant(ORG, "foreign", &[], false).unwrap();
    world.sweep().await;
    assert_eq!(detected(&world).await, ["foreign", "foreign"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn if_the_operator_wants_that_idle_ones_are_removed_and_busy_ones_once_they_are_idle() {
    let world = removing().await;
    world.connected("b1").await;
    for name in ["idle", "busy"] {
        world.github.plant(ORG, name, &[], false).unwrap();
        world.github.connect(ORG, name).unwrap();
    }
    world.github.start_job(ORG, "busy").unwrap();
    let report = world.sweep().await;
    assert_eq!((report.unmanaged, report.removed), (2, 1));
    assert_eq!(world.on_github(), ["b1", "busy"]);
    let deletes = || world.github.calls().iter().filter(|call| call.method == "DELETE").count();
    assert_eq!(deletes(), 1, "a busy one is not even asked for");
    let actions = format!("SELECT event_data->>'action_taken' FROM audit_log WHERE {DETECTED} ORDER BY 1");
    assert_eq!(world.sql(&actions).await, ["removed", "removed_when_idle"]);
    world.sweep().await;
    assert_eq!((deletes(), world.on_github().len()), (1, 2));

    world.github.finish_job(ORG, "busy").unwrap();
    assert_eq!(world.sweep().await.removed, 1);
    assert_eq!(world.on_github(), ["b1"]);
    assert_eq!(detected(&world).await.len(), 2, "no second time");
    let removed = world.log(REMOVED).await;
    assert_eq!((removed.len(), &removed[0]["runner_name"]), (1, &json!("busy")));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_gets_a_job_before_github_is_asked_stays() {
    let world = removing().await;
    world.github.plant(ORG, "foreign", &[], false).unwrap();
    world.github.fail(Fault::new("DELETE", "/runners/", Action::Respond(Canned::status(422))));
    let report = world.sweep().await;
    assert_eq!((report.unmanaged, report.removed, report.failures), (1, 0, 0));
    assert_eq!(world.on_github(), ["foreign"]);
    assert_eq!(world.sweep().await.removed, 1);
    assert_eq!((detected(&world).await.len(), world.log(REMOVED).await.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_ignored_leaves_no_trace() {
    let world = World::with(|config| config.broker.unmanaged_runners = Unmanaged::Ignore).await;
    world.github.plant(ORG, "foreign", &[], false).unwrap();
    let report = world.sweep().await;
    assert_eq!((report.unmanaged, report.seen), (0, 1));
    assert!(world.sql("SELECT name FROM unmanaged_runners").await.is_empty());
    assert_eq!(world.on_github(), ["foreign"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_use_of_a_registration_token_names_the_rows_whose_token_it_may_have_been() {
    let world = World::new().await;
    world.policy(&format!("{}{}", team("blue", ""), team("red", ""))).await;
    // Ended long before.
    world.registration("old").await;
    world.pass(2 * 3600 + 60);
    let token = world.registration("r1").await;
    world.jit("no-token").await;
    let body = json!({ "runner_name": "r2", "repository": "octo-org/octo-repo" });
    assert_eq!(world.post("/api/v1/runners/provision", "blue", body).await.status, 201);
    let body = json!({ "runner_name": "r3" });
    assert_eq!(world.post("/api/v1/runners/provision", "red", body).await.status, 201);
    assert_eq!(world.delete("/api/v1/runners/r3", "red").await.status, 200);
    world.github.register(ORG, "r1", &[], true, &token).unwrap();
    world.github.register(ORG, "another", &["prod"], false, &token).unwrap();
    let report = world.sweep().await;
    assert_eq!((report.unmanaged, report.failures), (1, 0));
    let events = world.log(DETECTED).await;
    let candidates = events[0]["event_data"]["candidates"].as_array().unwrap().clone();
    let mut names: Vec<_> = candidates.iter().map(|row| row["runner_name"].as_str().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["r1", "r3"], "same target, same hour; a deleted row's token is still good");
    let r3 = candidates.iter().find(|row| row["runner_name"] == "r3").unwrap();
    assert_eq!((&r3["team"], &r3["provisioned_by"]), (&json!("red"), &json!("red-user")));
    assert!(r3["runner_id"].is_string() && r3["token_expires_at"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_name_than_the_registrations_shows_up_as_well() {
    let world = World::new().await;
    let token = world.registration("r1").await;
    world.github.register(ORG, "r-one", &[], true, &token).unwrap();
    assert_eq!(world.sweep().await.unmanaged, 1);
    assert_eq!(world.status("r1").await, "pending");
    assert_eq!(world.log(DETECTED).await[0]["event_data"]["candidates"][0]["runner_name"], "r1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_under_the_name_of_a_pending_registration_is_not_unmanaged() {
    let world = removing().await;
    let token = world.registration("R1").await;
    world.github.register(ORG, "r1", &[], true, &token).unwrap();
    assert_eq!(world.sweep().await.unmanaged, 0);
    assert_eq!(world.on_github(), ["r1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_a_provision_of_this_very_moment_is_not_unmanaged() {
    let world = removing().await;
    let requested = "UPDATE runners SET status = 'requested', github_runner_id = NULL, facts_at = NULL,
                     expires_at = NULL, registered_at = NULL WHERE name =";
    for name in ["asked", "settled", "removed", "failed"] {
        assert_eq!(world.jit(name).await.status, 201);
    }
    // GitHub has made it, its row does not say so yet.
    world.sql(&format!("{requested} 'asked'")).await;
    // The list is from before what the rows know.
    world.sql("UPDATE runners SET github_runner_id = 1, facts_at = now() + interval '1 s' WHERE name = 'settled'").await;
    world.sql("UPDATE runners SET status = 'deleted', deleted_at = now() WHERE name = 'removed'").await;
    world
        .sql("UPDATE runners SET status = 'failed', deleted_at = now(), may_appear = false, github_runner_id = NULL
              WHERE name = 'failed'")
        .await;
    let report = world.sweep().await;
    assert_eq!((report.unmanaged, report.removed), (0, 0));
    assert_eq!(world.on_github().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_is_not_unmanaged_but_somebody_elses_runner_of_a_watched_name_is() {
    let world = World::new().await;
    for name in ["ours", "theirs"] {
        assert_eq!(world.jit(name).await.status, 201);
    }
    world.github.connect(ORG, "theirs").unwrap();
    world
        .sql(
            "UPDATE runners SET status = 'failed', updated_at = now(), deleted_at = now(), may_appear = true,
              github_runner_id = NULL",
        )
        .await;
    world.pass(61);
    let report = world.sweep().await;
    assert_eq!((report.orphans, report.unmanaged), (1, 1));
    assert_eq!(detected(&world).await, ["theirs"]);
    assert_eq!(world.on_github(), ["theirs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_whose_row_is_deleted_but_that_is_on_github_again_is_unmanaged() {
    let world = World::new().await;
    world.connected("b1").await;
    let id = world.sql("SELECT id FROM runners").await;
    world.sql("UPDATE runners SET status = 'deleted', deleted_at = now()").await;
    assert_eq!(world.sweep().await.unmanaged, 0, "the list may be older than its end");
    world.pass(61);
    assert_eq!(world.sweep().await.unmanaged, 1);
    assert_eq!(world.log(DETECTED).await[0]["event_data"]["former_runner_id"], Value::from(id[0].clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_runner_under_a_live_rows_name_is_unmanaged() {
    let world = World::new().await;
    world.connected("b1").await;
    world.sweep().await;
    world.github.remove(ORG, "b1").unwrap();
    world.github.plant(ORG, "B1", &[], false).unwrap();
    world.pass(120);
    assert_eq!(world.sweep().await.unmanaged, 1);
    assert_eq!(detected(&world).await, ["B1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_broke_off_reports_nobody_and_forgets_nobody() {
    let world = World::new().await;
    world.github.plant(ORG, "first", &[], false).unwrap();
    world.sweep().await;
    world.github.plant_many(ORG, "other", 100, &[]).unwrap();
    world.github.remove(ORG, "first").unwrap();
    for _ in 0..3 {
        let away = Action::Respond(Canned::status(500));
        world.github.fail(Fault::new("GET", &format!("{LIST}1"), away).skip(1).times(3));
        world.github.fail(Fault::new("GET", "&page=2", Action::Respond(Canned::status(500))).times(3));
        world.github.plant_many(ORG, "more", 1, &[]).ok();
        world.sweep().await;
        world.github.clear_faults();
    }
    assert_eq!(detected(&world).await, ["first"]);
    assert_eq!(world.sql("SELECT name FROM unmanaged_runners").await, ["first"]);
}
