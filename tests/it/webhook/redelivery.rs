//! Webhooks that were lost: listed and sent again, once for each failure, by the leader alone.

use std::time::Duration;

use runner_broker::broker::Error;
use runner_broker::dev::github::{Action, Fault};
use serde_json::json;
use uuid::Uuid;

use crate::support::{REPO, World, eventually};
use crate::sweep::lease::{expire, replica};

impl World {
    async fn redeliver(&self) -> usize {
        let lease = self.lease().await;
        self.broker.redeliver_failed(&lease, Duration::ZERO).await.expect("a list")
    }

    fn attempts(&self) -> usize {
        self.github.calls().iter().filter(|call| call.path.ends_with("/attempts")).count()
    }

    /// Two jobs' deliveries, both lost.
    async fn two_lost() -> World {
        let world = World::new().await;
        world.hear();
        world.github.lose_webhooks(2);
        world.github.queue_job(REPO, "one", &["self-hosted"]);
        world.github.queue_job(REPO, "two", &["self-hosted"]);
        world
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_sent_again_once() {
    let world = World::two_lost().await;
    world.github.queue_job(REPO, "three", &["self-hosted"]);
    world.heard(1).await;
    assert_eq!(world.redeliver().await, 2);
    world.heard(3).await;
    assert_eq!(world.sql("SELECT name FROM jobs ORDER BY name").await, ["one", "three", "two"]);
    assert_eq!(world.redeliver().await, 0, "they are here");
    assert_eq!(world.attempts(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_again_is_sent_again_but_not_for_ever() {
    let world = World::new().await;
    world.hear();
    world.github.lose_webhooks(u32::MAX);
    world.github.queue_job(REPO, "one", &["self-hosted"]);
    let mut asked = Vec::new();
    // Every ten minutes for three days.
    for round in 0..432 {
        if world.redeliver().await == 1 {
            asked.push(round);
        }
        world.pass(600);
    }
    assert_eq!(asked, [0, 1, 3, 7, 15, 31, 63, 99, 135, 171, 207, 243, 279, 315, 351, 387]);
    let log = world.log("event_type = 'webhook_delivery_set_aside'").await;
    assert_eq!(log.len(), 1, "giving up is said once");
    assert_eq!(
        (&log[0]["event_data"]["event"], &log[0]["event_data"]["attempts"]),
        (&json!("workflow_job"), &json!(16))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_lately_is_listed_again_even_if_its_failure_is_an_old_one() {
    let world = World::two_lost().await;
    world.pass(3600);
    world.github.fail(Fault::new("POST", "/attempts", Action::Respond(accepted())).times(2));
    assert_eq!(world.redeliver().await, 2);
    // The listing of five minutes later finds both claimed, and those of an hour later still find them.
    world.pass(300);
    assert_eq!(world.redeliver().await, 0);
    world.pass(3600);
    assert_eq!(world.redeliver().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_githubs_ends_the_round_and_requests_keep_their_pace() {
    let world = World::two_lost().await;
    let lease = world.lease().await;
    world.github.fail(Fault::new("POST", "/attempts", Action::SecondaryLimit { retry_after_seconds: 1 }));
    world.broker.redeliver_failed(&lease, Duration::from_secs(3600)).await.expect("no pause after a limit");
    world.pass(5);
    let begun = std::time::Instant::now();
    assert_eq!(world.broker.redeliver_failed(&lease, Duration::from_millis(300)).await.unwrap(), 2);
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failure_is_answered_once_however_often_it_is_listed() {
    let world = World::two_lost().await;
    // Nothing comes of it for now: no new failure, no arrival.
    world.github.fail(Fault::new("POST", "/attempts", Action::Respond(accepted())).times(2));
    assert_eq!(world.redeliver().await, 2);
    assert_eq!(world.redeliver().await, 0);
    assert_eq!(world.attempts(), 2);
    world.pass(600);
    assert_eq!(world.redeliver().await, 2, "it cannot have been heard");
}

fn accepted() -> runner_broker::dev::github::Canned {
    runner_broker::dev::github::Canned { status: 202, body: "{}".into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_github_refused_is_made_anew_the_next_time() {
    let world = World::two_lost().await;
    world.github.fail(Fault::new("POST", "/attempts", Action::SecondaryLimit { retry_after_seconds: 1 }));
    assert_eq!(world.redeliver().await, 0, "the limit holds for the second one, too");
    world.pass(5);
    assert_eq!(world.redeliver().await, 2);
    world.heard(2).await;
    assert_eq!(world.count("jobs").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_failures_than_a_page_holds_are_all_sent_again() {
    let world = World::new().await;
    world.hear();
    world.github.lose_webhooks(230);
    for number in 0..230 {
        world.github.queue_job(REPO, &format!("job {number}"), &["self-hosted"]);
    }
    assert_eq!(world.redeliver().await, 230);
    world.heard(230).await;
    eventually("all jobs", async || {
        world.broker.work_off().await.unwrap();
        world.count("jobs").await == "230"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leads_no_more_asks_for_nothing() {
    let world = World::two_lost().await;
    let lease = world.lease().await;
    expire(&world).await;
    replica(&world).await.lead(Uuid::now_v7()).await.unwrap().expect("the lease");
    let outcome = world.broker.redeliver_failed(&lease, Duration::ZERO).await;
    assert!(matches!(outcome, Err(Error::LeaseLost)), "{outcome:?}");
    assert_eq!(world.attempts(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_about_to_end_is_not_begun_with() {
    let world = World::two_lost().await;
    let lease = world.lease().await;
    world.sql("UPDATE leases SET expires_at = clock_timestamp() + interval '450 milliseconds'").await;
    let outcome = world.broker.redeliver_failed(&lease, Duration::ZERO).await;
    assert!(matches!(outcome, Err(Error::LeaseLost)), "{outcome:?}");
    assert_eq!(world.attempts(), 0);
    expire(&world).await;
    world.pass(600);
    assert_eq!(world.redeliver().await, 2, "whoever leads next does it");
}
