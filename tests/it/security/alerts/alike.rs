//! Security events that are alike are one post, the gravest go first, and none is lost over it.

use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Post, Receiver, round, violate, violate_in, waiting};
use crate::people::identities::replica;
use crate::support::{ORG, World, team};

/// Of each post: its type, how many events it tells of, and the first and the last.
fn told(posts: &[Post]) -> Vec<(String, i64, i64, i64)> {
    let number = |body: &Value, field: &str| body[field].as_i64().expect(field);
    posts
        .iter()
        .map(|post| {
            let body = post.json();
            let kind = body["type"].as_str().expect("a type").to_owned();
            let [count, first, last] =
                ["count", "first_event_id", "last_event_id"].map(|field| number(&body, field));
            assert_eq!(number(&body["event"], "id"), first);
            (kind, count, first, last)
        })
        .collect()
}

/// The ids of the events that fit a condition, oldest first.
async fn ids(world: &World, condition: &str) -> Vec<i64> {
    world.log(condition).await.iter().map(|event| event["id"].as_i64().expect("an id")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_the_same_over_and_over_is_told_of_at_once_and_then_once_a_minute() {
    let receiver = Receiver::new().await;
    let world = receiver.world().await;
    violate(&world, "b0").await;
    assert_eq!(round(&world, &receiver).await, (1, 0, 0), "the first one at once");
    for number in 1..=8 {
        violate(&world, &format!("b{number}")).await;
    }
    violate_in("blue", &world, "somebody-else", "c").await;
    assert_eq!(round(&world, &receiver).await, (1, 0, 0), "another caller's does not wait for theirs");
    world.pass(58);
    assert_eq!((round(&world, &receiver).await, waiting(&world).await), ((0, 0, 0), 8));
    world.pass(3);
    assert_eq!((round(&world, &receiver).await, waiting(&world).await), ((1, 0, 0), 0));
    // One more within the minute after that, and one long after it.
    violate(&world, "d1").await;
    assert_eq!(round(&world, &receiver).await, (0, 0, 0));
    world.pass(300);
    assert_eq!(round(&world, &receiver).await, (1, 0, 0));
    world.pass(300);
    violate(&world, "d2").await;
    assert_eq!(round(&world, &receiver).await, (1, 0, 0));

    let own = ids(&world, "subject = 'blue-user' AND event_type = 'provision_refused'").await;
    let other = ids(&world, "subject = 'somebody-else' AND event_type = 'provision_refused'").await;
    let violation = |count, first, last| ("label_policy_violation".to_owned(), count, first, last);
    let wanted = [
        violation(1, own[0], own[0]),
        violation(1, other[0], other[0]),
        violation(8, own[1], own[8]),
        violation(1, own[9], own[9]),
        violation(1, own[10], own[10]),
    ];
    assert_eq!(told(&receiver.posts()), wanted);
    let of_many = receiver.posts()[2].json();
    assert_eq!(
        (&of_many["action_taken"], &of_many["event"]["runner_name"]),
        (&json!("refused"), &json!("b1"))
    );
    let kept = world.sql("SELECT count(*) FROM alert_posts").await;
    assert_eq!(kept, ["1"], "posts are forgotten once they keep nothing waiting");
}

#[tokio::test(flavor = "multi_thread")]
async fn different_types_and_what_was_done_differently_are_told_apart() {
    let receiver = Receiver::new().await;
    let world = receiver.world().await;
    world.policy(&team("blue", "max_runners = 0")).await;
    violate(&world, "b1").await;
    assert_eq!(world.jit("b2").await.refusal(), (403, "QUOTA_EXCEEDED"));
    // Two of one target at once, of which one was removed.
    for (name, action) in [("x", "reported"), ("y", "removed")] {
        world
            .sql(&format!(
                "WITH e AS (INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity, target,
                     runner_name, event_data)
                 VALUES (now(), 'unmanaged_runner_detected', 'high', true, 'system:sync', 'octo-org', '{name}',
                     '{{\"action_taken\": \"{action}\"}}') RETURNING id)
                 INSERT INTO alerts (event_id, kind, who, urgency, action_taken)
                 SELECT id, 'unmanaged_runner_detected', 'octo-org', 2, '{action}' FROM e"
            ))
            .await;
    }
    assert_eq!(round(&world, &receiver).await, (3, 0, 0));
    let mut posts = receiver.posts();
    posts.sort_by_key(|post| post.json()["type"].to_string());
    let seen: Vec<_> = told(&posts).into_iter().map(|(kind, count, _, _)| (kind, count)).collect();
    let wanted = [("label_policy_violation", 1), ("quota_exceeded", 1), ("unmanaged_runner_detected", 2)];
    assert_eq!(seen, wanted.map(|(kind, count)| (kind.to_owned(), count)));
    let body = posts[2].json();
    assert_eq!((&body["severity"], &body["action_taken"]), (&json!("high"), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_high_is_posted_before_all_that_waits_longer() {
    let receiver = Receiver::new().await;
    let world = receiver.world().await;
    let teams = ["info-0", "info-1", "warning-0", "warning-1"];
    world.policy(&teams.map(|name| team(name, "max_runners = 0")).concat()).await;
    for number in 0..20 {
        let of = format!("info-{}", number / 10);
        let token = world.issuer.mint(json!({ "sub": format!("info-{number}"), "team": of }));
        let body = json!({ "runner_name": format!("i{number}") });
        let answer = world.call(Method::POST, "/api/v1/runners/jit", &token, &[], Some(body)).await;
        assert_eq!(answer.refusal(), (403, "QUOTA_EXCEEDED"));
    }
    for number in 0..20 {
        let of = format!("warning-{}", number / 10);
        violate_in(&of, &world, &format!("warning-{number}"), "w").await;
    }
    world.github.plant(ORG, "foreign", &["Prod"], false).unwrap();
    assert_eq!(world.sweep().await.unmanaged, 1);
    while round(&world, &receiver).await.0 > 0 {}
    let severities: Vec<Value> =
        receiver.posts().iter().map(|post| post.json()["severity"].clone()).collect();
    assert_eq!(severities.len(), 41);
    // Sixteen at a time, and these in no order.
    let batch = |range: std::ops::Range<usize>, severity: &str| {
        severities[range].iter().filter(|found| **found == json!(severity)).count()
    };
    assert_eq!((batch(0..16, "high"), batch(0..16, "warning")), (1, 15));
    assert_eq!((batch(16..32, "warning"), batch(16..32, "info"), batch(32..41, "info")), (5, 11, 9));
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_post_at_once_tell_of_each_event_in_one_post() {
    let receiver = Receiver::new().await;
    let world = receiver.world().await;
    let teams: Vec<String> = (0..12).map(|number| team(&format!("t{number}"), "")).collect();
    world.policy(&teams.concat()).await;
    let other = replica(&world, 4);
    let over = CancellationToken::new();
    let all = async |broker: &runner_broker::broker::Broker| {
        let poster = receiver.poster();
        // One round more once all is there.
        loop {
            let last = over.is_cancelled();
            if broker.post_alerts(&poster).await.unwrap().posted == 0 && last {
                return;
            }
        }
    };
    let violating = async {
        for number in 0..120 {
            let of = format!("t{}", number / 10);
            violate_in(&of, &world, &format!("caller-{}", number % 40), &format!("b{number}")).await;
        }
        world.pass(61);
        over.cancel();
    };
    tokio::join!(violating, all(&world.broker), all(&other), all(&world.broker));
    let posts = receiver.posts();
    let mut of_posts: Vec<String> = posts.iter().map(|post| post.json()["id"].to_string()).collect();
    of_posts.sort();
    of_posts.dedup();
    assert_eq!((of_posts.len(), waiting(&world).await), (posts.len(), 0));
    assert!(
        (40..=80).contains(&posts.len()),
        "each caller's first, and the rest of it together: {}",
        posts.len()
    );
    assert_eq!(told(&posts).iter().map(|(_, count, _, _)| count).sum::<i64>(), 120);
}
