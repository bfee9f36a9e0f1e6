//! Who was seen, and who is not to be let in any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use runner_broker::broker::Broker;
use runner_broker::dev::github::{Action, Fault};
use runner_broker::github::GitHub;
use runner_broker::jobs;
use runner_broker::model::Identity;
use runner_broker::store::Store;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{Answer, ORG, World, eventually, team};

const IDENTITIES: &str = "/api/v1/admin/identities";
const COMMENT: &str = "left the company";

/// Teams blue and red, the admins boss and chief, the auditor watch.
pub async fn with_roles(world: &World) {
    let role =
        |role: &str, who: &str| format!("[[{role}]]\nissuer = \"ISSUER\"\nclaims = {{ team = \"{who}\" }}\n");
    let policy = [
        team("blue", "runner_groups = [\"Default\", \"vault\"]"),
        team("red", ""),
        role("admin", "boss"),
        role("admin", "chief"),
        role("auditor", "watch"),
    ];
    world.policy(&policy.concat()).await;
}

async fn new_world() -> World {
    let world = World::new().await;
    with_roles(&world).await;
    world
}

/// Another replica on the world's database, which has not heard of anything yet.
pub fn replica(world: &World, connections: usize) -> Arc<Broker> {
    let config = &world.config;
    let store = Store::new(&config.database_url, connections).expect("a URL");
    let github = GitHub::new(&config.github, world.clock.clone()).expect("a key");
    Broker::new(config.broker.clone(), &config.github, store, github, world.clock.clone())
}

/// Calls as each of them and writes down who was seen.
async fn seen(world: &World, teams: &[&str]) {
    for team in teams {
        world.get("/api/v1/auth/me", team).await;
    }
    world.broker.flush_identities().await.expect("a database");
}

async fn id_of(world: &World, who: &str) -> String {
    let ids = world.sql(&format!("SELECT id FROM identities WHERE subject = '{who}-user'")).await;
    ids.into_iter().next().expect("an identity")
}

async fn set(world: &World, verb: &str, who: &str, by: &str) -> Answer {
    let id = id_of(world, who).await;
    world.post(&format!("{IDENTITIES}/{id}/{verb}"), by, json!({ "comment": COMMENT })).await
}

