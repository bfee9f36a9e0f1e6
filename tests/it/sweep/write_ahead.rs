//! What the sweep takes off GitHub is in the log before GitHub is asked: a crash in between loses no event, and
//! trying again writes none twice. Two calls about one runner don't call each other off.

use runner_broker::config::Unmanaged;
use runner_broker::dev::github::{Action, Canned, Fault};

use crate::database::connect;
use crate::support::{ORG, World, eventually};

async fn count(world: &World, event_type: &str) -> usize {
    world.log(&format!("event_type = '{event_type}'")).await.len()
}

/// GitHub does not answer these: what was to be written after them is not written.
fn no_deletes(world: &World) {
    world.github.fail(Fault::new("DELETE", "/runners/", Action::Respond(Canned::status(503))).always());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphans_event_is_written_before_it_is_removed_and_once() {
    let world = World::new().await;
    assert_eq!(world.jit("b1").await.status, 201);
    world
        .sql("UPDATE runners SET status = 'failed', updated_at = now(), may_appear = true, github_runner_id = NULL")
        .await;
    no_deletes(&world);
    for _ in 0..2 {
        let report = world.sweep().await;
        assert_eq!((report.orphans, report.failures), (0, 1));
        assert_eq!(count(&world, "orphan_removed").await, 1);
    }
    world.github.clear_faults();
    assert_eq!(world.sweep().await.orphans, 1);
    assert_eq!(count(&world, "orphan_removed").await, 1);
    assert!(world.on_github().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn so_is_a_drifted_runners() {
    let world = World::new().await;
    world.connected("b1").await;
    world.drift("b1", &["prod"]);
    no_deletes(&world);
    assert_eq!(world.sweep().await.failures, 1);
    assert_eq!(count(&world, "label_drift_detected").await, 1);
    assert_eq!(count(&world, "deprovision_requested").await, 1);
    assert_eq!(world.status("b1").await, "deleting");
    world.github.clear_faults();
    world.pass(120);
    assert_eq!(world.sweep().await.removed, 1);
    assert_eq!(count(&world, "label_drift_detected").await, 1);
    let reason = "SELECT event_data->>'reason' FROM audit_log WHERE event_type = 'deprovisioned'";
    assert_eq!(world.sql(reason).await, ["label drift"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn so_is_an_unmanaged_runners() {
    let world = World::with(|config| config.broker.unmanaged_runners = Unmanaged::Remove).await;
    world.github.plant(ORG, "new", &[], false).unwrap();
    world.github.plant(ORG, "old", &[], false).unwrap();
    world.github.connect(ORG, "old").unwrap();
    world.github.start_job(ORG, "old").unwrap();
    no_deletes(&world);
    world.sweep().await;
    world.github.finish_job(ORG, "old").unwrap();
    for _ in 0..2 {
        assert_eq!(world.sweep().await.failures, 2);
        assert_eq!(count(&world, "unmanaged_runner_detected").await, 2);
        assert_eq!(count(&world, "unmanaged_runner_removed").await, 1);
    }
    world.github.clear_faults();
    assert_eq!(world.sweep().await.removed, 2);
    assert_eq!(count(&world, "unmanaged_runner_removed").await, 1);
    assert!(world.on_github().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_delete_heeds_a_wish_that_is_being_written_while_it_hears_that_the_runner_is_busy() {
    let world = World::new().await;
    world.connected("b1").await;
    world.github.start_job(ORG, "b1").unwrap();
    world.github.fail(Fault::new("DELETE", "/runners/", Action::ActThenDelay { millis: 700 }));
    let (answer, ()) = tokio::join!(world.delete("/api/v1/runners/b1", "blue"), async {
        eventually("the DELETE", async || world.github.calls().iter().any(|call| call.method == "DELETE"))
            .await;
        // Another call's wish, not committed when the refusal is written.
        let (client, _connection) = connect(world.database_url()).await;
        client.batch_execute("BEGIN; UPDATE runners SET wait_until_idle = true").await.unwrap();
        let waits = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("the refusal waits", async || world.sql(waits).await == ["1"]).await;
        client.batch_execute("COMMIT").await.unwrap();
    });
    assert_eq!(answer.refusal(), (409, "RUNNER_BUSY"));
    assert_eq!(world.status("b1").await, "deleting");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_to_wait_holds_although_a_plain_delete_gave_the_runner_back_meanwhile() {
    let world = World::new().await;
    world.connected("b1").await;
    world.github.start_job(ORG, "b1").unwrap();
    world.github.fail(Fault::new("DELETE", "/runners/", Action::ActThenDelay { millis: 500 }));
    world.github.fail(Fault::new("DELETE", "/runners/", Action::ActThenDelay { millis: 1_200 }));
    let (plain, forced) = tokio::join!(world.delete("/api/v1/runners/b1", "blue"), async {
        eventually("the first DELETE", async || {
            world.github.calls().iter().any(|call| call.method == "DELETE")
        })
        .await;
        world.delete("/api/v1/runners/b1?force_when_idle=true", "blue").await
    });
    assert_eq!(plain.refusal(), (409, "RUNNER_BUSY"), "{}", plain.text);
    assert_eq!((forced.status, forced.str("status")), (202, "deleting"), "{}", forced.text);
    assert_eq!(world.status("b1").await, "deleting");
    assert_eq!(world.column("b1", "wait_until_idle").await, "t");
}
