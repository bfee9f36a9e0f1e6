//! The numbers: what is counted, from when to when, and how seldom.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::people::identities::new_world;
use crate::support::{Answer, World, eventually};

const STATS: &str = "/api/v1/admin/stats";

async fn stats(world: &World, query: &str) -> Answer {
    let answer = world.get(&format!("{STATS}?{query}"), "watch").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

/// A world in the middle of an hour, so that none ends meanwhile.
async fn at_half_past() -> World {
    let world = new_world().await;
    world.pass((5_400 - world.clock.now().timestamp().rem_euclid(3_600)) % 3_600);
    world
}

/// Puts provisions that ended at this time into the log.
async fn ended(world: &World, kind: &str, team: &str, who: &str, at: DateTime<Utc>, count: usize) {
    let (team, at) = (if team.is_empty() { "NULL".into() } else { format!("'{team}'") }, at.to_rfc3339());
    world
        .sql(&format!(
            "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity, issuer, subject, team)
             SELECT '{at}', '{kind}', 'info', true, '{who} at {at}', 'https://idp', '{who}', {team}
             FROM generate_series(1, {count})"
        ))
        .await;
}

/// `start provisioned refused failed` of every bucket with anything.
fn buckets(answer: &Answer) -> Vec<String> {
    let all = answer.body["provisions"].as_array().expect("buckets").iter();
    let line = |of: &Value| format!("{} {} {}", of["provisioned"], of["refused"], of["failed"]);
    all.filter(|of| of["provisioned"] != 0 || of["refused"] != 0 || of["failed"] != 0)
        .map(|of| format!("{} {}", of["start"].as_str().unwrap(), line(of)))
        .collect()
}

fn hour(at: DateTime<Utc>) -> String {
    let floor = at.duration_trunc(TimeDelta::hours(1)).unwrap();
    floor.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_by_state_and_budgets_are_as_they_are() {
    let world = at_half_past().await;
    for name in ["b1", "b2", "b3"] {
        world.jit(name).await;
    }
    world.connected("b4").await;
    world.sweep().await;
    world.delete("/api/v1/runners/b1", "blue").await;
    let gpu = json!({ "runner_name": "x", "labels": ["gpu"] });
    assert_eq!(world.post("/api/v1/runners/jit", "blue", gpu).await.status, 403);
    let answer = stats(&world, "").await;
    let states = json!({ "requested": 0, "pending": 2, "active": 1, "offline": 0, "deleting": 0 });
    assert_eq!(answer.body["runners"], states);
    assert_eq!(buckets(&answer), [format!("{} 4 1 0", hour(world.clock.now()))]);
    let github = answer.body["github"].as_array().unwrap();
    let core = github
        .iter()
        .find(|one| one["resource"] == "core" && one["installation"] != "app")
        .expect("a budget");
    assert!(core["remaining"].as_u64() < core["limit"].as_u64(), "{core}");
    assert!(core["resets_at"].as_str().unwrap() > answer.str("computed_at"), "{core}");
    assert_eq!(
        answer.body["top_callers"],
        json!([{ "issuer": world.issuer.url(), "subject": "blue-user", "display_name": "blue-user",
            "provisioned": 4, "not_provisioned": 1 }])
    );
    assert_eq!((answer.str("bucket"), answer.body["provisions"].as_array().unwrap().len()), ("hour", 25));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_good_for_15_seconds_and_read_while_the_next_is_made() {
    let world = new_world().await;
    let answers = join_all((0..20).map(|_| stats(&world, ""))).await;
    assert!(answers.iter().all(|answer| answer.body == answers[0].body), "computed by one for all");
    world.jit("b1").await;
    world.pass(14);
    assert_eq!(stats(&world, "").await.body, answers[0].body);
    world.pass(2);
    assert_eq!(stats(&world, "").await.body, answers[0].body, "nobody waits");
    eventually("the next", async || stats(&world, "").await.body["runners"]["pending"] == 1).await;
    world.jit("b2").await;
    world.pass(121);
    assert_eq!(stats(&world, "").await.body["runners"]["pending"], 2, "this is too old for anybody");
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_that_are_over_are_remembered_and_the_others_are_counted_anew() {
    let world = at_half_past().await;
    let now = world.clock.now();
    let (old, last) = (now - TimeDelta::hours(5), now - TimeDelta::hours(1));
    ended(&world, "provisioned", "blue", "a", old, 2).await;
    ended(&world, "provision_refused", "", "a", old, 3).await;
    ended(&world, "provision_failed", "red", "b", last, 1).await;
    ended(&world, "provisioned", "red", "b", now, 9).await;
    let wanted =
        [format!("{} 2 3 0", hour(old)), format!("{} 0 0 1", hour(last)), format!("{} 9 0 0", hour(now))];
    let first = stats(&world, "").await;
    assert_eq!(buckets(&first), wanted);
    let of_old = first.body["provisions"].as_array().unwrap().iter().find(|of| of["refused"] == 3).unwrap();
    assert_eq!(
        of_old["teams"],
        json!([{ "team": null, "provisioned": 0, "refused": 3, "failed": 0 },
            { "team": "blue", "provisioned": 2, "refused": 0, "failed": 0 }])
    );
    let callers: Vec<&Value> = first.body["top_callers"].as_array().unwrap().iter().collect();
    assert_eq!(callers.len(), 2);
    assert_eq!((&callers[0]["subject"], &callers[0]["provisioned"]), (&json!("b"), &json!(9)));
    assert_eq!((&callers[1]["not_provisioned"], &callers[1]["provisioned"]), (&json!(3), &json!(2)));

    // The log is append-only: what is put into the past here shows that the past is not read again.
    ended(&world, "provisioned", "blue", "a", old, 100).await;
    ended(&world, "provisioned", "red", "b", now, 1).await;
    world.pass(121);
    let again = buckets(&stats(&world, "").await);
    assert_eq!(again[0], wanted[0]);
    assert_eq!(again[2], format!("{} 10 0 0", hour(now)), "the hour that is not over");
    // Neither is it lost by another window.
    let since = (now - TimeDelta::hours(40)).to_rfc3339().replace('+', "%2B");
    assert_eq!(buckets(&stats(&world, &format!("since={since}")).await)[0], wanted[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_windows_go_by_the_day_and_a_window_has_an_end() {
    let world = new_world().await;
    let day = |text: &str| format!("{text}T12:30:00Z").parse::<DateTime<Utc>>().unwrap();
    for (date, count) in [("2026-03-01", 1), ("2026-03-02", 2), ("2026-03-04", 4), ("2026-03-05", 8)] {
        ended(&world, "provisioned", "blue", "a", day(date), count).await;
    }
    let answer = stats(&world, "since=2026-03-02&until=2026-03-05").await;
    assert_eq!((answer.str("bucket"), answer.str("until")), ("day", "2026-03-05T00:00:00Z"));
    assert_eq!(buckets(&answer), ["2026-03-02T00:00:00Z 2 0 0", "2026-03-04T00:00:00Z 4 0 0"]);
    assert_eq!(answer.body["provisions"].as_array().unwrap().len(), 3, "empty ones too");
    let hours = stats(&world, "since=2026-03-02T12:45:00Z&until=2026-03-04T12:45:00Z").await;
    assert_eq!((hours.str("bucket"), hours.str("since")), ("hour", "2026-03-02T12:00:00Z"));
    assert_eq!(buckets(&hours), ["2026-03-02T12:00:00Z 2 0 0", "2026-03-04T12:00:00Z 4 0 0"]);
    for query in ["since=x", "since=2026-03-05&until=2026-03-05", "since=2026-01-01&until=2026-04-05", "x=1"]
    {
        let refused = world.get(&format!("{STATS}?{query}"), "watch").await;
        assert_eq!(refused.refusal(), (422, "INVALID_REQUEST"), "{query}");
    }
    for extreme in ["since=0000-01-01&until=0000-01-02", "until=9999-12-31", "until=0000-01-01"] {
        assert_eq!(buckets(&stats(&world, extreme).await), Vec::<String>::new(), "{extreme}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_month_is_counted_before_anybody_asks_a_day_at_a_time() {
    let world = at_half_past().await;
    let then = world.clock.now() - TimeDelta::days(3);
    ended(&world, "provisioned", "blue", "a", then, 2).await;
    let since = (world.clock.now() - TimeDelta::days(5)).to_rfc3339().replace('+', "%2B");
    for _ in 0..3 {
        world.broker.count_ahead().await.unwrap();
    }
    // What is put into the past afterwards shows what has been counted already.
    ended(&world, "provisioned", "blue", "a", then, 40).await;
    ended(&world, "provisioned", "blue", "a", then - TimeDelta::days(1) - TimeDelta::hours(2), 5).await;
    let total: i64 = stats(&world, &format!("since={since}")).await.body["provisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| of["provisioned"].as_i64().unwrap())
        .sum();
    assert_eq!(total, 2 + 5);
    for _ in 0..40 {
        world.broker.count_ahead().await.unwrap();
    }
    assert_eq!(stats(&world, &format!("since={since}")).await.status, 200);
}
