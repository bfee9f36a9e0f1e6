//! Who was seen, who may see that, and who may change it.

use std::sync::Arc;

use reqwest::Method;
use runner_broker::broker::Broker;
use runner_broker::github::GitHub;
use runner_broker::store::Store;
use serde_json::{Value, json};

use crate::support::{Answer, World, eventually, team};

pub const IDENTITIES: &str = "/api/v1/admin/identities";
pub const COMMENT: &str = "left the company";

/// Teams blue and red, the admins boss and chief, the auditor watch.
pub async fn with_roles(world: &World) {
    with_roles_and(world, "").await;
}

/// The same, and more rules.
pub async fn with_roles_and(world: &World, more: &str) {
    let role =
        |role: &str, who: &str| format!("[[{role}]]\nissuer = \"ISSUER\"\nclaims = {{ team = \"{who}\" }}\n");
    let policy = [
        team("blue", "runner_groups = [\"Default\", \"vault\"]"),
        team("red", ""),
        role("admin", "boss"),
        role("admin", "chief"),
        role("auditor", "watch"),
        more.to_owned(),
    ];
    world.policy(&policy.concat()).await;
}

pub async fn new_world() -> World {
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
pub async fn seen(world: &World, teams: &[&str]) {
    for team in teams {
        world.get("/api/v1/auth/me", team).await;
    }
    world.broker.flush_identities().await.expect("a database");
}

pub async fn id_of(world: &World, who: &str) -> String {
    let ids = world.sql(&format!("SELECT id FROM identities WHERE subject = '{who}-user'")).await;
    ids.into_iter().next().expect("an identity")
}

pub async fn set(world: &World, verb: &str, who: &str, by: &str) -> Answer {
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

    let renamed = json!({ "sub": "blue-user", "team": "blue", "email": "blue@example.com",
        "email_verified": true });
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
