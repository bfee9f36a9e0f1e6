//! GitHub says no: the mapped error, one question, a failed row with its event, and nothing left behind.

use std::time::Duration;

use runner_broker::dev::github::{Action, Canned};
use serde_json::json;

use super::{JIT, assert_agree, on_post, warm};
use crate::support::{ORG, World, team};

/// What the caller of one JIT provision gets, after what must hold for any refusal.
async fn refused(world: &World, what: &str) -> crate::support::Answer {
    world.github.clear_calls();
    let answer = world.post(JIT, "blue", json!({ "runner_name": "b1" })).await;
    assert_eq!(world.status("b1").await, "failed", "{what}: {}", answer.text);
    let events = world.log("runner_name = 'b1'").await;
    let last = events.last().expect("an event");
    assert_eq!(last["event_type"], json!("provision_failed"), "{what}");
    assert_eq!(last["error_code"], json!(answer.str("error_code")), "{what}");
    assert_eq!(world.on_github(), ["warm"], "{what}");
    assert_agree(world).await;
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_of_githubs_has_its_status_and_code() {
    let world = warm(Duration::from_secs(2)).await;
    let canned = |status| Action::Respond(Canned::status(status));
    for (action, expected) in [
        (Action::PermissionMissing, (502, "GITHUB_PERMISSION_MISSING")),
        (canned(401), (502, "GITHUB_REFUSED")),
        (canned(403), (502, "GITHUB_PERMISSION_MISSING")),
        (canned(404), (502, "GITHUB_REFUSED")),
        (canned(422), (502, "GITHUB_REFUSED")),
        (canned(409), (409, "RUNNER_NAME_TAKEN")),
    ] {
        world.github.fail(on_post(action.clone()).always());
        let answer = refused(&world, &format!("{action:?}")).await;
        assert_eq!(answer.refusal(), expected, "{action:?}: {}", answer.text);
        world.github.clear_faults();
        if expected.1 == "GITHUB_PERMISSION_MISSING" {
            let detail = answer.str("detail");
            assert!(detail.contains("organization_self_hosted_runners=write"), "{detail}");
        }
    }
    assert_eq!(world.jit("b1").await.status, 201, "the name is free all along");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_githubs_says_how_long_to_wait() {
    for (action, seconds) in [
        (Action::RateLimited { reset_seconds: 120 }, 110..=131),
        (Action::SecondaryLimit { retry_after_seconds: 30 }, 20..=41),
        (Action::Respond(Canned::status(429).header("retry-after", "17")), 7..=28),
    ] {
        // Fresh each time: a limit is remembered.
        let world = warm(Duration::from_secs(2)).await;
        world.github.fail(on_post(action.clone()));
        let answer = refused(&world, &format!("{action:?}")).await;
        assert_eq!(answer.refusal(), (503, "GITHUB_RATE_LIMITED"), "{action:?}: {}", answer.text);
        let wait: u64 = answer.header("retry-after").parse().expect("seconds");
        assert!(seconds.contains(&wait), "{action:?}: {wait}");
        assert_eq!(world.posts(), 1, "never asked again within the request");
        let answer = refused(&world, "remembered").await;
        assert_eq!((answer.refusal(), world.posts()), ((503, "GITHUB_RATE_LIMITED"), 0), "{action:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_an_installation_or_a_permission_that_is_missing_is_the_operators_to_mend() {
    let world = warm(Duration::from_secs(2)).await;
    world.policy(&team("blue", "runner_groups = [4711]")).await;
    let answer = refused(&world, "group").await;
    assert_eq!(answer.refusal(), (502, "GITHUB_REFUSED"), "{}", answer.text);

    let closed = world.github.add_group(ORG, "closed").expect("a group");
    world.github.close_group(ORG, closed);
    world.policy(&team("blue", r#"runner_groups = ["closed"]"#)).await;
    assert_eq!(refused(&world, "closed group").await.refusal(), (502, "GITHUB_PERMISSION_MISSING"));

    world.policy(&team("blue", "")).await;
    world.github.suspend(ORG);
    assert_eq!(refused(&world, "suspended").await.refusal(), (502, "GITHUB_REFUSED"));
    world.github.unsuspend(ORG);

    world.github.set_permissions(ORG, &[]);
    world.pass(3600);
    assert_eq!(refused(&world, "permission").await.refusal(), (502, "GITHUB_PERMISSION_MISSING"));
    world.github.uninstall(ORG);
    world.pass(3600);
    assert_eq!(refused(&world, "installation").await.refusal(), (502, "GITHUB_REFUSED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_name_that_github_has_gets_another_suffix() {
    let world = warm(Duration::from_secs(2)).await;
    let ask = || world.post(JIT, "blue", json!({ "runner_name_prefix": "p" }));
    world.github.clear_calls();
    world.github.fail(on_post(Action::Respond(Canned::status(409))));
    let answer = ask().await;
    assert_eq!((answer.status, world.posts()), (201, 2), "{}", answer.text);
    assert_eq!(world.on_github(), ["warm", answer.str("runner_name")]);
    let failed = world.log("event_type = 'provision_failed'").await;
    assert_eq!(failed[0]["error_code"], json!("RUNNER_NAME_TAKEN"));
    assert_eq!(failed[0]["event_data"]["renamed_to"], json!(answer.str("runner_id")));

    world.github.clear_calls();
    world.github.fail(on_post(Action::Respond(Canned::status(409))).always());
    let answer = ask().await;
    assert_eq!(answer.refusal(), (409, "RUNNER_NAME_TAKEN"), "{}", answer.text);
    assert_eq!(world.posts(), 4, "some suffixes, not all");
    assert_agree(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_groups_that_cannot_be_had_fails_before_there_is_a_row() {
    let world = warm(Duration::from_secs(2)).await;
    world.policy(&team("blue", r#"runner_groups = ["pool"]"#)).await;
    let failing =
        runner_broker::dev::github::Fault::new("GET", "runner-groups", Action::Respond(Canned::status(503)));
    world.github.fail(failing.always());
    let answer = world.jit("b1").await;
    assert_eq!(answer.refusal(), (503, "GITHUB_UNAVAILABLE"), "{}", answer.text);
    assert_eq!(world.events("b1").await, ["provision_failed"]);
    assert_eq!(world.status("b1").await, "", "there is no row");
}
