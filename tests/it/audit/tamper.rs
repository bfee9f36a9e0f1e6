//! A superuser who disables the triggers: every change of sealed events is found, with the first bad event
//! named; in the database, in an export, and by checkpoints that were kept elsewhere.

mod altered;
mod forged;
mod offline;

use runner_broker::seal::note;

use super::sealer::{Signed, pass, seal, write};
use crate::cli::commands::{Ended, runner_broker};
use crate::database::connect;

/// Does it as nobody may.
async fn by_force(signed: &Signed, statements: &str) {
    let (client, _connection) = connect(signed.world.database_url()).await;
    let forced = format!("SET session_replication_role = replica; {statements}");
    client.batch_execute(&forced).await.unwrap_or_else(|err| panic!("{statements}: {err:?}"));
}

/// Event 1 is the world's policy; 2 to 31 were written by somebody and sealed in three parts.
async fn sealed_world() -> Signed {
    let signed = Signed::new().await;
    for _ in 0..3 {
        write(&signed.world, 10).await;
        seal(&signed.world).await;
    }
    assert_eq!(signed.world.sql("SELECT max(id) || ' ' || count(*) FROM audit_log").await, ["31 31"]);
    signed.save_checkpoint("checkpoint.txt").await;
    signed
}

fn verify(signed: &Signed, arguments: &[&str]) -> Ended {
    let key = signed.path_text("audit.vkey");
    let fixed = ["verify-audit-log", "--key", &key];
    runner_broker(&[&fixed, arguments].concat(), &[("DATABASE_URL", signed.world.database_url().to_owned())])
}

/// Exports all of it; the file.
fn export(signed: &Signed, arguments: &[&str]) -> String {
    let file = signed.path_text("audit.jsonl");
    let fixed = ["export-audit-log", "--since", "2020-01-01", "--format", "jsonl", "--output", &file];
    let environment = [("DATABASE_URL", signed.world.database_url().to_owned())];
    let ended = runner_broker(&[&fixed, arguments].concat(), &environment);
    assert_eq!(ended.code, 0, "{}", ended.err);
    file
}

fn verify_file(signed: &Signed, file: &str, arguments: &[&str]) -> Ended {
    let (key, checkpoint) = (signed.path_text("audit.vkey"), signed.path_text("checkpoint.txt"));
    let fixed = ["verify-audit-log", "--file", file, "--checkpoint", &checkpoint, "--key", &key];
    // Nothing else: no database.
    runner_broker(&[&fixed, arguments].concat(), &[])
}

#[track_caller]
fn finds(ended: &Ended, what: &str, how: &str) {
    assert_eq!(ended.code, 1, "{how}: {}{}", ended.out, ended.err);
    let mut lines = ended.err.lines().skip_while(|line| !line.contains("verification FAILED: "));
    let first = lines.nth(1).unwrap_or_default();
    assert!(first.contains(what), "{how}: wanted '{what}'\n{}", ended.err);
}

