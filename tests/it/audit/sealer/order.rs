//! What is sealed when: nothing that is not settled, nothing twice, nothing by a former leader.

use runner_broker::broker::Error;
use runner_broker::broker::audit::sealer::Sealer;
use runner_broker::broker::audit::verify::{Against, verify};
use uuid::Uuid;

use super::{Signed, pass, seal, write};
use crate::database::connect;
use crate::support::{World, eventually};

const INSERT: &str = "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity)
                      VALUES (clock_timestamp(), 'x', 'info', true, 'somebody') RETURNING id";

async fn leaves(world: &World) -> Vec<String> {
    world.sql("SELECT event_id FROM audit_tree ORDER BY leaf_index").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_sealed_only_when_nobody_can_commit_before_it() {
    let world = World::new().await;
    seal(&world).await;
    let before = leaves(&world).await;
    let (mut first, _a) = connect(world.database_url()).await;
    let (mut second, _b) = connect(world.database_url()).await;
    let (mut third, _c) = connect(world.database_url()).await;
    let early = first.transaction().await.unwrap();
    let a: i64 = early.query_one(INSERT, &[]).await.unwrap().get(0);
    let late = second.transaction().await.unwrap();
    let b: i64 = late.query_one(INSERT, &[]).await.unwrap().get(0);
    let undone = third.transaction().await.unwrap();
    undone.query_one(INSERT, &[]).await.unwrap();
    late.commit().await.unwrap();
    let sealed = pass(&world).await;
    assert_eq!(leaves(&world).await, before, "the first is under way");
    assert_eq!(sealed.lag.unwrap().events, 1);
    undone.rollback().await.unwrap();
    early.commit().await.unwrap();
    seal(&world).await;
    assert_eq!(leaves(&world).await, [before, vec![a.to_string(), b.to_string()]].concat());
    let outcome = verify(world.broker.store(), &Against::default(), |_, _| {}).await.unwrap();
    assert_eq!((outcome.found, outcome.unsealed), (0, 0), "{:?}", outcome.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_drawn_early_and_committed_late_is_no_plant() {
    let world = World::new().await;
    let (mut client, _connection) = connect(world.database_url()).await;
    let late = client.transaction().await.unwrap();
    let id: i64 = late.query_one(INSERT, &[]).await.unwrap().get(0);
    write(&world, 3).await;
    let lease = world.lease().await;
    let mut sealer = Sealer::at_rest();
    for _ in 0..5 {
        world.broker.seal(&lease, &mut sealer).await.unwrap();
    }
    let horizon = world.sql("SELECT horizon_id FROM audit_seal").await;
    assert!(horizon[0].parse::<i64>().unwrap() < id, "{horizon:?}: the horizon waits for {id}");
    late.commit().await.unwrap();
    seal(&world).await;
    assert_eq!(
        world.sql("SELECT count(*) FROM audit_log WHERE event_type = 'audit_log_tampered'").await,
        ["0"]
    );
    assert!(leaves(&world).await.contains(&id.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_leader_seals_nothing_and_publishes_nothing() {
    let world = World::new().await;
    seal(&world).await;
    write(&world, 5).await;
    let lease = world.lease().await;
    world.sql("UPDATE leases SET expires_at = clock_timestamp() - interval '1 second'").await;
    let whole = "SELECT (SELECT count(*) FROM audit_tree) || ' ' || (SELECT count(*) FROM audit_checkpoints)
                 || ' ' || (SELECT count(*) FROM audit_log) || ' ' || (SELECT horizon_id FROM audit_seal)";
    let before = world.sql(whole).await;
    // Once what there is to do is visible to everyone, the only thing that hinders is the lease.
    eventually("the events are settled", async || {
        world.sql("SELECT bool_and(xid < pg_snapshot_xmin(pg_current_snapshot())) FROM audit_log").await
            == ["t"]
    })
    .await;
    let mut sealer = Sealer::at_rest();
    let outcome = world.broker.seal(&lease, &mut sealer).await;
    assert!(matches!(outcome, Err(Error::LeaseLost)), "{outcome:?}");
    assert_eq!(world.sql(whole).await, before);
    // A successor seals; what the former one remembered does not fit any more, and it has lost the lease anyway.
    world.sql("DELETE FROM leases").await;
    let successor = world.broker.lead(Uuid::now_v7()).await.unwrap().expect("the lease");
    world.broker.seal(&successor, &mut Sealer::at_rest()).await.unwrap();
    assert!(matches!(world.broker.seal(&lease, &mut sealer).await, Ok(_) | Err(Error::LeaseLost)));
    assert_eq!(leaves(&world).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_leader_that_remembers_a_smaller_tree_cries_no_wolf() {
    let world = World::new().await;
    write(&world, 3).await;
    let former = world.lease().await;
    let mut sealer = Sealer::at_rest();
    eventually("the first events are sealed", async || {
        world.broker.seal(&former, &mut sealer).await.expect("a pass").lag.is_some_and(|lag| lag.events == 0)
    })
    .await;
    world.sql("DELETE FROM leases").await;
    let successor = world.broker.lead(Uuid::now_v7()).await.unwrap().expect("the lease");
    write(&world, 3).await;
    eventually("the next events are sealed", async || {
        let pass = world.broker.seal(&successor, &mut Sealer::at_rest()).await;
        pass.expect("a pass").lag.is_some_and(|lag| lag.events == 0)
    })
    .await;
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let outcome = {
        let _here = metrics::set_default_local_recorder(&recorder);
        world.broker.seal(&former, &mut sealer).await
    };
    // With nothing to write it may not even learn that it leads no more.
    assert!(matches!(outcome, Ok(_) | Err(Error::LeaseLost)), "{outcome:?}");
    let told = recorder.handle().render();
    assert!(!told.contains("broker_audit_tampered_total"), "nobody tampered with anything: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_events_are_sealed_in_batches_with_nodes_that_proofs_need() {
    let signed = Signed::new().await;
    let world = &signed.world;
    write(world, 12_345).await;
    let sealed = seal(world).await;
    assert_eq!(sealed.size, 12_346);
    let contiguous = "SELECT min(leaf_index) || ' ' || max(leaf_index) || ' ' || count(*) FROM audit_tree";
    assert_eq!(world.sql(contiguous).await, ["0 12345 12346"]);
    assert_eq!(world.sql("SELECT count(*) FROM audit_nodes WHERE level = 8").await, ["48"]);
    let published = "SELECT count(*) || ' ' || max(tree_size) FROM audit_checkpoints";
    let before = world.sql(published).await;
    assert!(before[0].ends_with(" 12346"), "{before:?}");
    // Nothing new: nothing is written.
    pass(world).await;
    assert_eq!(world.sql(published).await, before);
    write(world, 1).await;
    seal(world).await;
    assert!(world.sql(published).await[0].ends_with(" 12347"));
    let outcome = verify(world.broker.store(), &Against::default(), |_, _| {}).await.unwrap();
    assert_eq!((outcome.sealed, outcome.found), (12_347, 0), "{:?}", outcome.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_comes_later_signs_the_same_tree() {
    use runner_broker::seal::{key::SigningKey, note};
    let world = World::new().await;
    seal(&world).await;
    let latest = "SELECT note FROM audit_checkpoints ORDER BY id DESC LIMIT 1";
    assert!(!note::is_signed(&world.sql(latest).await[0]));
    let key = SigningKey::from_pem(&SigningKey::generate().unwrap()).unwrap();
    let verifier = key.verifier().unwrap();
    world.broker.sign_with(key);
    seal(&world).await;
    assert!(note::read(&world.sql(latest).await[0], Some(&verifier)).is_ok());
    let against = Against { key: Some(verifier), heads: Vec::new() };
    assert_eq!(verify(world.broker.store(), &against, |_, _| {}).await.unwrap().found, 0);
}
