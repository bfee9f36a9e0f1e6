//! Label drift: a runner whose labels are not those asked for is reported once, and removed when it may be.

use runner_broker::dev::github::{Action, Canned, Fault};
use serde_json::{Value, json};

use crate::support::{ORG, World};

const DRIFTED: &str = "event_type = 'label_drift_detected'";
const SYSTEM: [&str; 3] = ["self-hosted", "linux", "x64"];

impl World {
    /// An admin gives this runner these labels, beside the system's.
    pub fn drift(&self, name: &str, labels: &[&str]) {
        self.github.set_labels(ORG, name, &[&SYSTEM, labels].concat()).unwrap();
    }

    /// What the log says of drifts, oldest first.
    pub async fn drifts(&self) -> Vec<Value> {
        self.log(DRIFTED).await
    }
}

/// The fields that tell what was done.
fn done(event: &Value) -> (&str, &str) {
    let text = |name: &str| event["event_data"][name].as_str().unwrap_or_default();
    (text("runner_status"), text("action_taken"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_runner_whose_labels_drifted_is_reported_and_removed() {
    let world = World::new().await;
    world.connected("b1").await;
    world.sweep().await;
    world.drift("b1", &["Prod"]);
    let report = world.sweep().await;
    assert_eq!((report.drifted, report.removed, report.failures), (1, 1, 0));
    assert!(world.on_github().is_empty());
    assert_eq!(world.status("b1").await, "deleted");
    let events = world.drifts().await;
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!((&event["severity"], &event["user_identity"]), (&json!("high"), &json!("system:sync")));
    assert_eq!((&event["runner_name"], &event["target"]), (&json!("b1"), &json!(ORG)));
    let data = &event["event_data"];
    assert_eq!(data["original_labels"], json!(["linux", "self-hosted", "x64"]));
    assert_eq!(data["current_labels"], json!(["linux", "prod", "self-hosted", "x64"]));
    assert_eq!(done(event), ("idle", "removed"));
    let end = ["label_drift_detected", "deprovision_requested", "deprovisioned"];
    let all = world.events("b1").await;
    assert_eq!(all[all.len() - 3..], end);
    let reasons = "SELECT DISTINCT event_data->>'reason' FROM audit_log
                   WHERE event_type IN ('deprovision_requested', 'deprovisioned')";
    assert_eq!(world.sql(reasons).await, ["label drift"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_one_is_reported_once_left_to_its_job_and_removed_when_a_sweep_finds_it_idle() {
    let world = World::new().await;
    world.connected("b1").await;
    world.github.start_job(ORG, "b1").unwrap();
    world.drift("b1", &["prod"]);
    for _ in 0..3 {
        world.sweep().await;
        assert_eq!((world.status("b1").await, world.drifts().await.len()), ("active".into(), 1));
    }
    assert_eq!(done(&world.drifts().await[0]), ("busy", "reported"));
    assert_eq!(world.github.calls().iter().filter(|call| call.method == "DELETE").count(), 0);

    // The same drift stays known; another one is news.
    world.drift("b1", &["prod", "gpu"]);
    world.sweep().await;
    world.sweep().await;
    assert_eq!(world.drifts().await.len(), 2);

    world.sql("UPDATE runners SET ephemeral = false").await;
    let replaced = Canned::status(200).body(
        &json!({ "total_count": 1, "runners": [{
            "id": world.github.runner(ORG, "b1").unwrap().id, "name": "b1", "os": "Linux", "status": "online",
            "busy": false, "version": "2", "labels": [{ "name": "prod" }, { "name": "gpu" }, { "name": "x64" },
                { "name": "linux" }, { "name": "self-hosted" }],
        }] })
        .to_string(),
    );
    world.github.fail(Fault::new("GET", "per_page=100&page=", Action::Respond(replaced)));
    world.github.fail(Fault::new("DELETE", "/runners/", Action::Respond(Canned::status(204))));
    let report = world.sweep().await;
    assert_eq!((report.drifted, report.removed), (0, 1), "known, and idle now");
    assert_eq!((world.status("b1").await, world.drifts().await.len()), ("deleted".into(), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_one_waits_to_be_idle_and_is_removed_then_if_the_operator_wants_that() {
    let world = World::with(|config| config.broker.drift_deletes_busy = true).await;
    world.connected("b1").await;
    world.github.start_job(ORG, "b1").unwrap();
    world.drift("b1", &["prod"]);
    assert_eq!(world.sweep().await.drifted, 1);
    assert_eq!(world.status("b1").await, "deleting");
    assert_eq!(world.column("b1", "wait_until_idle").await, "t");
    assert_eq!(done(&world.drifts().await[0]), ("busy", "removed_when_idle"));
    // GitHub refuses while the job runs.
    world.pass(61);
    world.sweep().await;
    assert_eq!((world.status("b1").await, world.on_github().len()), ("deleting".into(), 1));
    let finished = Canned::status(204);
    world.github.fail(Fault::new("DELETE", "/runners/", Action::Respond(finished)));
    world.pass(15 * 60);
    assert_eq!(world.sweep().await.removed, 1);
    assert_eq!((world.status("b1").await, world.drifts().await.len()), ("deleted".into(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_gets_a_job_before_github_is_asked_is_left_to_it() {
    let world = World::new().await;
    world.connected("b1").await;
    world.drift("b1", &["prod"]);
    world.github.fail(Fault::new("DELETE", "/runners/", Action::Respond(Canned::status(422))));
    let report = world.sweep().await;
    assert_eq!((report.drifted, report.removed, report.failures), (1, 0, 0));
    assert_eq!(world.status("b1").await, "active");
    assert_eq!(world.on_github(), ["b1"]);
    assert_eq!(world.sweep().await.removed, 1, "idle again");
    assert_eq!(world.drifts().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_took_other_labels_than_granted_has_drifted_when_it_is_first_seen() {
    let world = World::new().await;
    let ask = |name: &str| json!({ "runner_name": name, "labels": ["docker"] });
    for (name, labels) in [("good", ["Docker"]), ("bad", ["prod"])] {
        let answer = world.post("/api/v1/runners/provision", "blue", ask(name)).await;
        let token = answer.str("registration_token");
        world.github.register(ORG, name, &labels, true, token).unwrap();
        world.github.connect(ORG, name).unwrap();
    }
    let report = world.sweep().await;
    assert_eq!((report.moved, report.drifted, report.removed), (2, 1, 1));
    assert_eq!((world.status("good").await, world.status("bad").await), ("active".into(), "deleted".into()));
    assert_eq!(world.on_github(), ["good"]);
    let data = &world.drifts().await[0]["event_data"];
    assert_eq!(data["original_labels"], json!(["docker", "linux", "self-hosted", "x64"]));
    assert_eq!(data["current_labels"], json!(["linux", "prod", "self-hosted", "x64"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_are_right_again_are_forgotten_so_that_the_next_drift_is_news() {
    let world = World::new().await;
    world.connected("b1").await;
    world.github.start_job(ORG, "b1").unwrap();
    for round in 1..=2 {
        world.drift("b1", &["prod"]);
        world.sweep().await;
        assert_eq!(world.drifts().await.len(), round);
        assert_ne!(world.column("b1", "drifted_labels").await, "NULL");
        world.drift("b1", &[]);
        world.sweep().await;
        assert_eq!(world.column("b1", "drifted_labels").await, "NULL");
    }
    assert_eq!(world.status("b1").await, "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_systems_labels_make_no_drift_whatever_the_machine_is() {
    let world = World::new().await;
    let token = world.registration("r1").await;
    world.github.register(ORG, "r1", &[], true, &token).unwrap();
    world.connected("b1").await;
    let id = |name| world.github.runner(ORG, name).unwrap().id;
    let label = |name: &str, kind: &str| json!({ "id": 1, "name": name, "type": kind });
    let mac = [label("self-hosted", "read-only"), label("macOS", "read-only"), label("ARM64", "read-only")];
    let bare: [Value; 0] = [];
    let list = |macs: &[Value]| {
        json!({ "total_count": 2, "runners": [
            { "id": id("r1"), "name": "r1", "status": "online", "version": "2", "labels": macs },
            { "id": id("b1"), "name": "b1", "status": "online", "version": "2", "labels": bare },
        ] })
        .to_string()
    };
    let shown = |macs: &[Value]| {
        let canned = Canned::status(200).body(&list(macs));
        world.github.fail(Fault::new("GET", "per_page=100&page=", Action::Respond(canned)));
    };
    shown(&mac);
    assert_eq!(world.sweep().await.drifted, 0);
    // As a label that somebody gave it, another system's name draws that system's jobs.
    shown(&[mac.as_slice(), &[label("windows", "custom")]].concat());
    assert_eq!(world.sweep().await.drifted, 1);
    assert_eq!(world.drifts().await[0]["runner_name"], "r1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_broke_off_shows_no_drift() {
    let world = World::new().await;
    world.connected("b1").await;
    world.github.plant_many(ORG, "other", 100, &[]).unwrap();
    world.drift("b1", &["prod"]);
    world.github.fail(Fault::new("GET", "&page=2", Action::Respond(Canned::status(500))).times(3));
    let report = world.sweep().await;
    assert_eq!((report.failures, report.drifted, report.unmanaged), (1, 0, 0));
    assert!(world.drifts().await.is_empty());
    assert_eq!(world.sweep().await.drifted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_older_than_the_row_shows_no_drift() {
    let world = World::new().await;
    world.connected("b1").await;
    world.sweep().await;
    world.drift("b1", &["prod"]);
    world.sql("UPDATE runners SET facts_at = now() + interval '1 hour'").await;
    assert_eq!(world.sweep().await.drifted, 0);
    world.pass(3_700);
    assert_eq!(world.sweep().await.drifted, 1);
}
