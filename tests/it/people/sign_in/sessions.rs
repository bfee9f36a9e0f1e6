//! Sessions: never taken over, never for longer than promised, and changed only by forms of their own pages.

use serde_json::json;

use super::visitor::{SESSION, Visitor};
use crate::support::World;

async fn signed_in(world: &World) -> Visitor {
    let visitor = world.visitor();
    visitor.sign_in("alice", json!({ "team": "blue" })).await;
    visitor
}

async fn count(world: &World) -> usize {
    world.sql("SELECT 1 FROM sessions").await.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_planted_is_never_taken_over() {
    let world = World::new().await;
    // One that the attacker made up, and one that is his own.
    let attacker = signed_in(&world).await;
    for planted in ["A".repeat(43), attacker.cookie(SESSION).unwrap()] {
        let victim = world.visitor();
        victim.set_cookie(SESSION, &planted);
        victim.sign_in("bob", json!({ "team": "blue" })).await;
        let own = victim.cookie(SESSION).unwrap();
        assert_ne!(own, planted);
        assert!(victim.is_signed_in().await);
        let planted_one = world.visitor();
        planted_one.set_cookie(SESSION, &planted);
        assert!(!planted_one.is_signed_in().await);
    }
    assert!(!attacker.is_signed_in().await, "the session that was planted has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_again_ends_the_session_before() {
    let world = World::new().await;
    let visitor = signed_in(&world).await;
    let before = visitor.cookie(SESSION).unwrap();
    visitor.sign_in("alice", json!({ "team": "blue" })).await;
    assert_ne!(visitor.cookie(SESSION).unwrap(), before);
    visitor.set_cookie(SESSION, &before);
    assert!(!visitor.is_signed_in().await);
    assert_eq!(count(&world).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_has_ten_sessions_at_most_and_the_oldest_go() {
    let world = World::new().await;
    let mut visitors = Vec::new();
    for _ in 0..12 {
        visitors.push(signed_in(&world).await);
        world.pass(1);
    }
    assert_eq!(count(&world).await, 10);
    let mut alive = Vec::new();
    for visitor in &visitors {
        alive.push(visitor.is_signed_in().await);
    }
    assert_eq!(alive, [vec![false; 2], vec![true; 10]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_when_nobody_uses_them_and_after_a_working_day() {
    let world = World::new().await;
    let (idle, busy) = (signed_in(&world).await, signed_in(&world).await);
    for _ in 0..8 {
        assert!(busy.is_signed_in().await);
        world.pass(3540);
    }
    assert!(!idle.is_signed_in().await);
    assert!(busy.is_signed_in().await, "7 h 52 min");
    world.pass(8 * 60 + 1);
    assert!(!busy.is_signed_in().await);
    assert_eq!(count(&world).await, 2);
    world.visitor().begin("dev", "/").await;
    world.broker.purge_sessions().await.unwrap();
    assert_eq!((count(&world).await, world.sql("SELECT 1 FROM sign_in_attempts").await.len()), (0, 1));
    world.pass(301);
    world.broker.purge_sessions().await.unwrap();
    assert!(world.sql("SELECT 1 FROM sign_in_attempts").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_the_session_here_and_on_the_server() {
    let world = World::new().await;
    let visitor = signed_in(&world).await;
    let (session, token) = (visitor.cookie(SESSION).unwrap(), visitor.csrf_token().await);
    let answer = visitor.post("/sign-out", &[("csrf_token", &token)], &[]).await;
    assert!(answer.status == 200 && answer.text.contains("Signed out"), "{}", answer.text);
    assert_eq!((visitor.cookie(SESSION), count(&world).await), (None, 0));
    visitor.set_cookie(SESSION, &session);
    assert!(!visitor.is_signed_in().await);
    let events = world.log("event_type = 'signed_out'").await;
    assert_eq!((events.len(), &events[0]["subject"]), (1, &json!("alice")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_anybody_else_changes_nothing() {
    let world = World::new().await;
    let (visitor, other) = (signed_in(&world).await, signed_in(&world).await);
    let (token, foreign) = (visitor.csrf_token().await, other.csrf_token().await);
    assert_ne!(token, foreign);
    let host = world.url.trim_start_matches("http://").to_owned();
    let refused: &[(&str, &[(&str, &str)])] = &[
        ("", &[]),
        ("x", &[]),
        (&foreign, &[]),
        (&token, &[("sec-fetch-site", "cross-site")]),
        (&token, &[("sec-fetch-site", "same-site")]),
        (&token, &[("origin", "https://evil.example")]),
        (&token, &[("origin", "http://127.0.0.1.evil.example")]),
        (&token, &[("origin", "http://localhost:1")]),
        ("", &[("origin", "null")]),
    ];
    for (token, headers) in refused {
        let answer = visitor.post("/sign-out", &[("csrf_token", token)], headers).await;
        assert_eq!(answer.status, 403, "{token} {headers:?}: {}", answer.text);
    }
    let answer = visitor.get(&format!("/sign-out?csrf_token={token}")).await;
    assert_eq!(answer.status, 404, "not by a link");
    assert!(visitor.is_signed_in().await);
    let ours = [("sec-fetch-site", "same-origin"), ("origin", &*format!("http://{host}"))];
    assert_eq!(visitor.post("/sign-out", &[("csrf_token", &token)], &ours).await.status, 200);
}
