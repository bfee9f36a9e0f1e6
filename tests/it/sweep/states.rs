//! The sweep: what GitHub lists moves our rows, and nothing else does.

use runner_broker::dev::github::{Action, Canned, Fault};
use serde_json::json;

use crate::support::{ORG, REPO, World};

/// The path of a page of the sweep's list.
const LIST: &str = "runners?per_page=100&page=";

impl World {
    /// One column of the newest row of this name.
    pub async fn column(&self, name: &str, column: &str) -> String {
        let query = format!("SELECT {column} FROM runners WHERE name = '{name}' ORDER BY id DESC LIMIT 1");
        self.sql(&query).await.pop().unwrap_or_default()
    }

    /// A registration of team blue's; its token.
    pub async fn registration(&self, name: &str) -> String {
        let answer = self.post("/api/v1/runners/provision", "blue", json!({ "runner_name": name })).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.str("registration_token").to_owned()
    }

    /// A JIT runner of team blue's that has connected.
    pub async fn connected(&self, name: &str) {
        let answer = self.jit(name).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        self.github.connect(ORG, name).expect("a runner");
    }

    /// The moves in the log of the runner of this name: `from>to`, oldest first.
    pub async fn moves(&self, name: &str) -> Vec<String> {
        let query = format!(
            "SELECT event_data->>'from' || '>' || (event_data->>'to') FROM audit_log
             WHERE runner_name = '{name}' AND event_type = 'runner_state_changed' ORDER BY id"
        );
        self.sql(&query).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_what_github_shows_and_each_change_of_state_is_one_event() {
    let world = World::new().await;
    world.jit("b1").await;
    world.sweep().await;
    assert_eq!(world.status("b1").await, "pending");
    assert_eq!(world.column("b1", "last_seen_at").await, "NULL");

    let life: [(&str, &dyn Fn()); 4] = [
        ("active", &|| world.github.connect(ORG, "b1").unwrap()),
        ("offline", &|| world.github.disconnect(ORG, "b1").unwrap()),
        ("active", &|| world.github.connect(ORG, "b1").unwrap()),
        ("active", &|| world.github.start_job(ORG, "b1").unwrap()),
    ];
    for (status, happens) in life {
        happens();
        let report = world.sweep().await;
        assert_eq!((report.seen, report.failures), (1, 0));
        assert_eq!(world.status("b1").await, status);
        world.sweep().await;
    }
    assert_eq!(world.column("b1", "busy").await, "t");
    assert_eq!(world.moves("b1").await, ["pending>active", "active>offline", "offline>active"]);
    let system = "SELECT DISTINCT user_identity FROM audit_log WHERE event_type = 'runner_state_changed'";
    assert_eq!(world.sql(system).await, ["system:sync"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn last_seen_at_follows_each_sweep_that_shows_a_runner_online() {
    let world = World::new().await;
    world.connected("b1").await;
    world.sweep().await;
    let first = world.column("b1", "last_seen_at").await;
    world.pass(60);
    world.sweep().await;
    let second = world.column("b1", "last_seen_at").await;
    assert!(first < second, "{first} {second}");
    world.github.disconnect(ORG, "b1").unwrap();
    world.pass(60);
    world.sweep().await;
    assert_eq!(world.column("b1", "last_seen_at").await, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_of_the_registration_flow_is_found_by_its_name_whatever_its_case() {
    let world = World::new().await;
    let token = world.registration("Reg-1").await;
    world.sweep().await;
    assert_eq!(world.status("Reg-1").await, "pending");
    assert_eq!(world.column("Reg-1", "registered_at").await, "NULL");

    let id = world.github.register(ORG, "reg-1", &["linux"], true, &token).unwrap();
    world.sweep().await;
    assert_eq!(world.status("Reg-1").await, "offline");
    assert_eq!(world.column("Reg-1", "github_runner_id").await, id.to_string());
    assert_ne!(world.column("Reg-1", "registered_at").await, "NULL");
    world.github.connect(ORG, "reg-1").unwrap();
    world.sweep().await;
    assert_eq!(world.moves("Reg-1").await, ["pending>offline", "offline>active"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_gone_only_when_two_whole_lists_in_a_row_have_missed_it() {
    let world = World::new().await;
    world.connected("b1").await;
    world.connected("b2").await;
    world.sweep().await;
    world.github.remove(ORG, "b1").unwrap();
    world.sweep().await;
    assert_eq!(world.status("b1").await, "active");
    assert_eq!(world.column("b1", "missed_sweeps").await, "1");
    world.github.clear_calls();
    world.sweep().await;
    // The second list was the same, and counts all the same.
    let listed: Vec<_> = world.github.calls().into_iter().filter(|call| call.path.contains(LIST)).collect();
    assert_eq!(listed.iter().map(|call| call.status).collect::<Vec<_>>(), [Some(304)]);
    assert_eq!(world.status("b1").await, "deleted");
    assert_ne!(world.column("b1", "deleted_at").await, "NULL");
    assert_eq!(world.moves("b1").await, ["pending>active", "active>deleted"]);
    assert_eq!(world.status("b2").await, "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_list_misses_that_shows_fewer_than_there_are_is_asked_for_by_id() {
    let world = World::new().await;
    world.connected("b1").await;
    world.connected("b2").await;
    world.sweep().await;
    world.github.remove(ORG, "b2").unwrap();
    // A runner went while the pages were read, and another one moved up to a page that was read already.
    for _ in 0..3 {
        let shifted = Canned::status(200).body(r#"{"total_count": 3, "runners": []}"#);
        world.github.fail(Fault::new("GET", LIST, Action::Respond(shifted)));
        world.sweep().await;
    }
    assert_eq!((world.status("b1").await.as_str(), world.status("b2").await.as_str()), ("active", "deleted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_one_list_missed_and_the_next_shows_is_not_nearer_to_its_end() {
    let world = World::new().await;
    world.connected("b1").await;
    world.sweep().await;
    for _ in 0..3 {
        let empty = Canned::status(200).body(r#"{"total_count": 0, "runners": []}"#);
        world.github.fail(Fault::new("GET", LIST, Action::Respond(empty)));
        world.sweep().await;
        assert_eq!(world.column("b1", "missed_sweeps").await, "1");
        world.sweep().await;
        assert_eq!(world.column("b1", "missed_sweeps").await, "0");
    }
    assert_eq!(world.moves("b1").await, ["pending>active"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_made_while_the_list_is_read_is_not_missed() {
    let world = World::new().await;
    world.jit("b1").await;
    let empty = Canned::status(200).body(r#"{"total_count": 0, "runners": []}"#);
    for round in 0..2 {
        // A list that was true before b2 was made arrives after.
        world.github.fail(Fault::new("GET", LIST, Action::Delay { millis: 400 }));
        let name = format!("late{round}");
        let (report, made) = tokio::join!(world.sweep(), async {
            while !world.github.calls().iter().any(|call| call.path.contains(LIST) && call.status.is_none()) {
                tokio::task::yield_now().await;
            }
            world.jit(&name).await
        });
        assert_eq!((report.failures, made.status), (0, 201));
        assert_eq!(world.column(&name, "missed_sweeps").await, "0");
        world.github.clear_calls();
    }
    world.github.fail(Fault::new("GET", LIST, Action::Respond(empty)));
    world.sweep().await;
    assert_eq!(world.column("late0", "missed_sweeps").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_three_pages_is_read_whole_and_one_that_breaks_off_changes_nothing() {
    let world = World::new().await;
    for i in 0..250 {
        world.github.plant(ORG, &format!("other-{i}"), &[], false).unwrap();
    }
    world.connected("b1").await;
    let last = format!("{LIST}3");
    world.github.fail(Fault::new("GET", &last, Action::Respond(Canned::status(500))).times(3));
    let report = world.sweep().await;
    assert_eq!((report.seen, report.failures), (0, 1));
    assert_eq!(world.status("b1").await, "pending");
    assert!(world.sql("SELECT page FROM github_runners_cache").await.is_empty());

    let report = world.sweep().await;
    assert_eq!((report.seen, report.failures, report.moved), (251, 0, 1));
    assert_eq!(world.status("b1").await, "active");
    world.github.clear_calls();
    assert_eq!(world.sweep().await.seen, 251);
    assert!(world.github.calls().iter().all(|call| call.status == Some(304)));
    assert_eq!(world.sql("SELECT page FROM github_runners_cache ORDER BY page").await, ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_older_than_what_a_row_knows_does_not_move_it() {
    let world = World::new().await;
    world.connected("b1").await;
    for i in 0..100 {
        world.github.plant(ORG, &format!("other-{i}"), &[], false).unwrap();
    }
    world.sweep().await;
    // Page 1 says idle; while page 2 is on its way the runner gets a job, and a refresh sees so.
    let second = format!("{LIST}2");
    world.github.fail(Fault::new("GET", &second, Action::Delay { millis: 500 }));
    world.github.clear_calls();
    let (_, refreshed) = tokio::join!(world.sweep(), async {
        while !world.github.calls().iter().any(|call| call.path.contains(&second)) {
            tokio::task::yield_now().await;
        }
        world.github.start_job(ORG, "b1").unwrap();
        world.post("/api/v1/runners/b1/refresh", "blue", json!({})).await
    });
    assert_eq!((refreshed.status, &refreshed.body["busy"]), (200, &json!(true)));
    assert_eq!(world.column("b1", "busy").await, "t");
    assert_eq!(world.moves("b1").await, ["pending>active"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_knows_something_newer_keeps_it() {
    let world = World::new().await;
    world.connected("b1").await;
    world.sweep().await;
    world.sql("UPDATE runners SET facts_at = now() + interval '1 hour'").await;
    world.github.disconnect(ORG, "b1").unwrap();
    world.sweep().await;
    assert_eq!(world.status("b1").await, "active");
    world.pass(3_700);
    world.sweep().await;
    assert_eq!(world.status("b1").await, "offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_asks_github_now_and_a_404_is_the_end_at_once() {
    let world = World::new().await;
    world.connected("b1").await;
    let answer = world.post("/api/v1/runners/b1/refresh", "blue", json!({})).await;
    assert_eq!((answer.status, answer.str("status")), (200, "active"), "{}", answer.text);
    world.github.remove(ORG, "b1").unwrap();
    let answer = world.post("/api/v1/runners/b1/refresh", "blue", json!({})).await;
    assert_eq!((answer.status, answer.str("status")), (200, "deleted"));
    assert_eq!(world.moves("b1").await, ["pending>active", "active>deleted"]);

    world.registration("r1").await;
    let answer = world.post("/api/v1/runners/r1/refresh", "blue", json!({})).await;
    assert_eq!((answer.status, answer.str("status")), (200, "pending"), "nobody has used it yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_fails_does_not_keep_the_others_waiting() {
    let world = World::new().await;
    world.connected("b1").await;
    let body = json!({ "runner_name": "r1", "repository": REPO });
    assert_eq!(world.post("/api/v1/runners/jit", "blue", body).await.status, 201);
    world.github.connect(REPO, "r1").unwrap();
    let org = format!("/orgs/{ORG}/actions/{LIST}");
    world.github.fail(Fault::new("GET", &org, Action::Respond(Canned::status(500))).times(3));
    let report = world.sweep().await;
    assert_eq!((report.failures, report.moved), (1, 1));
    assert_eq!((world.status("b1").await, world.status("r1").await), ("pending".into(), "active".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_tell_of_sweeps() {
    let world = World::new().await;
    world.connected("b1").await;
    world.sweep().await;
    let text = world.get("/metrics", "blue").await.text;
    for metric in [
        r#"broker_sweeps_total{result="complete"}"#,
        "broker_sweep_duration_seconds_count",
        "broker_sweep_last_complete_timestamp_seconds",
        "broker_sweep_runners_seen",
        r#"broker_sweep_rows_total{what="moved"}"#,
    ] {
        assert!(text.contains(metric), "{metric} in:\n{text}");
    }
}
