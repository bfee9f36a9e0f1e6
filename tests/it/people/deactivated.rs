//! Whoever is deactivated is refused, by every call and every replica.

use std::time::{Duration, Instant};

use reqwest::Method;
use runner_broker::background;
use runner_broker::dev::github::{Action, Fault};
use runner_broker::model::Identity;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::identities::{COMMENT, IDENTITIES, id_of, new_world, replica, seen, set};
use crate::support::{ORG, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_deactivated_caller_is_refused_by_every_call_here_at_once() {
    let world = new_world().await;
    assert_eq!(world.jit("b1").await.status, 201);
    seen(&world, &["blue", "boss"]).await;
    let answer = set(&world, "deactivate", "blue", "boss").await;
    assert_eq!((answer.status, &answer.body["active"]), (200, &json!(false)), "{}", answer.text);
    assert_eq!(answer.str("comment"), COMMENT);
    assert!(!answer.str("deactivated_at").is_empty());
    let calls = world.github.calls().len();
    let document: Value = serde_json::from_str(include_str!("../../../openapi/openapi.json")).unwrap();
    let token = world.token("blue");
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|_| path.starts_with("/api/v1/")) {
            // Whom GitHub signs for needs no token, and has no identity.
            if path.contains("webhook") {
                continue;
            }
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = world.call(method.clone(), path, &token, &[], Some(json!({}))).await;
            assert_eq!(answer.refusal(), (403, "IDENTITY_DEACTIVATED"), "{method} {path}");
        }
    }
    assert_eq!(world.github.calls().len(), calls, "GitHub hears of nothing");
    assert_eq!(world.get("/api/v1/auth/me", "red").await.status, 200, "nobody else");

    assert_eq!(set(&world, "activate", "blue", "boss").await.body["active"], json!(true));
    assert_eq!(world.get("/api/v1/runners/b1", "blue").await.status, 200, "his runners are still his");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_refuses_after_its_next_poll_and_lets_in_again_after_the_one_after() {
    let world = new_world().await;
    let other = replica(&world, 2);
    other.refresh_policy().await.unwrap();
    seen(&world, &["blue", "boss"]).await;
    let token = world.token("blue");
    let admitted = async || {
        let verified = world.verifier.verify(&token).await.unwrap();
        other.admit(verified, Default::default()).map_err(|err| err.code())
    };
    assert!(admitted().await.is_ok());
    set(&world, "deactivate", "blue", "boss").await;
    assert!(admitted().await.is_ok(), "it has not asked yet");
    other.refresh_policy().await.unwrap();
    assert_eq!(admitted().await.err(), Some("IDENTITY_DEACTIVATED"));
    set(&world, "activate", "blue", "boss").await;
    other.refresh_policy().await.unwrap();
    assert!(admitted().await.is_ok());
    // And one that starts now knows.
    set(&world, "deactivate", "blue", "boss").await;
    let third = replica(&world, 2);
    third.refresh_policy().await.unwrap();
    let verified = world.verifier.verify(&token).await.unwrap();
    assert!(third.admit(verified, Default::default()).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_replica_remembers_callers_and_refuses_within_five_seconds() {
    let world = new_world().await;
    let other = replica(&world, 4);
    other.refresh_policy().await.unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(background::run(other.clone(), world.verifier.clone(), stop.clone()));
    let token = world.token("blue");
    let verified = world.verifier.verify(&token).await.unwrap();
    let admit = || other.admit(verified.clone(), Default::default());
    admit().unwrap();
    eventually("the row", async || world.sql("SELECT subject FROM identities").await == ["blue-user"]).await;
    set(&world, "deactivate", "blue", "boss").await;
    let began = Instant::now();
    eventually("the refusal", async || admit().is_err()).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provision_that_was_let_in_before_the_deactivation_gets_no_runner() {
    let world = new_world().await;
    world.github.add_group(ORG, "vault");
    seen(&world, &["blue", "boss"]).await;
    let id = id_of(&world, "blue").await;
    // GitHub takes its time over the group's name, between the door and the intent.
    world.github.fail(Fault::new("GET", "runner-groups", Action::Delay { millis: 1_000 }));
    let ask = json!({ "runner_name": "b1", "runner_group": "vault" });
    let provision = async {
        let answer = world.post("/api/v1/runners/jit", "blue", ask).await;
        assert_eq!(answer.refusal(), (403, "IDENTITY_DEACTIVATED"), "{}", answer.text);
    };
    let deactivate = async {
        eventually("the question", async || {
            world.github.calls().iter().any(|call| call.path.contains("runner-groups"))
        })
        .await;
        let path = format!("{IDENTITIES}/{id}/deactivate");
        assert_eq!(world.post(&path, "boss", json!({ "comment": COMMENT })).await.status, 200);
    };
    tokio::join!(provision, deactivate);
    assert_eq!(world.posts(), 0);
    assert!(world.sql("SELECT 1 FROM runners").await.is_empty());
    let refusals = world.log("error_code = 'IDENTITY_DEACTIVATED'").await;
    assert_eq!(refusals.len(), 1);
    assert_eq!(
        (&refusals[0]["event_type"], &refusals[0]["severity"]),
        (&json!("provision_refused"), &json!("warning"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_one_event_with_its_comment_and_repeating_it_is_none() {
    let world = new_world().await;
    seen(&world, &["blue", "boss"]).await;
    let id = id_of(&world, "blue").await;
    for verb in ["activate", "deactivate", "deactivate", "activate", "activate"] {
        let answer = set(&world, verb, "blue", "boss").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body["active"], json!(verb == "activate"));
        assert_eq!(answer.body["deactivated_at"].is_null(), verb == "activate");
    }
    let events = world.log("event_type LIKE 'identity_%'").await;
    let types: Vec<&Value> = events.iter().map(|event| &event["event_type"]).collect();
    assert_eq!(types, ["identity_deactivated", "identity_activated"]);
    for event in events {
        assert_eq!((&event["subject"], &event["success"]), (&json!("boss-user"), &json!(true)));
        let about = json!({ "identity_id": id, "issuer": world.issuer.url(), "subject": "blue-user",
            "display_name": "blue-user", "comment": COMMENT });
        assert_eq!(event["event_data"], about);
    }
    // One that is not written changes nothing.
    world
        .sql("ALTER TABLE audit_log ADD CONSTRAINT no CHECK (event_type <> 'identity_deactivated') NOT VALID")
        .await;
    assert_eq!(set(&world, "deactivate", "blue", "boss").await.status, 500);
    assert_eq!(world.sql("SELECT count(*) FROM identities WHERE NOT active").await, ["0"]);
    assert_eq!(world.get("/api/v1/auth/me", "blue").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_deactivates_himself_and_of_two_who_deactivate_each_other_one_stays() {
    let world = new_world().await;
    seen(&world, &["boss", "chief"]).await;
    assert_eq!(set(&world, "deactivate", "boss", "boss").await.refusal(), (409, "OWN_IDENTITY"));
    for _ in 0..5 {
        let (one, other) = tokio::join!(
            set(&world, "deactivate", "chief", "boss"),
            set(&world, "deactivate", "boss", "chief")
        );
        let mut statuses = [one.status, other.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 403], "{} {}", one.text, other.text);
        let (stayed, gone) = if one.status == 200 { ("boss", "chief") } else { ("chief", "boss") };
        assert_eq!(set(&world, "activate", gone, stayed).await.status, 200);
    }
    // One whose replica has not heard of it yet can do no more either.
    let other = replica(&world, 2);
    other.refresh_policy().await.unwrap();
    let verified = world.verifier.verify(&world.token("chief")).await.unwrap();
    let chief = other.admit(verified, Default::default()).unwrap();
    set(&world, "deactivate", "chief", "boss").await;
    let id = id_of(&world, "boss").await.parse().unwrap();
    let late = other.deactivate(&chief, id, COMMENT).await;
    assert_eq!(late.err().map(|err| err.code()), Some("IDENTITY_DEACTIVATED"));
    assert_eq!(world.get("/api/v1/auth/me", "boss").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deactivated_caller_tries_is_written_once_and_then_counted() {
    let world = new_world().await;
    seen(&world, &["blue", "red", "boss"]).await;
    set(&world, "deactivate", "blue", "boss").await;
    set(&world, "deactivate", "red", "boss").await;
    for who in ["blue", "blue", "red", "blue"] {
        assert_eq!(world.get("/api/v1/runners", who).await.status, 403);
    }
    let query = "SELECT concat_ws(' ', subject, user_identity, success, severity, event_data->>'further')
                 FROM audit_log WHERE event_type = 'identity_refused' ORDER BY subject, id";
    let first = ["blue-user blue-user f warning", "red-user red-user f warning"];
    eventually("the first of each", async || world.sql(query).await == first).await;
    world.broker.flush_refusals().await.unwrap();
    let counted = "blue-user system:authentication f warning 2";
    assert_eq!(world.sql(query).await, [first[0], counted, first[1]]);
    // Whoever is refused is not seen.
    world.pass(400);
    let seen = world.sql("SELECT last_seen_at FROM identities WHERE subject = 'blue-user'").await;
    world.get("/api/v1/runners", "blue").await;
    world.broker.flush_identities().await.unwrap();
    assert_eq!(world.sql("SELECT last_seen_at FROM identities WHERE subject = 'blue-user'").await, seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_subject_of_another_issuer_is_somebody_else() {
    let world = new_world().await;
    seen(&world, &["blue", "boss"]).await;
    set(&world, "deactivate", "blue", "boss").await;
    let verified = world.verifier.verify(&world.token("blue")).await.unwrap();
    assert!(world.broker.admit(verified.clone(), Default::default()).is_err());
    let other = Identity { issuer: "https://other.example".into(), ..verified.identity.clone() };
    let other = runner_broker::auth::Verified { identity: other, ..verified };
    assert!(world.broker.admit(other, Default::default()).is_ok());
}
