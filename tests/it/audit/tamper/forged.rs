//! A history that is forged as a whole, leaves and checkpoints with it: our sealer does not sign it.

use runner_broker::broker::audit::sealer::Sealer;
use runner_broker::broker::audit::verify::{Against, verify as verify_store};
use runner_broker::seal::key::SigningKey;
use runner_broker::seal::note::{self, Head};
use runner_broker::seal::tree::Frontier;

use super::{by_force, export, finds, record, sealed_world, verify, verify_file};
use crate::audit::sealer::{Signed, pass, seal, write};
use crate::support::{World, eventually};

/// Changes event 17 and its leaf; the roots of the trees of 21 and 31 leaves that come of it.
async fn forge(signed: &Signed) -> Vec<Head> {
    by_force(signed, "UPDATE audit_log SET success = false WHERE id = 17").await;
    let (_, forged) = record(signed, 17).await;
    let hash = hex::encode(forged.leaf_hash().0);
    by_force(signed, &format!("UPDATE audit_tree SET leaf_hash = '\\x{hash}' WHERE event_id = 17")).await;
    let mut tree = Frontier::default();
    let mut heads = Vec::new();
    for id in 1..=31 {
        tree.push(0, record(signed, id).await.1.leaf_hash()).unwrap();
        if [11, 21, 31].contains(&id) {
            heads.push(Head { size: tree.size(), root: tree.root(), settled: None });
        }
    }
    heads
}

