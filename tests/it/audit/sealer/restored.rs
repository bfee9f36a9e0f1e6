//! A dump in another cluster, whose transactions are far behind those of the rows.

use std::process::{Command, Stdio};

use runner_broker::broker::audit::verify::{Against, verify};
use runner_broker::dev::postgres::{Options, Postgres};

use super::{Signed, pass, seal, write};
use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn rows_restored_from_a_dump_are_sealed_first_and_the_log_goes_on() {
    let signed = Signed::new().await;
    let old = &signed.world;
    // Far ahead of what a new cluster begins with.
    old.sql("DO $$ BEGIN FOR i IN 1..3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$").await;
    write(old, 20).await;
    seal(old).await;
    write(old, 5).await;
    let previous = signed.save_checkpoint("previous.txt").await;

    let new = Postgres::start(&Options::temporary()).expect("another cluster");
    let url = new.url("postgres");
    let mut dump =
        Command::new("pg_dump").arg(old.database_url()).stdout(Stdio::piped()).spawn().expect("pg_dump");
    let restored = Command::new("psql")
        .args(["--quiet", "--set=ON_ERROR_STOP=1", &url])
        .stdin(dump.stdout.take().expect("its output"))
        .stdout(Stdio::null())
        .status();
    assert!(restored.expect("psql").success());
    assert!(dump.wait().expect("pg_dump").success());
    let world =
        World::on(&url, |config| config.broker.audit_signing_key = Some(signed.path("audit.key"))).await;
    // The dump has the lease of a leader that is not here.
    world.sql("DELETE FROM leases").await;
    let ahead = "SELECT count(*) FROM audit_log WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())";
    assert!(world.sql(ahead).await[0].parse::<i64>().unwrap() >= 25);
    let size = world.sql("SELECT count(*) FROM audit_tree").await;
    world.jit("b1").await;
    seal(&world).await;
    let moved = world.log("event_type = 'audit_log_moved'").await;
    assert_eq!(moved.len(), 1);
    assert_eq!(moved[0]["event_data"]["tree_size"].to_string(), size[0]);
    let order = "SELECT string_agg(l.event_type, ' ' ORDER BY t.leaf_index) FROM audit_tree t
                 JOIN audit_log l ON l.id = t.event_id WHERE t.leaf_index >= 21";
    let order = world.sql(order).await.remove(0);
    assert!(
        order.starts_with("e1 e2 e3 e4 e5 policy_applied") || order.starts_with("e1 e2 e3 e4 e5 provision"),
        "{order}"
    );
    let previous =
        runner_broker::seal::note::read(&std::fs::read_to_string(previous).unwrap(), None).unwrap();
    let against = Against { key: None, heads: vec![("the previous checkpoint", previous)] };
    let outcome = verify(world.broker.store(), &against, |_, _| {}).await.unwrap();
    assert_eq!((outcome.found, outcome.unsealed), (0, 0), "{:?}", outcome.findings);

    // From now on such a row is one that was planted.
    world
        .sql(
            "INSERT INTO audit_log (xid, timestamp, event_type, severity, success, user_identity)
             VALUES ('900000', now(), 'planted', 'info', true, 'nobody')",
        )
        .await;
    assert_eq!(pass(&world).await.planted, 1);
    assert_eq!(pass(&world).await.planted, 0, "once");
}