async fn subjects(world: &World, query: &str) -> Vec<String> {
    let answer = world.get(&format!("{IDENTITIES}?{query}"), "watch").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let listed = answer.body["identities"].as_array().expect("identities").iter();
    listed
        .map(|one| one["subject"].as_str().expect("a subject").trim_end_matches("-user").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_with_a_team_or_a_role_are_remembered_and_strangers_are_not() {
    let world = new_world().await;
    for who in ["blue", "red", "boss", "watch", "nobody", "blue"] {
        world.get("/api/v1/auth/me", who).await;
    }
    assert!(world.sql("SELECT 1 FROM identities").await.is_empty(), "a request writes nothing");
    world.broker.flush_identities().await.unwrap();
    let listed = world.get(IDENTITIES, "watch").await;
    assert_eq!(subjects(&world, "").await.len(), 4);
    let blue = listed.body["identities"].as_array().unwrap().iter();
    let blue = blue.clone().find(|one| one["subject"] == "blue-user").expect("blue");
    assert_eq!((&blue["issuer"], &blue["active"]), (&json!(world.issuer.url()), &json!(true)));
    assert_eq!(blue["first_seen_at"], blue["last_seen_at"]);
    assert_eq!((&blue["deactivated_at"], &blue["comment"]), (&Value::Null, &Value::Null));
    let fields = ["active", "comment", "deactivated_at", "display_name", "first_seen_at", "id", "issuer"];
    let named: Vec<&String> = blue.as_object().unwrap().keys().collect();
    assert_eq!(named[..7], fields);
}

#[tokio::test(flavor = "multi_thread")]
async fn last_seen_moves_at_most_every_five_minutes_and_a_new_name_at_once() {
    let world = new_world().await;
    let row = "SELECT concat_ws('|', id, first_seen_at, last_seen_at, display_name) FROM identities";
    seen(&world, &["blue"]).await;
    let first = world.sql(row).await;
    world.pass(299);
    seen(&world, &["blue"]).await;
    assert_eq!(world.sql(row).await, first);
    world.pass(2);
    seen(&world, &["blue"]).await;
    let second = world.sql(row).await;
    let parts = |row: &[String]| row[0].split('|').map(str::to_owned).collect::<Vec<_>>();
    let (first, second) = (parts(&first), parts(&second));
    assert_eq!(first[..2], second[..2], "the same row, first seen when it was");
    assert_ne!(first[2], second[2]);

    let renamed = json!({ "sub": "blue-user", "team": "blue", "email": "blue@example.com" });
    let renamed = world.issuer.mint(renamed);
    world.pass(1);
    world.call(Method::GET, "/api/v1/auth/me", &renamed, &[], None).await;
    world.broker.flush_identities().await.unwrap();
    assert_eq!(parts(&world.sql(row).await)[3], "blue@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_make_one_row_and_the_later_sighting_stays() {
    let world = new_world().await;
    let other = replica(&world, 2);
    other.refresh_policy().await.unwrap();
    let token = world.token("blue");
    let admit = async |broker: &Arc<Broker>| {
        let verified = world.verifier.verify(&token).await.unwrap();
        broker.admit(verified, Default::default()).unwrap();
    };
    admit(&world.broker).await;
    world.pass(60);
    admit(&other).await;
    other.flush_identities().await.unwrap();
    let times = "SELECT first_seen_at = last_seen_at FROM identities";
    let last = world.sql("SELECT last_seen_at FROM identities").await;
    world.broker.flush_identities().await.unwrap();
    assert_eq!(world.sql("SELECT last_seen_at FROM identities").await, last);
    assert_eq!(world.sql(times).await, ["t"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sighting_that_cannot_be_written_refuses_nobody_and_is_written_later() {
    let world = new_world().await;
    world.sql("ALTER TABLE identities RENAME TO away").await;
    assert_eq!(world.jit("b1").await.status, 201);
    assert!(world.broker.flush_identities().await.is_err());
    assert_eq!(world.jit("b2").await.status, 201);
    world.sql("ALTER TABLE away RENAME TO identities").await;
    world.broker.flush_identities().await.unwrap();
    assert_eq!(world.sql("SELECT subject FROM identities").await, ["blue-user"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_filters_pages_and_is_for_admins_and_auditors() {
    let world = new_world().await;
    for who in ["blue", "red", "boss", "watch"] {
        seen(&world, &[who]).await;
    }
    assert_eq!(set(&world, "deactivate", "red", "boss").await.status, 200);
    assert_eq!(subjects(&world, "").await, ["watch", "boss", "red", "blue"], "newcomers first");
    assert_eq!(subjects(&world, "active=false").await, ["red"]);
    assert_eq!(subjects(&world, "active=true").await, ["watch", "boss", "blue"]);
    assert_eq!(subjects(&world, "q=LUE-us").await, ["blue"], "part of it, without case");
    assert!(subjects(&world, "q=%25").await.is_empty(), "no wildcard");
    assert!(subjects(&world, "q=b_ue").await.is_empty());
    let (mut visited, mut cursor) = (Vec::new(), String::new());
    loop {
        let query = format!("limit=1{cursor}");
        visited.extend(subjects(&world, &query).await);
        match world.get(&format!("{IDENTITIES}?{query}"), "boss").await.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(visited, ["watch", "boss", "red", "blue"]);
    for query in ["limit=0", "limit=201", "cursor=x", "active=x", "who=x", "q=%00"] {
        let answer = world.get(&format!("{IDENTITIES}?{query}"), "watch").await;
        assert_eq!(answer.refusal(), (422, "INVALID_REQUEST"), "{query}");
    }
    assert_eq!(world.get(IDENTITIES, "blue").await.refusal(), (403, "FORBIDDEN"));
    assert_eq!(world.get(IDENTITIES, "nobody").await.refusal(), (403, "FORBIDDEN"));
    let none = world.call(Method::GET, IDENTITIES, "", &[], None).await;
    assert_eq!(none.refusal(), (401, "MISSING_TOKEN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_admins_change_an_identity_and_nothing_else_of_them_is_heard_first() {
    let world = new_world().await;
    seen(&world, &["blue", "boss"]).await;
    let path = format!("{IDENTITIES}/{}/deactivate", id_of(&world, "blue").await);
    for who in ["watch", "red", "blue", "nobody"] {
        // A stranger's bad body is not answered before his missing role.
        let answer = world.post(&path, who, json!({ "bad": 1 })).await;
        assert_eq!(answer.refusal(), (403, "FORBIDDEN"), "{who}");
    }
    assert_eq!(world.get("/api/v1/auth/me", "blue").await.status, 200);
    let refused = "SELECT concat_ws(' ', event_type, subject, error_code) FROM audit_log
                   WHERE error_code = 'FORBIDDEN' ORDER BY id";
    let wanted = [
        "access_refused watch-user FORBIDDEN",
        "access_refused red-user FORBIDDEN",
        "access_refused blue-user FORBIDDEN",
        "caller_refused nobody-user FORBIDDEN",
    ];
    eventually("the refusals", async || {
        let mut found = world.sql(refused).await;
        found.sort_by_key(|line| wanted.iter().position(|one| one == line));
        found == wanted
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_has_10_to_500_characters() {
    let world = new_world().await;
    seen(&world, &["blue", "boss"]).await;
    let path = format!("{IDENTITIES}/{}/deactivate", id_of(&world, "blue").await);
    let long = "ü".repeat(501);
    for comment in ["", "too short", "         x         ", "with\na line's end", &long] {
        let answer = world.post(&path, "boss", json!({ "comment": comment })).await;
        assert_eq!(answer.refusal(), (422, "INVALID_REQUEST"), "{comment:?}");
        assert_eq!(answer.body["errors"][0]["field"], "comment");
    }
    assert_eq!(world.post(&path, "boss", json!({})).await.refusal(), (422, "INVALID_REQUEST"));
    assert_eq!(world.post(&path, "boss", json!({ "comment": &long[..1000] })).await.status, 200);
    let path = path.replace("deactivate", "activate");
    assert_eq!(world.post(&path, "boss", json!({ "comment": "ten chars!" })).await.status, 200);
    for id in ["0197f7a0-0000-7000-8000-000000000000", "nobody"] {
        let path = format!("{IDENTITIES}/{id}/deactivate");
        let answer = world.post(&path, "boss", json!({ "comment": COMMENT })).await;
        assert_eq!(answer.refusal(), (404, "NOT_FOUND"), "{}", answer.text);
    }
}

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
    let document: Value = serde_json::from_str(include_str!("../../openapi/openapi.json")).unwrap();
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
    let running = tokio::spawn(jobs::run(other.clone(), world.verifier.clone(), stop.clone()));
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

#[tokio::test(flavor = "multi_thread")]
async fn subjects_as_long_as_can_be_are_remembered() {
    let world = new_world().await;
    // Too long for a row of an index, and with nothing in it to be compressed.
    let subject: String =
        (0..1024u32).map(|n| char::from_u32(0x20000 + n * 7919 % 40_000).unwrap()).collect();
    let token = world.issuer.mint(json!({ "sub": subject, "team": "blue" }));
    assert_eq!(world.call(Method::GET, "/api/v1/auth/me", &token, &[], None).await.status, 200);
    world.broker.flush_identities().await.unwrap();
    assert_eq!(world.sql("SELECT length(subject) FROM identities").await, ["1024"]);
}