async fn is_not_signed(signed: &Signed, how: &str) {
    let world = &signed.world;
    write(world, 3).await;
    let before = world.sql("SELECT count(*) || ' ' || max(id) FROM audit_checkpoints").await;
    let lease = world.lease().await;
    let mut sealer = Sealer::at_rest();
    for _ in 0..2 {
        assert!(world.broker.seal(&lease, &mut sealer).await.is_err(), "{how}");
    }
    assert_eq!(world.sql("SELECT count(*) || ' ' || max(id) FROM audit_checkpoints").await, before, "{how}");
    assert_eq!(world.log("event_type = 'audit_log_tampered'").await.len(), 1, "{how}");
    assert_eq!(verify(signed, &[]).code, 1, "{how}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_history_is_not_signed_by_the_next_leader() {
    let signed = sealed_world().await;
    forge(&signed).await;
    by_force(&signed, "DELETE FROM audit_checkpoints WHERE tree_size > 11").await;
    is_not_signed(&signed, "its checkpoints were deleted").await;
    finds(&verify(&signed, &[]), "the leaves 11 to 30 have no checkpoint", "deleted");

    let signed = sealed_world().await;
    let heads = forge(&signed).await;
    for head in &heads[1..] {
        let (bare, size) = (note::write(*head, None).unwrap(), head.size);
        by_force(&signed, &format!("UPDATE audit_checkpoints SET note = '{bare}' WHERE tree_size = {size}"))
            .await;
    }
    is_not_signed(&signed, "its checkpoints are bare").await;
    finds(&verify(&signed, &[]), "the checkpoint of size 21 is not signed, and one before it is", "bare");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_a_key_is_taken_on_trust_once_and_a_new_key_names_the_old_one() {
    let world = World::new().await;
    seal(&world).await;
    let old = SigningKey::generate().unwrap();
    world.broker.sign_with(SigningKey::from_pem(&old).unwrap());
    seal(&world).await;
    pass(&world).await;
    let moved = world.log("event_type = 'audit_log_moved'").await;
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert_eq!(moved[0]["event_data"]["why"], "the log was sealed without a key before");

    let bare = World::served_by(&world, world.database_url()).await;
    assert!(bare.broker.seal(&world.lease().await, &mut Sealer::at_rest()).await.is_err(), "no key");
    let new = SigningKey::generate().unwrap();
    let stranger = World::served_by(&world, world.database_url()).await;
    let old_vkey = SigningKey::from_pem(&old).unwrap().verifier_key();
    let new = SigningKey::from_pem(&format!("{new}{old_vkey}\n")).unwrap();
    let both = format!("{old_vkey}\n{}", new.verifier_key());
    stranger.broker.sign_with(new);
    write(&world, 3).await;
    let lease = world.lease().await;
    eventually("the new key signs", async || {
        stranger.broker.seal(&lease, &mut Sealer::at_rest()).await.unwrap().events >= 3
    })
    .await;
    assert_eq!(world.log("event_type = 'audit_log_moved'").await.len(), 1);
    let key = runner_broker::seal::key::VerifierKey::parse(&both).unwrap();
    let against = Against { key: Some(key), heads: Vec::new() };
    let outcome = verify_store(world.broker.store(), &against, |_, _| {}).await.unwrap();
    assert_eq!(outcome.found, 0, "{:?}", outcome.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_long_transaction_is_no_finding_though_a_checkpoint_is_younger() {
    let signed = Signed::new().await;
    let world = &signed.world;
    seal(world).await;
    world
        .sql(
            "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity)
             VALUES (clock_timestamp() - interval '15 minutes', 'late', 'info', true, 'somebody')",
        )
        .await;
    // A leader's first pass, which knows of nothing that is settled.
    world.sql("ALTER TABLE audit_seal DISABLE TRIGGER ALL").await;
    world.sql("UPDATE audit_seal SET horizon_id = 0, horizon_xid = 0, horizon_time = NULL").await;
    eventually("it is sealed", async || {
        let mut sealer = Sealer::default();
        world.broker.seal(&world.lease().await, &mut sealer).await.unwrap();
        world.sql("SELECT count(*) FROM audit_tree t JOIN audit_log l ON l.id = t.event_id WHERE event_type = 'late'").await == ["1"]
    })
    .await;
    let ended = verify(&signed, &[]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    signed.save_checkpoint("checkpoint.txt").await;
    assert_eq!(verify_file(&signed, &export(&signed, &[]), &[]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_grows_while_it_is_verified_was_not_cut_off() {
    let signed = sealed_world().await;
    let world = &signed.world;
    by_force(
        &signed,
        "CREATE TABLE t AS SELECT * FROM audit_tree WHERE leaf_index > 20;
         CREATE TABLE c AS SELECT * FROM audit_checkpoints WHERE tree_size > 21;
         DELETE FROM audit_tree WHERE leaf_index > 20; DELETE FROM audit_checkpoints WHERE tree_size > 21",
    )
    .await;
    let (client, _connection) = crate::database::connect(world.database_url()).await;
    client.batch_execute("BEGIN; LOCK TABLE audit_checkpoints").await.unwrap();
    let store = world.broker.store().clone();
    let verifying = tokio::spawn(async move { verify_store(&store, &Against::default(), |_, _| {}).await });
    eventually("it waits", async || {
        world.sql("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'audit_checkpoints'::regclass").await
            != ["0"]
    })
    .await;
    client
        .batch_execute(
            "INSERT INTO audit_tree SELECT * FROM t;
             INSERT INTO audit_checkpoints OVERRIDING SYSTEM VALUE SELECT * FROM c; COMMIT",
        )
        .await
        .unwrap();
    let outcome = verifying.await.unwrap().unwrap();
    assert_eq!((outcome.found, outcome.sealed), (0, 31), "{:?}", outcome.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_claims_a_leaf_beyond_the_tree_is_judged_as_one_that_has_none() {
    let signed = sealed_world().await;
    let file = export(&signed, &[]);
    let text = std::fs::read_to_string(&file).unwrap();
    let line = text.lines().nth(30).unwrap();
    let forged = line.replace("\"id\":31", "\"id\":-7").replace("\"leaf_index\":30", "\"leaf_index\":99");
    assert_ne!(forged, line);
    std::fs::write(&file, format!("{forged}\n{text}")).unwrap();
    finds(&verify_file(&signed, &file, &[]), "event -7 was added and never sealed", "beyond");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_row_with_an_id_is_found() {
    for id in [7, 31] {
        let signed = sealed_world().await;
        by_force(
            &signed,
            &format!(
                "CREATE TABLE more () INHERITS (audit_log);
                 INSERT INTO more SELECT * FROM ONLY audit_log WHERE id = {id}"
            ),
        )
        .await;
        let what = format!("event {id} (leaf {}) is there more than once", id - 1);
        finds(&verify(&signed, &[]), &what, "twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_horizon_goes_back_for_nobody_who_is_held_by_triggers() {
    let signed = sealed_world().await;
    let (client, _connection) = crate::database::connect(signed.world.database_url()).await;
    for statement in [
        "UPDATE audit_seal SET horizon_id = horizon_id - 1",
        "UPDATE audit_seal SET horizon_xid = horizon_xid - 1",
        "DELETE FROM audit_seal",
        "TRUNCATE audit_seal",
    ] {
        let err = client.batch_execute(statement).await.expect_err(statement);
        assert!(err.as_db_error().unwrap().message().contains("only rises"), "{statement}: {err}");
    }
}
