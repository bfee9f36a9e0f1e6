//! A policy takes effect, once, everywhere; a newer one is never undone by an older file.

use std::path::Path;

use futures_util::future::join_all;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use runner_broker::broker::policy::apply::{self, Applied};
use runner_broker::broker::{Broker, Error};
use runner_broker::cli::serve::start;
use runner_broker::policy::Document;
use serde_json::{Value, json};

use super::properties::plausible_document;
use crate::support::{World, team};

fn document(world: &World, toml: &str) -> Document {
    let toml = toml.replace("ISSUER", world.issuer.url());
    Document::parse(&toml).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// The changes that the newest event tells.
async fn changes(world: &World) -> Vec<Value> {
    let event = world.log("event_type = 'policy_applied'").await.pop().expect("an event");
    event["event_data"]["changes"].as_array().cloned().expect("a list")
}

async fn teams(broker: &Broker) -> Vec<String> {
    let policy = apply::current(broker.store()).await.expect("a policy");
    policy.team.into_iter().map(|team| team.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_in_force_at_once_where_it_was_applied() {
    let world = World::new().await;
    let ask = |name: &str| world.post("/api/v1/runners/jit", "red", json!({ "runner_name": name }));
    assert_eq!(ask("r1").await.refusal(), (403, "NO_TEAM"));
    world.policy(&team("red", "")).await;
    assert_eq!(ask("r1").await.status, 201);
    assert_eq!(world.jit("b1").await.refusal(), (403, "NO_TEAM"), "blue is not in it any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_that_is_taken_out_is_deactivated_and_keeps_its_runners() {
    let world = World::new().await;
    assert_eq!(world.jit("b1").await.status, 201);
    world.policy(&team("red", "")).await;
    assert_eq!(world.sql("SELECT name FROM teams WHERE NOT active").await, ["blue"]);
    assert_eq!((world.status("b1").await.as_str(), world.on_github().len()), ("pending", 1));
    assert_eq!(changes(&world).await, ["team red: added", "team blue: deactivated"].map(Value::from));
    world.policy(&[team("red", ""), team("blue", "")].concat()).await;
    assert_eq!(world.sql("SELECT name FROM teams WHERE active ORDER BY name").await, ["blue", "red"]);
    assert_eq!(world.get("/api/v1/runners/b1", "blue").await.status, 200, "its own again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_deactivated_by_another_replica_gets_nothing_under_its_lock() {
    let world = World::new().await;
    world.policy(&team("blue", "max_runners = 5")).await;
    world.sql("UPDATE teams SET active = false").await;
    assert_eq!(world.jit("b1").await.refusal(), (403, "NO_TEAM"));
    assert_eq!(world.posts(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_another_replica_is_picked_up_by_a_refresh() {
    let world = World::new().await;
    let other = document(&world, &team("red", ""));
    let applied = apply::apply(world.broker.store(), &world.clock, &other, "elsewhere", false, false).await;
    assert!(matches!(applied, Ok(Applied::Changed(_))), "{applied:?}");
    assert_eq!(world.jit("b1").await.status, 201, "not known here yet");
    world.broker.refresh_policy().await.expect("a database");
    assert_eq!(world.jit("b2").await.refusal(), (403, "NO_TEAM"));
    let red = world.post("/api/v1/runners/jit", "red", json!({ "runner_name": "r1" })).await;
    assert_eq!(red.status, 201, "{}", red.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_tells_the_difference_a_line_a_change() {
    let world = World::new().await;
    world.policy(&team("blue", "max_runners = 5\nallowed_labels = [\"gpu\"]")).await;
    let admin = "\n[[admin]]\nissuer = \"ISSUER\"\nclaims = { groups = \"ops\" }\n";
    let event = world.log("event_type = 'policy_applied'").await.pop().expect("an event");
    assert_eq!((&event["user_identity"], &event["success"]), (&json!("system:policy"), &json!(true)));
    assert_eq!(event["event_data"]["source"], json!("test"));
    assert_eq!(
        changes(&world).await,
        [
            r#"team blue: allowed_labels: ["linux.*","docker"] → ["gpu"]"#,
            "team blue: max_runners: unset → 5",
        ]
        .map(Value::from)
    );
    let blue = team("blue", "max_runners = 5\nallowed_labels = [\"gpu\"]");
    world.policy(&format!("{blue}{admin}")).await;
    let issuer = world.issuer.url();
    assert_eq!(changes(&world).await, [json!(format!(r#"admin: added {issuer} {{"groups":"ops"}}"#))]);
    world.policy(&format!("{blue}{}", admin.replace("ops", "root"))).await;
    assert_eq!(
        changes(&world).await,
        ["added", "removed"]
            .into_iter()
            .zip(["root", "ops"])
            .map(|(what, group)| json!(format!(r#"admin: {what} {issuer} {{"groups":"{group}"}}"#)))
            .collect::<Vec<_>>()
    );
    let denied =
        "[[deny]]\nissuer = \"ISSUER\"\nclaims = { oid = \"7\" }\ncomment = \"left\"\nuntil = 2026-12-31\n";
    let with_root = format!("{blue}{}", admin.replace("ops", "root"));
    let line = |what: &str, more: &str| json!(format!(r#"deny: {what} {issuer} {{"oid":"7"}}{more}"#));
    world.policy(&format!("{with_root}{denied}")).await;
    let told = ", until 2026-12-31T00:00:00Z, comment \"left\"";
    assert_eq!(changes(&world).await, [line("added", told)]);
    world.policy(&format!("{with_root}{}", denied.replace("until = 2026-12-31\n", ""))).await;
    assert_eq!(changes(&world).await, [line("added", ", comment \"left\""), line("removed", told)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_force_already_is_not_applied_again_and_a_dry_run_changes_nothing() {
    let world = World::new().await;
    let several = [team("b-1", ""), team("B 2", ""), team("a", "requests_per_minute = 3")].concat();
    world.policy(&several).await;
    let versions = async || world.sql("SELECT id FROM policy_versions").await.len();
    let before = versions().await;
    let same = document(&world, &several);
    let applied = world.broker.apply_policy(&same, "test", false).await;
    assert!(matches!(applied, Ok(Applied::Unchanged)), "{applied:?}");
    let other = document(&world, &team("red", ""));
    let dry = apply::apply(world.broker.store(), &world.clock, &other, "test", false, true).await;
    assert!(matches!(&dry, Ok(Applied::Changed(changes)) if changes.len() == 4), "{dry:?}");
    assert_eq!((versions().await, teams(&world.broker).await.len()), (before, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_teams_name_in_another_case_is_a_fault_that_says_so() {
    let world = World::new().await;
    for inactive in [false, true] {
        if inactive {
            world.policy(&team("red", "")).await;
        }
        let before = teams(&world.broker).await;
        let misspelt = document(&world, &[team("green", ""), team("Blue", "")].concat());
        let refused = world.broker.apply_policy(&misspelt, "test", false).await;
        let Err(Error::Policy(why)) = &refused else { panic!("{refused:?}") };
        assert!(why.contains("'Blue'") && why.contains("'blue'"), "{why}");
        assert_eq!(teams(&world.broker).await, before, "nothing of it is applied");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_replicas_policy_file_does_not_undo_a_newer_policy() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policy.toml");
    let write = |path: &Path, name: &str| {
        let text = team(name, "").replace("ISSUER", "https://issuer.example");
        std::fs::write(path, text).expect("a file");
    };
    write(&path, "from-file");
    // It starts with the file; then `blue` is applied.
    let world = World::with(|config| config.policy_file = Some(path.clone())).await;
    assert_eq!(world.sql("SELECT name FROM teams ORDER BY name").await, ["blue", "from-file"]);
    assert_eq!(teams(&world.broker).await, ["blue"]);

    let restart = || start(world.config.clone(), world.clock.clone());
    let old = restart().await.expect("an old file is no reason not to start");
    assert_eq!(teams(&old.broker).await, ["blue"], "a newer policy stays");

    write(&path, "edited");
    let new = restart().await.expect("a broker");
    assert_eq!(teams(&new.broker).await, ["edited"], "a file with something new is applied");
    let events = world.log("event_type = 'policy_applied'").await.len();
    let same = restart().await.expect("a broker");
    assert_eq!(teams(&same.broker).await, ["edited"]);
    assert_eq!(world.log("event_type = 'policy_applied'").await.len(), events, "and only once");

    // By command it may well be an old one.
    let text = team("from-file", "").replace("ISSUER", "https://issuer.example");
    let applied = world.broker.apply_policy(&document(&world, &text), "by hand", false).await;
    assert!(matches!(applied, Ok(Applied::Changed(_))), "{applied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_applied_at_once_come_one_after_the_other_beside_provisions() {
    let world = World::new().await;
    let apply = async |n: usize| {
        let toml = [team("blue", &format!("max_runners = {}", 100 + n)), team(&format!("t{n}"), "")].concat();
        world.broker.apply_policy(&document(&world, &toml), "test", false).await.expect("applied");
    };
    let provision = async |_: usize| {
        let answer = world.post("/api/v1/runners/jit", "blue", json!({ "runner_name_prefix": "b" })).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
    };
    tokio::join!(join_all((0..12).map(apply)), join_all((0..40).map(provision)));
    assert_eq!(world.log("event_type = 'policy_applied'").await.len(), 13);
    let active = world.sql("SELECT name FROM teams WHERE active ORDER BY name").await;
    assert_eq!(active.len(), 2, "one of them is in force as a whole: {active:?}");
    assert_eq!(active[0], "blue");
    world.broker.refresh_policy().await.expect("a database");
    let most = world.sql("SELECT max_runners FROM teams WHERE name = 'blue'").await.concat();
    assert_eq!(format!("t{}", most.parse::<usize>().expect("a number") - 100), active[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_comes_back_from_the_database_as_it_was_applied() {
    let world = World::new().await;
    let mut runner = TestRunner::new(Config { rng_seed: RngSeed::Random, ..Config::default() });
    for number in 0..24 {
        let mut document = plausible_document().new_tree(&mut runner).expect("a document").current();
        // Teams are told apart without case, and names stay as they were first written.
        document.team.iter_mut().for_each(|team| team.name = format!("{number} {}", team.name));
        document.team.iter_mut().for_each(|team| team.name.truncate(64));
        let applied = world.broker.apply_policy(&document, "test", false).await;
        assert!(matches!(applied, Ok(Applied::Changed(_))), "{applied:?}: {}", document.to_toml());
        let back = apply::current(world.broker.store()).await.expect("a policy");
        assert_eq!(back, document, "{}", document.to_toml());
        let again = world.broker.apply_policy(&back, "test", false).await;
        assert!(matches!(again, Ok(Applied::Unchanged)), "{again:?}: {}", document.to_toml());
    }
}
