//! `GET /api/v1/admin/sync/status`: who leads, each target's last sweep, and what is overdue.

use runner_broker::dev::github::{Action, Canned, Fault};
use serde_json::{Value, json};

use crate::support::{ORG, World, team};

const STATUS: &str = "/api/v1/admin/sync/status";

async fn world() -> World {
    let world = World::new().await;
    let role = |role: &str| format!("[[{role}]]\nissuer = \"ISSUER\"\nclaims = {{ team = \"{role}\" }}\n");
    world.policy(&format!("{}{}{}", team("blue", ""), role("admin"), role("auditor"))).await;
    world
}

async fn status(world: &World) -> Value {
    let answer = world.get(STATUS, "auditor").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_and_auditors_see_it_and_nobody_else() {
    let world = world().await;
    assert_eq!(world.get(STATUS, "admin").await.status, 200);
    assert_eq!(world.get(STATUS, "auditor").await.status, 200);
    assert_eq!(world.get(STATUS, "blue").await.refusal(), (403, "FORBIDDEN"));
    assert_eq!(world.get(STATUS, "stranger").await.refusal(), (403, "FORBIDDEN"));
    world.broker.flush_refusals().await.unwrap();
    let refused = world.log("event_type = 'access_refused'").await;
    assert!(refused.iter().any(|event| event["subject"] == "blue-user"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_who_leads() {
    let world = world().await;
    let now = status(&world).await;
    assert_eq!(
        (&now["leader"], &now["epoch"], &now["lease_expires_at"]),
        (&json!(null), &json!(0), &json!(null))
    );
    world.lease().await;
    let now = status(&world).await;
    assert_eq!((&now["leader"], &now["epoch"]), (&json!(world.replica), &json!(1)));
    assert!(now["lease_expires_at"].is_string());
    world.sql("UPDATE leases SET expires_at = clock_timestamp() - interval '1 second'").await;
    let now = status(&world).await;
    assert_eq!((&now["leader"], &now["epoch"]), (&json!(null), &json!(1)), "nobody does");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_each_targets_last_sweep_and_why_it_broke_off() {
    let world = world().await;
    assert_eq!(status(&world).await["targets"], json!([]));
    world.connected("b1").await;
    world.sweep().await;
    let target = status(&world).await["targets"][0].clone();
    assert_eq!(
        (&target["target"], &target["result"], &target["error"]),
        (&json!(ORG), &json!("complete"), &json!(null))
    );
    assert_eq!(target["runners_seen"], 1);
    assert!(target["started_at"].as_str() <= target["finished_at"].as_str());

    world.github.fail(Fault::new("GET", "per_page=100&page=", Action::Respond(Canned::status(500))).times(3));
    world.sweep().await;
    let target = status(&world).await["targets"][0].clone();
    assert_eq!(target["result"], "incomplete");
    assert!(target["error"].as_str().unwrap().contains("GitHub is unavailable"), "{target}");
    assert_eq!(target["runners_seen"], 1);
    world.sweep().await;
    let target = status(&world).await["targets"][0].clone();
    assert_eq!((&target["result"], &target["error"]), (&json!("complete"), &json!(null)));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_what_is_overdue() {
    let world = world().await;
    let calm = json!({ "interrupted_provisions": 0, "deletions_waiting": 0, "start_deadlines_passed": 0, "targets": [] });
    for name in ["died", "waits", "late"] {
        assert_eq!(world.jit(name).await.status, 201);
    }
    world.sweep().await;
    assert_eq!(status(&world).await["overdue"], calm);
    world.sql("UPDATE runners SET status = 'requested' WHERE name = 'died'").await;
    world.sql("UPDATE runners SET status = 'deleting', deleting_from = 'active' WHERE name = 'waits'").await;
    world.pass(3 * 120 - 1);
    let overdue = status(&world).await["overdue"].clone();
    assert_eq!(
        overdue,
        json!({ "interrupted_provisions": 1, "deletions_waiting": 1, "start_deadlines_passed": 0, "targets": [] })
    );
    world.pass(3_600);
    let overdue = status(&world).await["overdue"].clone();
    assert_eq!(
        overdue,
        json!({ "interrupted_provisions": 1, "deletions_waiting": 1, "start_deadlines_passed": 1, "targets": [ORG] })
    );
    world.sweep().await;
    world.pass(1);
    world.sweep().await;
    assert_eq!(status(&world).await["overdue"], calm);
}
