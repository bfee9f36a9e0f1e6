//! When keys are fetched, and how seldom.

use futures_util::future::join_all;
use runner_broker::dev::issuer::{Alg, DISCOVERY, Fault, KEYS};
use serde_json::json;

use super::{World, is_unavailable, why};

#[tokio::test]
async fn nothing_is_asked_before_it_is_needed() {
    let world = World::new();
    assert_eq!((world.issuer.calls(DISCOVERY), world.verifier.ready()), (0, false));
    assert!(world.verify(&world.issuer.mint(json!({}))).await.is_ok());
    assert_eq!((world.issuer.calls(DISCOVERY), world.issuer.calls(KEYS)), (1, 1));
    assert!(world.verifier.ready());
}

#[tokio::test]
async fn a_known_key_is_not_asked_for_again() {
    let world = World::ready().await;
    for alg in [Alg::RS256, Alg::ES256, Alg::RS256] {
        world.verify(&world.issuer.token().alg(alg).mint()).await.unwrap();
    }
    assert_eq!(world.issuer.calls(KEYS), 1);
}

#[tokio::test]
async fn a_rotation_is_followed_within_one_fetch() {
    let world = World::ready().await;
    let old = world.issuer.mint(json!({}));
    world.issuer.rotate(true).unwrap();
    world.pass(10);
    assert!(world.verify(&world.issuer.mint(json!({}))).await.is_ok());
    assert!(world.verify(&old).await.is_ok());
    assert_eq!(world.issuer.calls(KEYS), 2);
}

#[tokio::test]
async fn a_withdrawn_key_is_dead_after_the_next_round() {
    let world = World::ready().await;
    let old = world.issuer.mint(json!({}));
    world.issuer.rotate(false).unwrap();
    assert!(world.verify(&old).await.is_ok(), "nobody can know yet");
    world.pass(300);
    world.verifier.refresh().await;
    why(world.verify(&old).await);
    assert!(world.verify(&world.issuer.mint(json!({}))).await.is_ok());
}

#[tokio::test]
async fn a_withdrawn_key_is_dead_as_soon_as_anybody_brings_the_new_one() {
    let world = World::ready().await;
    let old = world.issuer.mint(json!({}));
    world.issuer.rotate(false).unwrap();
    world.pass(10);
    world.verify(&world.issuer.mint(json!({}))).await.unwrap();
    why(world.verify(&old).await);
}

#[tokio::test]
async fn withdrawing_all_keys_locks_everybody_out() {
    let world = World::ready().await;
    world.issuer.fail(KEYS, Fault::Body(r#"{"keys":[]}"#.into()));
    world.pass(300);
    world.verifier.refresh().await;
    why(world.verify(&world.issuer.mint(json!({}))).await);
    assert!(!world.verifier.ready());
}

#[tokio::test]
async fn a_round_asks_only_for_keys_older_than_five_minutes() {
    let world = World::ready().await;
    world.pass(299);
    world.verifier.refresh().await;
    assert_eq!(world.issuer.calls(KEYS), 1);
    world.pass(1);
    world.verifier.refresh().await;
    world.verifier.refresh().await;
    assert_eq!(world.issuer.calls(KEYS), 2);
}

#[tokio::test]
async fn forged_kids_cost_the_issuer_one_question_in_ten_seconds() {
    let world = World::ready().await;
    let forged = |i: u32| world.issuer.token().header("kid", format!("forged-{i}")).mint();
    for i in 0..50 {
        why(world.verify(&forged(i)).await);
    }
    assert_eq!(world.issuer.calls(KEYS), 1, "the first fetch is less than 10 s ago");
    world.pass(10);
    for i in 0..50 {
        why(world.verify(&forged(i)).await);
    }
    assert_eq!((world.issuer.calls(DISCOVERY), world.issuer.calls(KEYS)), (2, 2));
}

#[tokio::test]
async fn an_issuer_that_is_down_is_asked_once_in_ten_seconds_too() {
    let world = World::new();
    world.issuer.fail(DISCOVERY, Fault::Status(503));
    for _ in 0..5 {
        assert!(is_unavailable(world.verify(&world.issuer.mint(json!({}))).await));
        world.verifier.refresh().await;
    }
    assert_eq!(world.issuer.calls(DISCOVERY), 1);
}

#[tokio::test]
async fn a_token_that_is_refused_anyway_makes_nobody_ask() {
    let world = World::new();
    for bad in [json!({ "aud": "other" }), json!({ "exp": 1 }), json!({ "sub": "" })] {
        why(world.verify(&world.issuer.mint(bad)).await);
    }
    assert_eq!(world.issuer.calls(DISCOVERY), 0);
}

#[tokio::test]
async fn a_hundred_callers_share_one_fetch() {
    let world = World::new();
    world.issuer.fail(KEYS, Fault::Hang);
    let tokens: Vec<_> = (0..100).map(|i| world.issuer.mint(json!({ "sub": format!("s{i}") }))).collect();
    let release = async {
        world.issuer.called(KEYS, 1).await;
        world.issuer.fail(KEYS, None);
    };
    let (answers, ()) = tokio::join!(join_all(tokens.iter().map(|token| world.verify(token))), release);
    for (i, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), format!("s{i}"));
    }
    assert_eq!((world.issuer.calls(DISCOVERY), world.issuer.calls(KEYS)), (1, 1));
}

#[tokio::test]
async fn a_known_key_waits_for_no_fetch() {
    let world = World::ready().await;
    let known = world.issuer.mint(json!({}));
    let unknown = world.issuer.token().header("kid", "forged").mint();
    world.issuer.fail(KEYS, Fault::Hang);
    world.pass(300);
    let meanwhile = async {
        world.issuer.called(KEYS, 2).await;
        for _ in 0..10 {
            world.verify(&known).await.unwrap();
        }
        assert_eq!(world.verifier.issuers()[0].failure, None, "the fetch is still in flight");
        world.issuer.fail(KEYS, None);
    };
    let (answer, (), ()) = tokio::join!(world.verify(&unknown), world.verifier.refresh(), meanwhile);
    why(answer);
    assert_eq!(world.issuer.calls(KEYS), 2);
}

#[tokio::test]
async fn a_caller_who_hangs_up_takes_the_answer_from_nobody() {
    let world = World::new();
    let token = world.issuer.mint(json!({}));
    world.issuer.fail(KEYS, Fault::Hang);
    tokio::select! {
        biased;
        () = world.issuer.called(KEYS, 1) => {}
        answer = world.verify(&token) => panic!("the issuer hangs: {answer:?}"),
    }
    world.issuer.fail(KEYS, None);
    assert!(world.verify(&token).await.is_ok());
    assert_eq!(world.issuer.calls(KEYS), 1);
}
