//! Whom a deny rule matches is refused, by every call and every replica, until it ends.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use reqwest::Method;
use runner_broker::background;
use runner_broker::dev::github::{Action, Fault};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::identities::{new_world, replica, with_roles_and};
use crate::support::{ORG, World, eventually};

fn deny(claims: &str) -> String {
    format!("[[deny]]\nissuer = \"ISSUER\"\nclaims = {{ {claims} }}\n")
}

/// The refusal of the caller with these claims.
async fn refusal(world: &World, claims: Value) -> String {
    let answer = world.call(Method::GET, "/api/v1/auth/me", &world.issuer.mint(claims), &[], None).await;
    answer.body["error_code"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_a_denied_caller_is_refused_whatever_else_they_are() {
    let world = new_world().await;
    assert_eq!(world.jit("b1").await.status, 201);
    with_roles_and(&world, &deny("team = \"blue|boss|watch\"")).await;
    let calls = world.github.calls().len();
    let document: Value = serde_json::from_str(include_str!("../../../openapi/openapi.json")).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|_| path.starts_with("/api/v1/")) {
            // GitHub's webhooks need no token, and have no identity.
            if path.contains("webhook") {
                continue;
            }
            let method: Method = method.to_uppercase().parse().unwrap();
            for who in ["blue", "boss", "watch"] {
                let (token, body) = (world.token(who), Some(json!({})));
                let answer = world.call(method.clone(), path, &token, &[], body).await;
                assert_eq!(answer.refusal(), (403, "ACCESS_DENIED"), "{method} {path} {who}");
            }
        }
    }
    assert_eq!(world.github.calls().len(), calls, "GitHub hears of nothing");
    for who in ["red", "chief"] {
        assert_eq!(world.get("/api/v1/auth/me", who).await.status, 200, "nobody else");
    }
    with_roles_and(&world, "").await;
    assert_eq!(world.get("/api/v1/runners/b1", "blue").await.status, 200, "let in again");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_chooses_another_subject_is_denied_by_what_they_cannot_choose() {
    let world = new_world().await;
    let rules = [
        deny("repository_id = \"42\""),
        deny("groups = \"contractors\""),
        deny("\"/actor/id\" = \"7\", ref = \"refs/heads/.*\""),
    ];
    with_roles_and(&world, &rules.concat()).await;
    for branch in ["main", "other", "feature"] {
        let sub = format!("repo:octo-org/ml:ref:refs/heads/{branch}");
        let claims = json!({ "sub": sub, "team": "blue", "repository_id": "42" });
        assert_eq!(refusal(&world, claims).await, "ACCESS_DENIED", "{branch}");
        let sibling = json!({ "sub": sub, "team": "blue", "repository_id": "43" });
        assert_eq!(refusal(&world, sibling).await, "", "{branch}");
    }
    for (claims, wanted) in [
        (json!({ "sub": "a", "team": "boss", "groups": ["staff", "contractors"] }), "ACCESS_DENIED"),
        (json!({ "sub": "a", "team": "boss", "groups": ["staff"] }), ""),
        (
            json!({ "sub": "a", "team": "watch", "actor": { "id": 7 }, "ref": "refs/heads/x" }),
            "ACCESS_DENIED",
        ),
        (json!({ "sub": "a", "team": "watch", "actor": { "id": 7 }, "ref": "refs/tags/x" }), ""),
        (json!({ "sub": "a", "team": "nobody", "groups": "contractors" }), "ACCESS_DENIED"),
    ] {
        assert_eq!(refusal(&world, claims.clone()).await, wanted, "{claims}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_with_an_end_ends_by_the_brokers_clock() {
    let world = new_world().await;
    let until = world.clock.now() + TimeDelta::minutes(10);
    let rule = format!("{}until = \"{}\"\n", deny("team = \"blue\""), until.to_rfc3339());
    with_roles_and(&world, &rule).await;
    assert_eq!(world.get("/api/v1/auth/me", "blue").await.refusal(), (403, "ACCESS_DENIED"));
    world.pass(590);
    assert_eq!(world.get("/api/v1/auth/me", "blue").await.refusal(), (403, "ACCESS_DENIED"));
    world.pass(11);
    assert_eq!(world.get("/api/v1/auth/me", "blue").await.status, 200);
    assert_eq!(world.jit("b1").await.status, 201);
    with_roles_and(&world, &rule.replace("blue", "red")).await;
    assert_eq!(world.get("/api/v1/auth/me", "red").await.status, 200, "it is past already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_stands_is_refused_too_and_nobody_signs_in() {
    let world = new_world().await;
    let (visitor, other) = (world.visitor(), world.visitor());
    let claims = json!({ "team": "boss", "groups": ["ops"] });
    visitor.sign_in("boss-user", claims.clone()).await;
    other.sign_in("chief-user", json!({ "team": "chief" })).await;
    with_roles_and(&world, &deny("groups = \"ops\"")).await;
    for page in ["/", "/runners", "/teams", "/roles", "/audit"] {
        let answer = visitor.get(page).await;
        assert_eq!(answer.status, 403, "{page}");
        assert!(answer.text.contains("An administrator has denied you access"), "{}", answer.text);
    }
    assert!(other.is_signed_in().await, "nobody else");
    let again = world.visitor();
    let answer = again.arrive("boss-user", claims.clone(), "/").await;
    assert_eq!(answer.status, 403);
    assert!(answer.text.contains("dministrator has denied you access"), "{}", answer.text);
    assert_eq!(world.sql("SELECT subject FROM sessions ORDER BY 1").await, ["boss-user", "chief-user"]);
    with_roles_and(&world, "").await;
    assert!(visitor.is_signed_in().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_replica_denies_within_five_seconds_though_it_knows_the_token() {
    let world = new_world().await;
    let other = replica(&world, 4);
    other.refresh_policy().await.unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(background::run(other.clone(), world.verifier.clone(), stop.clone()));
    let verified = world.verifier.verify(&world.token("blue")).await.unwrap();
    let admit = || other.admit(verified.clone(), Default::default()).map_err(|err| err.code());
    assert!(admit().is_ok());
    with_roles_and(&world, &deny("team = \"blue\"")).await;
    let began = Instant::now();
    eventually("the refusal", async || admit().err() == Some("ACCESS_DENIED")).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provision_that_was_let_in_before_the_denial_gets_no_runner() {
    let world = new_world().await;
    world.github.add_group(ORG, "vault");
    // GitHub takes its time over the group's name, between the door and the intent.
    world.github.fail(Fault::new("GET", "runner-groups", Action::Delay { millis: 1_000 }));
    let provision = async {
        let ask = json!({ "runner_name": "b1", "runner_group": "vault" });
        let answer = world.post("/api/v1/runners/jit", "blue", ask).await;
        assert_eq!(answer.refusal(), (403, "ACCESS_DENIED"), "{}", answer.text);
    };
    let denial = async {
        eventually("the question", async || {
            world.github.calls().iter().any(|call| call.path.contains("runner-groups"))
        })
        .await;
        with_roles_and(&world, &deny("team = \"blue\"")).await;
    };
    tokio::join!(provision, denial);
    assert_eq!(world.posts(), 0);
    assert!(world.sql("SELECT 1 FROM runners").await.is_empty());
    let refusals = world.log("error_code = 'ACCESS_DENIED'").await;
    assert_eq!(refusals.len(), 1);
    assert_eq!(
        (&refusals[0]["event_type"], &refusals[0]["severity"]),
        (&json!("provision_refused"), &json!("warning"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_denied_callers_try_is_written_once_and_then_counted() {
    let world = new_world().await;
    with_roles_and(&world, &[deny("team = \"red\""), deny("team = \"blue\"")].concat()).await;
    for number in 0..30 {
        let claims = json!({ "sub": format!("chosen-{number}"), "team": "blue" });
        assert_eq!(refusal(&world, claims).await, "ACCESS_DENIED");
    }
    let query =
        "SELECT concat_ws(' ', subject, success, severity, policy_rule, error_code, event_data->>'further')
                 FROM audit_log WHERE event_type = 'access_denied' ORDER BY id";
    let first = "chosen-0 f warning deny 2 ACCESS_DENIED";
    eventually("the first", async || world.sql(query).await == [first]).await;
    world.broker.flush_refusals().await.unwrap();
    assert_eq!(world.sql(query).await, [first, "f warning ACCESS_DENIED 29"]);
    world.broker.flush_identities().await.unwrap();
    let seen = world.sql("SELECT subject FROM identities WHERE subject LIKE 'chosen%'").await;
    assert!(seen.is_empty(), "whoever is refused is not seen: {seen:?}");
    let security = world.get("/api/v1/admin/security-events?type=access_denied", "chief").await;
    assert_eq!(security.body["events"].as_array().map(Vec::len), Some(2), "{}", security.text);
}
