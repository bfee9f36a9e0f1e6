//! Each way that a call can fail: what it is told as, and whether it may have been done all the same.

use std::time::Duration;

use futures_util::future::join_all;
use runner_broker::clock::Clock;
use runner_broker::dev::github::{Action, Canned, Fault, Settings};
use runner_broker::github::{Error, GitHub, Removal};
use runner_broker::model::Method;

use super::{World, config, grant, millis, org, soon};

const JIT: &str = "generate-jitconfig";

/// What an ask for the runner `a` comes to after the fault, on a connection that was used before.
async fn failing(action: Action) -> (World, Error) {
    let world = World::warm().await;
    world.fail(Fault::new("POST", JIT, action));
    let error = world.jit("a").await.unwrap_err();
    assert_eq!(world.asked("POST", JIT), 1, "never repeated: {error}");
    (world, error)
}

fn canned(status: u16, message: &str) -> Action {
    let body = serde_json::json!({ "message": message, "documentation_url": "https://docs.github.com" });
    Action::Respond(Canned::status(status).body(&body.to_string()))
}

#[tokio::test]
async fn a_lost_answer_is_told_as_one_whether_or_not_a_runner_was_made() {
    let undecodable = Canned::status(201).body(r#"{"runner": {"id": 1}}"#);
    for (action, made) in [
        (Action::Respond(Canned::status(500)), false),
        (Action::Respond(Canned::status(502)), false),
        (Action::Respond(Canned::status(503).header("retry-after", "7")), false),
        (Action::Respond(Canned::status(504)), false),
        (Action::Respond(Canned::status(408)), false),
        (Action::ActThenRespond(Canned::status(502)), true),
        (Action::ActThenRespond(undecodable), true),
        (Action::ActThenRespond(Canned::status(204)), true),
        (Action::Html { status: 200 }, false),
        (Action::Html { status: 502 }, false),
        (Action::Drop, false),
        (Action::ActThenDrop, true),
        (Action::Truncate, true),
    ] {
        let (world, error) = failing(action.clone()).await;
        assert!(error.lost_answer(), "{action:?}: {error:?}");
        assert_eq!(world.exists("a"), made, "{action:?}");
    }
}

#[tokio::test]
async fn no_answer_in_time_is_a_lost_one() {
    for action in [Action::Hang, Action::ActThenDelay { millis: 2_000 }] {
        let world = World::warm().await;
        world.fail(Fault::new("POST", JIT, action));
        let grant = grant(Method::Jit, "octo-org", 1);
        let error = world.github.generate_jitconfig(&grant, "a", millis(300)).await.unwrap_err();
        assert!(error.lost_answer(), "{error}");
        assert_eq!(world.asked("POST", JIT), 1);
    }
}

#[tokio::test]
async fn a_call_takes_no_longer_than_configured_however_late_its_deadline() {
    let world = World::with(Settings::default(), |config| config.timeout = Duration::from_secs(1));
    world.warm_up().await;
    world.fail(Fault::new("POST", JIT, Action::Hang));
    let begun = std::time::Instant::now();
    assert!(world.jit("a").await.unwrap_err().lost_answer());
    assert!((1..3).contains(&begun.elapsed().as_secs()));
}

#[tokio::test]
async fn what_was_not_sent_was_not_done() {
    let world = World::new();
    let mut config = config(&world.fake);
    config.api_url = "http://127.0.0.1:9/".parse().unwrap();
    let github = GitHub::new(&config, Clock::default()).unwrap();
    let jit = grant(Method::Jit, "octo-org", 1);
    let refused = github.generate_jitconfig(&jit, "a", soon()).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Unavailable { maybe_done: false, why } if why.contains("refused")),
        "{refused}"
    );

    // GitHub goes away between the token and the call.
    let World { fake, github, .. } = World::warm().await;
    drop(fake);
    // A connection that was kept may be seen to be dead only when it is used, and then nobody knows.
    github.generate_jitconfig(&jit, "a", soon()).await.unwrap_err();
    let refused = github.generate_jitconfig(&jit, "a", soon()).await.unwrap_err();
    assert!(matches!(&refused, Error::Unavailable { maybe_done: false, .. }), "{refused:?}");
    let registration = grant(Method::RegistrationToken, "octo-org", 1);
    let refused = github.registration_token(&registration, soon()).await.unwrap_err();
    assert!(!refused.lost_answer(), "{refused:?}");
}

#[tokio::test]
async fn a_call_that_never_left_the_queue_was_not_done() {
    let world = World::warm().await;
    world.fail(Fault::new("GET", "/actions/runners/", Action::Hang).always());
    let (target, jit, name) = (org(), grant(Method::Jit, "octo-org", 1), "a");
    let hung = join_all((0..80).map(|id| world.github.runner(&target, id, millis(700))));
    let queued = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.github.generate_jitconfig(&jit, name, millis(200)).await.unwrap_err()
    };
    let (_, queued) = tokio::join!(hung, queued);
    assert!(matches!(&queued, Error::Unavailable { maybe_done: false, .. }), "{queued:?}");
    assert_eq!(world.asked("POST", JIT), 0);
    world.fake.clear_faults();
    assert!(world.jit("a").await.is_ok(), "those that gave up left their places");
}

