//! The leader's lease: one sweeps, whoever lost it changes nothing.

use std::sync::Arc;
use std::time::Duration;

use runner_broker::background;
use runner_broker::broker::{Broker, Error};
use runner_broker::github::GitHub;
use runner_broker::store::Store;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{ORG, World};

/// Another replica on the world's database.
pub async fn replica(world: &World) -> Arc<Broker> {
    let config = &world.config;
    let store = Store::new(&config.database_url, 4).expect("a URL");
    let github = GitHub::new(&config.github, world.clock.clone()).expect("a key");
    let broker = Broker::new(config.broker.clone(), &config.github, store, github, world.clock.clone());
    broker.refresh_policy().await.expect("a policy");
    broker
}

pub async fn expire(world: &World) {
    world.sql("UPDATE leases SET expires_at = clock_timestamp() - interval '1 second'").await;
}

/// Waits until the query answers so.
async fn until(world: &World, query: &str, answer: &str) {
    let within = tokio::time::timeout(Duration::from_secs(20), async {
        while world.sql(query).await != [answer] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    within.await.unwrap_or_else(|_| panic!("{query}: never {answer}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_replica_leads_until_its_lease_has_expired() {
    let world = World::new().await;
    let (other, other_id) = (replica(&world).await, Uuid::now_v7());
    let first = world.lease().await;
    assert_eq!(other.lead(other_id).await.unwrap(), None);
    assert_eq!(world.lease().await.epoch, first.epoch, "prolonged");
    assert_eq!(other.lead(other_id).await.unwrap(), None);
    expire(&world).await;
    let taken = other.lead(other_id).await.unwrap().expect("the lease");
    assert_eq!(taken.epoch, first.epoch + 1);
    assert_eq!(world.broker.lead(world.replica).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_steps_down_hands_over_at_once() {
    let world = World::new().await;
    let (other, other_id) = (replica(&world).await, Uuid::now_v7());
    let lease = world.lease().await;
    world.broker.step_down(&lease).await.unwrap();
    let taken = other.lead(other_id).await.unwrap().expect("the lease");
    assert_eq!(taken.epoch, lease.epoch + 1);
    // Once more, late: it is not his any more.
    world.broker.step_down(&lease).await.unwrap();
    assert!(other.lead(other_id).await.unwrap().is_some_and(|held| held.epoch == taken.epoch));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_leader_changes_nothing_and_writes_no_event() {
    let world = World::new().await;
    let (other, other_id) = (replica(&world).await, Uuid::now_v7());
    // Something to do for each part of a sweep.
    for name in ["died", "claimed", "removing", "overdue", "moves", "vanishes", "stale"] {
        world.connected(name).await;
    }
    world
        .sql(
            "UPDATE runners SET status = 'requested', requested_at = now() - interval '1 day' WHERE name = 'died';
             UPDATE runners SET status = 'deleting' WHERE name = 'claimed';
             UPDATE runners SET status = 'deleting', deleting_from = 'active' WHERE name = 'removing';
             UPDATE runners SET expires_at = now() - interval '1 s' WHERE name = 'overdue';
             UPDATE runners SET missed_sweeps = 1 WHERE name = 'vanishes';
             UPDATE runners SET status = 'offline', updated_at = now() - interval '9 days' WHERE name = 'stale'",
        )
        .await;
    world.github.remove(ORG, "vanishes").unwrap();
    let lease = world.lease().await;
    expire(&world).await;
    other.lead(other_id).await.unwrap().expect("the lease");

    let table = "SELECT r::text FROM runners r ORDER BY id";
    let (rows, events) = (world.sql(table).await, world.sql("SELECT count(*) FROM audit_log").await);
    let outcome = world.broker.sync(&lease).await;
    assert!(matches!(outcome, Err(Error::LeaseLost)), "{outcome:?}");
    // Each part alone, when those before it have nothing to do.
    for name in ["removing", "claimed", "died", "overdue", "stale"] {
        assert!(matches!(world.broker.sync(&lease).await, Err(Error::LeaseLost)));
        assert_eq!(world.sql(table).await.len(), 7);
        let hide = format!(
            "UPDATE runners SET status = 'failed', updated_at = now() - interval '2 h' WHERE name = '{name}'"
        );
        if name == "removing" {
            assert_eq!(world.sql(table).await, rows);
        }
        world.sql(&hide).await;
    }
    let outcome = world.broker.sync(&lease).await;
    assert!(matches!(outcome, Err(Error::LeaseLost)), "{outcome:?}");
    assert_eq!(world.status("moves").await, "pending");
    assert_eq!(world.status("vanishes").await, "pending");
    assert_eq!(world.sql("SELECT count(*) FROM audit_log").await, events);
    assert!(world.sql("SELECT page FROM github_runners_cache").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_expired_is_lost_even_if_nobody_took_it() {
    let world = World::new().await;
    let lease = world.lease().await;
    expire(&world).await;
    assert!(matches!(world.broker.sync(&lease).await, Err(Error::LeaseLost)));
    assert_eq!(world.lease().await.epoch, lease.epoch + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_lead_sweep_and_hand_over_when_they_end() {
    let world = World::new().await;
    world.connected("b1").await;
    let (stop, stop_other) = (CancellationToken::new(), CancellationToken::new());
    let run = |broker: &Arc<Broker>, stop: &CancellationToken| {
        tokio::spawn(background::run(broker.clone(), world.verifier.clone(), stop.clone()))
    };
    let first = run(&world.broker, &stop);
    until(&world, "SELECT status FROM runners", "active").await;
    let other = run(&replica(&world).await, &stop_other);
    until(&world, "SELECT count(*) FROM leases WHERE expires_at > clock_timestamp()", "1").await;
    assert_eq!(world.sql("SELECT epoch FROM leases").await, ["1"]);

    world.github.disconnect(ORG, "b1").unwrap();
    stop.cancel();
    first.await.unwrap();
    until(&world, "SELECT epoch FROM leases", "2").await;
    until(&world, "SELECT status FROM runners", "offline").await;
    stop_other.cancel();
    other.await.unwrap();
    let leaders = "SELECT count(*) FROM leases WHERE expires_at > clock_timestamp()";
    assert_eq!(world.sql(leaders).await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_end_at_once_even_in_the_middle_of_a_sweep() {
    use runner_broker::dev::github::{Action, Fault};
    let world = World::with(|config| config.github.timeout = Duration::from_secs(30)).await;
    world.connected("b1").await;
    world.github.fail(Fault::new("GET", "per_page=100&page=", Action::Hang).always());
    let stop = CancellationToken::new();
    let jobs = tokio::spawn(background::run(world.broker.clone(), world.verifier.clone(), stop.clone()));
    while !world.github.calls().iter().any(|call| call.path.contains("per_page=100&page=")) {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), jobs).await.expect("an end").unwrap();
    world.github.clear_faults();
    assert_eq!(world.sweep().await.failures, 0, "whoever is next can go on");
}
