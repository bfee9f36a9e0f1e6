//! A repeat that goes wrong in between: what was handed out before stays good, or nothing of it stays at all.

use runner_broker::dev::github::{Action, Canned, Fault};
use serde_json::json;

use super::{generation, keyed, keys, register};
use crate::support::{ORG, World, team};

#[tokio::test(flavor = "multi_thread")]
async fn with_github_down_during_a_repeat_the_old_runner_survives_as_it_was() {
    let world = World::new().await;
    let first = keyed(&world).await;
    // The policy has changed in between; the old runner has not.
    world.policy(&team("blue", r#"required_labels = ["new"]"#)).await;
    for down in [
        Fault::new("GET", "runners/", Action::Respond(Canned::status(502))),
        Fault::new("DELETE", "runners/", Action::Respond(Canned::status(502))),
    ] {
        world.github.fail(down.clone().always());
        let answer = keyed(&world).await;
        assert_eq!(answer.refusal(), (503, "GITHUB_UNAVAILABLE"), "{down:?}: {}", answer.text);
        world.github.clear_faults();
        assert_eq!(world.status("b1").await, "pending");
        assert_eq!(world.sql("SELECT labels FROM runners").await, ["{linux,self-hosted,x64}"]);
        assert_eq!(world.on_github(), ["b1"]);
        let refused = world.log("event_type = 'provision_failed'").await;
        assert_eq!(refused.last().expect("an event")["error_code"], json!("GITHUB_UNAVAILABLE"));
    }
    let again = keyed(&world).await;
    assert_eq!((again.status, again.str("runner_id")), (201, first.str("runner_id")), "{}", again.text);
    assert_eq!(again.body["labels"], json!(["linux", "new", "self-hosted", "x64"]));
    assert_eq!(world.on_github(), ["b1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_that_github_refuses_leaves_nothing_and_frees_the_key() {
    let world = World::new().await;
    assert_eq!(keyed(&world).await.status, 201);
    world.github.fail(Fault::new("POST", "jitconfig", Action::Respond(Canned::status(422))));
    assert_eq!(keyed(&world).await.refusal(), (502, "GITHUB_REFUSED"));
    assert_eq!(
        (world.status("b1").await.as_str(), world.on_github().len(), keys(&world).await),
        ("failed", 0, 0)
    );
    assert_eq!(keyed(&world).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_during_a_repeat_keeps_id_and_name() {
    let world = World::new().await;
    let ask = || world.jit_with_key(json!({ "runner_name_prefix": "p" }), "k");
    let first = ask().await;
    for action in [Action::Drop, Action::ActThenDrop] {
        world.github.fail(Fault::new("POST", "jitconfig", action.clone()));
        let again = ask().await;
        assert_eq!(again.status, 201, "{action:?}: {}", again.text);
        for same in ["runner_id", "runner_name"] {
            assert_eq!(again.str(same), first.str(same), "{action:?}");
        }
        assert_eq!(world.on_github(), [first.str("runner_name")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_whose_repeat_fails_stays_since_its_first_token_does() {
    let world = World::new().await;
    let first = register(&world, "r1", "k").await;
    for action in [Action::Respond(Canned::status(422)), Action::ActThenDrop] {
        world.github.fail(Fault::new("POST", "registration-token", action.clone()));
        assert!(register(&world, "r1", "k").await.status > 500, "{action:?}");
        assert_eq!((world.status("r1").await.as_str(), keys(&world).await), ("pending", 1), "{action:?}");
    }
    world.github.register(ORG, "r1", &[], true, first.str("registration_token")).expect("a good token");
    world.sweep().await;
    assert_eq!(world.status("r1").await, "offline", "and its runner is managed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_repair_holds_is_still_in_progress() {
    let world = World::new().await;
    assert_eq!(keyed(&world).await.status, 201);
    world.sql("UPDATE runners SET status = 'deleting'").await;
    assert_eq!(keyed(&world).await.refusal(), (409, "IDEMPOTENCY_KEY_IN_PROGRESS"));
    // One that is being removed because somebody asked for it is gone for good.
    world.sql("UPDATE runners SET deleting_from = 'pending'").await;
    assert_eq!(keyed(&world).await.refusal(), (409, "IDEMPOTENCY_KEY_SPENT"));
}

/// What a crash leaves: the row reclaimed, `on_github` as it was then.
async fn crash_in_a_repeat(world: &World) {
    let set = "UPDATE runners SET status = 'requested', generation = generation + 1, \
               requested_at = now() - interval '1 minute' WHERE name = 'b1' AND status = 'pending'";
    world.sql(set).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_a_repeat_takes_no_runner_that_has_started() {
    let world = World::new().await;
    let first = keyed(&world).await;
    crash_in_a_repeat(&world).await;
    assert_eq!(keyed(&world).await.refusal(), (409, "IDEMPOTENCY_KEY_IN_PROGRESS"));
    world.github.connect_jit(first.str("encoded_jit_config")).expect("a good config");
    world.sweep().await;
    world.sweep().await;
    assert_eq!((world.status("b1").await.as_str(), world.on_github().len()), ("active", 1));
    assert_eq!(keyed(&world).await.refusal(), (409, "IDEMPOTENCY_KEY_SPENT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_a_repeat_after_the_former_runner_was_removed_leaves_nothing() {
    let world = World::new().await;
    // Before the second request reached GitHub, and after.
    for reached in [false, true] {
        assert_eq!(keyed(&world).await.status, 201);
        if reached {
            assert_eq!(keyed(&world).await.status, 201);
            let former = "UPDATE runners SET github_runner_id = github_runner_id - 1 WHERE name = 'b1' \
                          AND status = 'pending'";
            world.sql(former).await;
        } else {
            world.github.remove(ORG, "b1").expect("a runner");
        }
        crash_in_a_repeat(&world).await;
        world.sweep().await;
        assert_eq!((world.status("b1").await.as_str(), world.on_github().len()), ("failed", 0), "{reached}");
        assert_eq!(keys(&world).await, 0, "the key is free");
    }
    assert_eq!(keyed(&world).await.status, 201);
    assert_eq!(generation(&world, "b1").await, "132", "of b1's rows, the newest first");
}