/// Changes, and the first bad event as the verifier names it.
const CHANGES: &[(&str, &str)] = &[
    ("UPDATE audit_log SET success = false WHERE id = 7", "event 7 (leaf 6) was changed"),
    ("UPDATE audit_log SET event_type = 'e0' WHERE id IN (9, 8)", "event 8 (leaf 7) was changed"),
    ("UPDATE audit_log SET timestamp = timestamp + interval '1 microsecond' WHERE id = 2", "event 2 (leaf 1) was changed"),
    ("UPDATE audit_log SET event_data = '{\"n\": 3.0}' WHERE id = 4", "event 4 (leaf 3) was changed"),
    ("UPDATE audit_log SET runner_id = gen_random_uuid() WHERE id = 31", "event 31 (leaf 30) was changed"),
    ("UPDATE audit_log SET subject = '' WHERE id = 12", "event 12 (leaf 11) was changed"),
    ("UPDATE audit_log SET xid = '3' WHERE id = 5", "event 5 (leaf 4) was changed"),
    ("DELETE FROM audit_log WHERE id = 1", "event 1 (leaf 0) was removed"),
    ("DELETE FROM audit_log WHERE id IN (15, 16)", "event 15 (leaf 14) was removed"),
    ("DELETE FROM audit_log WHERE id = 31", "event 31 (leaf 30) was removed"),
    (
        "UPDATE audit_log a SET (event_type, event_data) = (SELECT event_type, event_data FROM audit_log b
             WHERE b.id = 33 - a.id) WHERE id IN (13, 20)",
        "event 13 (leaf 12) was changed",
    ),
    (
        "ALTER TABLE audit_log ALTER id DROP IDENTITY; UPDATE audit_log SET id = -6 WHERE id = 6;
         UPDATE audit_log SET id = 6 WHERE id = 10; UPDATE audit_log SET id = 10 WHERE id = -6;
         ALTER TABLE audit_log ALTER id ADD GENERATED ALWAYS AS IDENTITY (START 32)",
        "event 6 (leaf 5) was changed",
    ),
    (
        "UPDATE audit_tree SET event_id = -6 WHERE event_id = 6; UPDATE audit_tree SET event_id = 6 WHERE event_id = 10;
         UPDATE audit_tree SET event_id = 10 WHERE event_id = -6",
        "event 10 (leaf 5) was moved: it was sealed as leaf 9",
    ),
    (
        "DELETE FROM audit_log WHERE id = 14; DELETE FROM audit_tree WHERE event_id = 14",
        "the event of leaf 13 was removed, with its leaf after event 13",
    ),
    (
        "DELETE FROM audit_log WHERE id > 25; DELETE FROM audit_tree WHERE event_id > 25",
        "the first event that was removed is that of leaf 25",
    ),
    (
        "DELETE FROM audit_log WHERE id = 14; DELETE FROM audit_tree WHERE event_id = 14;
         UPDATE audit_tree SET leaf_index = leaf_index + 1000 WHERE leaf_index > 13;
         UPDATE audit_tree SET leaf_index = leaf_index - 1001 WHERE leaf_index > 999",
        "one of the events 12 to 22 (leaves 11 to 20)",
    ),
    (
        "UPDATE audit_checkpoints SET note = replace(note, E'\\n21\\n', E'\\n20\\n') WHERE tree_size = 21",
        "the checkpoint of size 21 was changed",
    ),
    (
        "INSERT INTO audit_log (id, timestamp, event_type, severity, success, user_identity)
             OVERRIDING SYSTEM VALUE VALUES (-3, now(), 'planted', 'info', true, 'nobody')",
        "event -3 was added",
    ),
    (
        "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity)
             VALUES (now() - interval '3 days', 'planted', 'info', true, 'nobody')",
        "event 32 was added and never sealed: it is dated before what was sealed",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_changed_by_force_is_found_and_named() {
    let clean = sealed_world().await;
    let ended = verify(&clean, &[]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "31 events verified\n"), "{}", ended.err);
    drop(clean);
    for (change, what) in CHANGES {
        let signed = sealed_world().await;
        by_force(&signed, change).await;
        let before = signed.world.sql("SELECT a::text FROM audit_log a").await;
        finds(&verify(&signed, &[]), what, change);
        assert_eq!(signed.world.sql("SELECT a::text FROM audit_log a").await, before, "it writes nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_and_its_leaf_changed_alike_are_found_by_the_signed_checkpoints() {
    let signed = sealed_world().await;
    by_force(&signed, "UPDATE audit_log SET success = false WHERE id = 17").await;
    // His own sealer computes the leaf anew.
    let (id, record) = record(&signed, 17).await;
    let hash = hex::encode(record.leaf_hash().0);
    by_force(&signed, &format!("UPDATE audit_tree SET leaf_hash = '\\x{hash}' WHERE event_id = {id}")).await;
    finds(
        &verify(&signed, &[]),
        "one of the events 12 to 21 (leaves 11 to 20) is not what was sealed",
        "alike",
    );
    finds(&verify_file(&signed, &export(&signed, &[]), &[]), "one of the events 1 to 31", "alike, offline");
}

async fn record(signed: &Signed, id: i64) -> (i64, runner_broker::seal::record::Record) {
    let mut conn = signed.world.broker.store().conn().await.unwrap();
    runner_broker::store::audit_sealing::records(&mut conn, &[id]).await.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_that_he_signs_with_another_key_convince_nobody() {
    use runner_broker::seal::key::SigningKey;
    let signed = sealed_world().await;
    let other = SigningKey::from_pem(&SigningKey::generate().unwrap()).unwrap();
    let text = signed.world.sql("SELECT note FROM audit_checkpoints WHERE tree_size = 31").await.remove(0);
    let head = note::read(&text, None).unwrap();
    let forged = note::write(head, Some(&other)).unwrap();
    by_force(&signed, &format!("UPDATE audit_checkpoints SET note = '{forged}' WHERE tree_size = 31")).await;
    finds(&verify(&signed, &[]), "not signed by the key", "another key");
    let bare = note::write(head, None).unwrap();
    by_force(&signed, &format!("UPDATE audit_checkpoints SET note = '{bare}' WHERE tree_size = 31")).await;
    finds(&verify(&signed, &[]), "the checkpoint of size 31 is not signed, and one before it is", "no key");
    std::fs::write(signed.path("checkpoint.txt"), &bare).unwrap();
    let ended = verify_file(&signed, &export(&signed, &[]), &[]);
    assert!(ended.code == 1 && ended.err.contains("not signed"), "{}", ended.err);
}

/// Events that are planted before the sealer runs. Each never gets a leaf, is reported once, and found ever after.
const PLANTS: &[&str] = &[
    // Back-dated.
    "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity)
         VALUES (now() - interval '3 days', 'planted', 'info', true, 'nobody')",
    // With an id that is free, below the head.
    "INSERT INTO audit_log (id, timestamp, event_type, severity, success, user_identity)
         OVERRIDING SYSTEM VALUE VALUES (32, now(), 'planted', 'info', true, 'nobody')",
    // As if by a transaction of old, with an id that is new.
    "INSERT INTO audit_log (xid, timestamp, event_type, severity, success, user_identity)
         SELECT xid, now(), 'planted', 'info', true, 'nobody' FROM audit_log WHERE id = 5",
    // As if by one that is yet to come.
    "INSERT INTO audit_log (xid, timestamp, event_type, severity, success, user_identity)
         VALUES ('99999999', now(), 'planted', 'info', true, 'nobody')",
    // With an id that nobody drew.
    "INSERT INTO audit_log (id, timestamp, event_type, severity, success, user_identity)
         OVERRIDING SYSTEM VALUE VALUES (1000000000, now(), 'planted', 'info', true, 'nobody')",
    // At no time at all.
    "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity)
         VALUES ('-infinity', 'planted', 'info', true, 'nobody')",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_row_is_reported_and_never_sealed() {
    for plant in PLANTS {
        let signed = sealed_world().await;
        // An id that a transaction drew and never used.
        signed.world.sql("SELECT nextval('audit_log_id_seq')").await;
        write(&signed.world, 3).await;
        seal(&signed.world).await;
        by_force(&signed, plant).await;
        let id = signed.world.sql("SELECT id FROM audit_log WHERE event_type = 'planted'").await.remove(0);
        crate::support::eventually("the report", async || {
            pass(&signed.world).await;
            !signed.world.log("event_type = 'audit_log_tampered'").await.is_empty()
        })
        .await;
        write(&signed.world, 3).await;
        seal(&signed.world).await;
        let reports =
            signed.world.log("event_type = 'audit_log_tampered' AND event_data->'event_ids' <> '[]'").await;
        assert_eq!(reports.len(), 1, "{plant}");
        assert_eq!(reports[0]["event_data"]["event_ids"].to_string(), format!("[{id}]"));
        assert_eq!((&reports[0]["severity"], &reports[0]["success"]), (&"high".into(), &false.into()));
        let sealed =
            signed.world.sql(&format!("SELECT count(*) FROM audit_tree WHERE event_id = {id}")).await;
        assert_eq!(sealed, ["0"], "{plant}");
        let ended = verify(&signed, &[]);
        assert!(
            ended.code == 1 && ended.err.contains(&format!("event {id} was added")),
            "{plant}\n{}",
            ended.err
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_rolled_back_is_found_by_a_checkpoint_from_before() {
    let signed = sealed_world().await;
    // Before the last ten events there was a copy, with all that belonged to it.
    let rollback = "DELETE FROM audit_log WHERE id > 21; DELETE FROM audit_tree WHERE event_id > 21;
                    DELETE FROM audit_checkpoints WHERE tree_size > 21;
                    UPDATE audit_seal SET horizon_id = 21";
    by_force(&signed, rollback).await;
    let previous = signed.path_text("checkpoint.txt");
    assert_eq!(verify(&signed, &[]).code, 0, "it is whole in itself");
    let gone = "the first event that was removed is that of leaf 21";
    finds(&verify(&signed, &["--previous", &previous]), gone, "shorter");
    let before = signed.save_checkpoint("rolled-back.txt").await;
    let file = export(&signed, &[]);
    let key = signed.path_text("audit.vkey");
    let offline = [
        "verify-audit-log",
        "--file",
        &file,
        "--checkpoint",
        &before,
        "--previous",
        &previous,
        "--key",
        &key,
    ];
    finds(&runner_broker(&offline, &[]), gone, "shorter, offline");
    // It grew again beyond the old size: other events stand where those were.
    write(&signed.world, 30).await;
    seal(&signed.world).await;
    let other = "is not what the previous checkpoint (size 31) says";
    finds(&verify(&signed, &["--previous", &previous]), other, "grown again");
    signed.save_checkpoint("checkpoint.txt.new").await;
    std::fs::copy(signed.path("checkpoint.txt"), signed.path("previous.txt")).unwrap();
    std::fs::copy(signed.path("checkpoint.txt.new"), signed.path("checkpoint.txt")).unwrap();
    let ended =
        verify_file(&signed, &export(&signed, &[]), &["--previous", &signed.path_text("previous.txt")]);
    finds(&ended, "is not what the previous checkpoint (size 31) says", "grown again, offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sealer_publishes_nothing_that_denies_what_it_published() {
    let signed = sealed_world().await;
    by_force(&signed, "DELETE FROM audit_log WHERE id > 25; DELETE FROM audit_tree WHERE event_id > 25")
        .await;
    write(&signed.world, 10).await;
    let lease = signed.world.lease().await;
    let mut sealer = runner_broker::broker::audit::sealer::Sealer::at_rest();
    assert!(signed.world.broker.seal(&lease, &mut sealer).await.is_err());
    assert_eq!(signed.world.log("event_type = 'audit_log_tampered'").await.len(), 1);
    assert_eq!(signed.world.sql("SELECT max(tree_size) FROM audit_checkpoints").await, ["31"]);
    assert_eq!(signed.world.sql("SELECT max(leaf_index) FROM audit_tree").await, ["24"]);
    finds(&verify(&signed, &[]), "the first event that was removed is that of leaf 25", "cut off");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_is_missing_is_reported_before_anything_is_built_on_it() {
    let signed = sealed_world().await;
    by_force(&signed, "DELETE FROM audit_log WHERE id = 9; DELETE FROM audit_tree WHERE event_id = 9").await;
    write(&signed.world, 3).await;
    let lease = signed.world.lease().await;
    let mut sealer = runner_broker::broker::audit::sealer::Sealer::at_rest();
    for _ in 0..2 {
        assert!(signed.world.broker.seal(&lease, &mut sealer).await.is_err());
    }
    let reports = signed.world.log("event_type = 'audit_log_tampered'").await;
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(signed.world.sql("SELECT max(leaf_index) FROM audit_tree").await, ["30"]);
    finds(&verify(&signed, &[]), "the event of leaf 8 was removed, with its leaf after event 8", "torn");
}

#[test]
fn a_key_is_made_for_its_owner_alone_and_shown_to_auditors() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.key").display().to_string();
    let made = runner_broker(&["audit-key", "generate", "--output", &path], &[]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(
        made.out.starts_with("runner-broker/audit-log+") && made.out.lines().count() == 1,
        "{}",
        made.out
    );
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(runner_broker(&["audit-key", "show", &path], &[]).out, made.out);
    let again = runner_broker(&["audit-key", "generate", "--output", &path], &[]);
    assert!(again.code == 1 && again.err.contains("exists"), "{}", again.err);

    let environment = |value: &str| {
        let mut environment = crate::cli::commands::environment();
        environment.push(("AUDIT_SIGNING_KEY_PATH", value.to_owned()));
        environment
    };
    std::fs::write(
        folder.path().join("bad.key"),
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    )
    .unwrap();
    for bad in ["/nowhere/audit.key", &folder.path().join("bad.key").display().to_string()] {
        let ended = runner_broker(&["serve"], &environment(bad));
        assert!(ended.code == 2 && ended.err.contains("AUDIT_SIGNING_KEY_PATH"), "{bad}: {}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_proofs_are_made_of_is_checked_as_well() {
    let signed = Signed::new().await;
    write(&signed.world, 300).await;
    seal(&signed.world).await;
    assert_eq!(verify(&signed, &[]).code, 0);
    by_force(&signed, "UPDATE audit_nodes SET hash = decode(repeat('00', 32), 'hex')").await;
    finds(&verify(&signed, &[]), "node 0 of level 8 was changed", "a node");
}
