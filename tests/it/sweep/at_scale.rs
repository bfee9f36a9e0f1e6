//! Ten thousand runners on a target: few requests, few statements.

use std::time::Instant;

use runner_broker::store::Store;
use runner_broker::store::runners::{self, Observation, Runner};

use crate::support::{ORG, World};

const MANY: usize = 10_000;

/// So many live rows, each with its runner on GitHub.
async fn peopled() -> World {
    let world = World::new().await;
    let ids = world.github.plant_many(ORG, "r", MANY, &[]).unwrap();
    world
        .sql(&format!(
            "INSERT INTO runners (id, name, target, team, status, method, labels, ephemeral, runner_group_id,
                 github_runner_id, issuer, subject, provisioned_by, created_at, updated_at, requested_at)
             SELECT ('00000000-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid, 'r-' || (i - {first}), '{ORG}',
                 'blue', 'pending', 'jit', '{{self-hosted,linux,x64}}', false, 1, i,
                 'https://issuer.example.com', 'subject-' || i, 'somebody', now(), now(), now()
             FROM generate_series({first}, {last}) AS i",
            first = ids[0],
            last = ids[MANY - 1],
        ))
        .await;
    // The token is fetched before anything is counted.
    assert_eq!(world.jit("warm").await.status, 201);
    world.github.remove(ORG, "warm").unwrap();
    world.sql("DELETE FROM runners WHERE name = 'warm'").await;
    world.github.clear_calls();
    world
}

/// What a sweep took, in requests and seconds.
async fn timed(world: &World, what: &str) -> usize {
    world.github.clear_calls();
    let begun = Instant::now();
    let report = world.sweep().await;
    println!("{what}: {:.2} s, {report:?}", begun.elapsed().as_secs_f64());
    assert_eq!((report.seen, report.failures), (MANY, 0));
    world.github.calls().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_of_ten_thousand_takes_a_request_a_hundred_and_one_of_the_same_costs_nothing() {
    let world = peopled().await;
    assert_eq!(timed(&world, "all move").await, MANY / 100);
    let states = "SELECT status || ' ' || count(*) FROM runners GROUP BY status";
    assert_eq!(world.sql(states).await, [format!("offline {MANY}")]);
    let moves = "SELECT count(DISTINCT runner_id) || ' ' || count(*) FROM audit_log
                 WHERE event_type = 'runner_state_changed'";
    assert_eq!(world.sql(moves).await, [format!("{MANY} {MANY}")], "one event each");

    assert_eq!(timed(&world, "the same").await, MANY / 100);
    assert!(world.github.calls().iter().all(|call| call.status == Some(304)));
    assert_eq!(world.sql(moves).await, [format!("{MANY} {MANY}")]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: cargo test --release --test it sweep_at_scale -- --ignored --nocapture"]
async fn how_long_sweeps_of_ten_thousand_take() {
    let world = peopled().await;
    timed(&world, "all move, nothing known").await;
    timed(&world, "nothing changed, all offline").await;
    for i in 0..MANY {
        world.github.connect(ORG, &format!("r-{i}")).unwrap();
    }
    timed(&world, "all come online").await;
    timed(&world, "nothing changed, all online").await;
    for i in 0..100 {
        world.github.disconnect(ORG, &format!("r-{}", i * 100)).unwrap();
    }
    timed(&world, "one of each page changed").await;
    world.sql("DELETE FROM runners").await;
    timed(&world, "all unmanaged").await;
    timed(&world, "all unmanaged, known").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_moved_after_they_were_read_stay_as_they_are() {
    let world = World::new().await;
    for name in ["same", "status", "generation", "newer"] {
        assert_eq!(world.jit(name).await.status, 201);
    }
    let store = Store::new(&world.database_url().into(), 1).unwrap();
    let mut conn = store.conn().await.unwrap();
    let rows = runners::live_on(&mut conn, &ORG.parse().unwrap()).await.unwrap();
    world.pass(60);
    let at = world.clock.now();
    world
        .sql("UPDATE runners SET status = 'deleting', deleting_from = 'pending' WHERE name = 'status'")
        .await;
    world.sql("UPDATE runners SET generation = 2 WHERE name = 'generation'").await;
    world.sql("UPDATE runners SET facts_at = now() + interval '2 minutes' WHERE name = 'newer'").await;
    let told: Vec<_> = rows.iter().map(Observation::gone).collect();
    let moved = runners::follow_all(&mut conn, &told, at, at).await.unwrap();
    let same = rows.iter().find(|row| row.name == "same").unwrap();
    assert_eq!(moved.into_iter().collect::<Vec<_>>(), [same.id]);
    let left = "SELECT name || ' ' || status FROM runners ORDER BY name";
    let states = ["generation pending", "newer pending", "same deleted", "status deleting"];
    assert_eq!(world.sql(left).await, states);
    let gone = Observation { seen: same, ..told[0] };
    let deleted = Runner { status: runner_broker::model::Status::Deleted, ..gone.seen.clone() };
    let back = Observation { seen: &deleted, to: runner_broker::model::Status::Active, ..gone };
    assert!(runners::follow_all(&mut conn, &[back], at, at).await.is_err(), "no such move");
}