#[tokio::test]
async fn a_refusal_is_told_in_githubs_words_and_was_not_done() {
    let (_, error) = failing(canned(422, "Runner name is 'reserved'")).await;
    assert!(
        matches!(&error, Error::Refused { status: 422, message } if message == "Runner name is 'reserved'")
    );
    let (_, error) = failing(canned(403, "This installation has been suspended")).await;
    assert!(matches!(&error, Error::Refused { status: 403, .. }), "{error:?}");
    let (_, error) = failing(canned(403, "Must have admin rights to Repository.")).await;
    let Error::PermissionMissing { needed, message } = &error else { panic!("{error:?}") };
    assert_eq!(needed, "organization_self_hosted_runners=write", "what we know, where GitHub does not say");
    assert_eq!(message, "Must have admin rights to Repository.");
    let (_, error) = failing(Action::PermissionMissing).await;
    let Error::PermissionMissing { needed, .. } = &error else { panic!("{error:?}") };
    assert_eq!(needed, "organization_self_hosted_runners=write");
    assert!(!error.lost_answer());
    let (_, error) = failing(Action::Html { status: 404 }).await;
    assert!(matches!(&error, Error::NotFound { .. }), "{error:?}");
    assert!(!error.to_string().contains('<'), "{error}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = World::warm().await;
    let to = format!("{}/orgs/octo-org/actions/runners/generate-jitconfig", elsewhere.fake.url());
    for status in [301, 302, 307, 308] {
        let action = Action::Respond(Canned::status(status).header("location", &to));
        let (_, error) = failing(action).await;
        assert!(matches!(&error, Error::Refused { status: told, .. } if *told == status), "{error:?}");
    }
    assert!(elsewhere.fake.calls().is_empty());
}

#[tokio::test]
async fn a_limit_is_told_with_its_end_and_was_not_done() {
    let header = |name: &str, value: &str| Action::Respond(Canned::status(403).header(name, value));
    for (action, seconds) in [
        (Action::SecondaryLimit { retry_after_seconds: 42 }, 42),
        (Action::RateLimited { reset_seconds: 600 }, 600),
        (Action::Respond(Canned::status(429).header("retry-after", "30")), 30),
        (Action::Respond(Canned::status(429)), 60),
        (header("retry-after", "Sat, 21 Nov 2026 00:00:00 GMT"), 60),
        (header("retry-after", "99999999999"), 3600),
        (canned(403, "You have exceeded a secondary rate limit."), 60),
        (canned(403, "API rate limit exceeded for installation ID 1."), 60),
    ] {
        let (world, error) = failing(action.clone()).await;
        let Error::RateLimited { until } = error else { panic!("{action:?}: {error:?}") };
        let wait = (until - world.clock.now()).num_seconds();
        assert!((seconds - 3..=seconds).contains(&wait), "{action:?}: {wait}");
        assert!(!error.lost_answer() && !world.exists("a"));
    }
}

#[tokio::test]
async fn a_taken_name_is_a_conflict_and_an_unknown_group_is_not_found() {
    let world = World::new();
    world.jit("a").await.unwrap();
    let taken = world.jit("A").await.unwrap_err();
    assert!(matches!(&taken, Error::Conflict { message } if message.contains("exists")), "{taken:?}");
    let stray = grant(Method::Jit, "octo-org", 99);
    let unknown = world.github.generate_jitconfig(&stray, "b", soon()).await.unwrap_err();
    assert!(matches!(&unknown, Error::NotFound { what } if what.contains("runner group 99")), "{unknown:?}");
}

#[tokio::test]
async fn a_suspended_installation_is_told_at_once() {
    let world = World::new();
    world.fake.suspend("octo-org");
    let refused = world.jit("a").await.unwrap_err();
    assert!(matches!(&refused, Error::Refused { status: 403, message } if message.contains("suspended")));
}

#[tokio::test]
async fn reading_and_deleting_are_repeated_through_a_short_failure() {
    let world = World::warm().await;
    let id = world.fake.plant("octo-org", "a", &["x"], true).unwrap();
    for action in [Action::Respond(Canned::status(502)), Action::Drop, Action::Truncate] {
        world.fail(Fault::new("GET", "/actions/runners/", action).times(2));
        assert!(world.github.runner(&org(), id, soon()).await.unwrap().is_some());
    }
    world.fail(Fault::new("DELETE", "/actions/runners/", Action::ActThenDrop));
    assert_eq!(world.github.delete_runner(&org(), id, soon()).await.unwrap(), Removal::NotThere);

    world.fake.clear_calls();
    world.fail(Fault::new("GET", "/actions/runners/", Action::Respond(Canned::status(500))).always());
    let failed = world.github.runner(&org(), id, soon()).await.unwrap_err();
    assert!(matches!(failed, Error::Unavailable { maybe_done: false, .. }), "reading does nothing");
    assert_eq!(world.asked("GET", "/actions/runners/"), 3);
}

#[tokio::test]
async fn a_runner_that_says_little_of_itself_is_understood() {
    let world = World::warm().await;
    let answer = r#"{"runner": {"id": 7, "name": "a", "os": null, "labels": [{"name": "x"}, {"name": "y", "new": 1}]},
        "encoded_jit_config": "c2VjcmV0"}"#;
    world.fail(Fault::new("POST", JIT, Action::Respond(Canned::status(201).body(answer))));
    let made = world.jit("a").await.unwrap().runner;
    assert_eq!((made.id, made.os, made.online, made.busy, made.ephemeral), (7, None, false, false, None));
    assert_eq!(made.labels, ["x", "y"]);
}
