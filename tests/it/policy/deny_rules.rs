//! Deny rules, as admins make them.

use futures_util::future::join;
use reqwest::Method;
use runner_broker::broker::policy::apply;
use serde_json::{Value, json};

use super::teams::change;
use crate::people::identities::new_world;
use crate::support::{Answer, World};

const DENIALS: &str = "/api/v1/admin/denials";

fn rule(world: &World, team: &str, more: Value) -> Value {
    let mut rule = json!({ "issuer": world.issuer.url(), "claims": { "team": team } });
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rule
}

async fn add(world: &World, seen: &str, rule: Value) -> Answer {
    change(world, Method::POST, DENIALS, seen, Some(rule)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_denies_somebody_access_and_takes_it_back() {
    let world = new_world().await;
    let before = world.get(DENIALS, "watch").await;
    assert_eq!(before.body, json!({ "denials": [], "managed_by_file": false }));
    let asked = rule(&world, "blue", json!({ "comment": "leaked", "until": "2100-12-31T18:00:00+01:00" }));
    let added = add(&world, before.header("etag"), asked.clone()).await;
    assert_eq!(added.status, 200, "{}", added.text);
    let one = &added.body["denials"][0];
    assert_eq!(one["until"], "2100-12-31T17:00:00Z");
    assert_eq!((&one["comment"], &one["claims"]), (&json!("leaked"), &json!({ "team": "blue" })));
    assert_eq!(world.jit("b1").await.refusal(), (403, "ACCESS_DENIED"), "at once");
    assert_eq!(world.get(DENIALS, "watch").await.body, added.body);
    let again = add(&world, added.header("etag"), asked.clone()).await;
    assert_eq!((again.status, again.header("etag")), (200, added.header("etag")));
    let stale = add(&world, before.header("etag"), rule(&world, "x", json!({}))).await;
    assert_eq!(stale.refusal(), (412, "PRECONDITION_FAILED"));
    assert_eq!(add(&world, "", rule(&world, "x", json!({}))).await.refusal(), (428, "PRECONDITION_REQUIRED"));
    let path = format!("{DENIALS}/{}", one["id"].as_str().unwrap());
    let unseen = change(&world, Method::DELETE, &path, "", None).await;
    assert_eq!(unseen.refusal(), (428, "PRECONDITION_REQUIRED"));
    let gone = change(&world, Method::DELETE, &path, added.header("etag"), None).await;
    assert_eq!((gone.status, gone.header("etag")), (200, before.header("etag")), "{}", gone.text);
    assert_eq!(world.jit("b1").await.status, 201);
    assert_eq!(change(&world, Method::DELETE, &path, "*", None).await.refusal(), (404, "NOT_FOUND"));

    let told = world.log("event_type = 'deny_rules_changed'").await;
    let issuer = world.issuer.url();
    let line = |event: &Value| event["event_data"]["changes"][0].as_str().unwrap().replace(issuer, "ISSUER");
    assert_eq!(
        told.iter().map(line).collect::<Vec<_>>(),
        ["added", "removed"].map(|what| format!(
            r#"deny: {what} ISSUER {{"team":"blue"}}, until 2100-12-31T17:00:00Z, comment "leaked""#
        ))
    );
    assert!(told.iter().all(|event| event["user_identity"] == "boss-user" && event["severity"] == "warning"));
    let security = world.get("/api/v1/admin/security-events?type=deny_rules_changed", "watch").await;
    assert_eq!(security.body["events"].as_array().map(Vec::len), Some(2), "{}", security.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_with_faults_is_refused_by_the_names_of_its_fields() {
    let world = new_world().await;
    for (more, field) in [
        (json!({ "claims": {} }), "claims"),
        (json!({ "claims": { "sub": "(" } }), "claims.sub"),
        (json!({ "issuer": "" }), "issuer"),
        (json!({ "comment": "a\nb" }), "comment"),
        (json!({ "until": "tomorrow" }), "until"),
        (json!({ "until": 7 }), "until"),
        (json!({ "unless": true }), "unless"),
    ] {
        let refused = add(&world, "*", rule(&world, "blue", more.clone())).await;
        assert_eq!(refused.refusal(), (422, "INVALID_REQUEST"), "{more}");
        assert_eq!(refused.body["errors"][0]["field"], field, "{}", refused.text);
    }
    assert_eq!(world.sql("SELECT count(*) FROM deny_rules").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_denies_themselves_and_of_two_who_deny_each_other_one_stays() {
    let world = new_world().await;
    for own in ["boss", "b.*", ".*"] {
        let refused = add(&world, "*", rule(&world, own, json!({}))).await;
        assert_eq!(refused.refusal(), (409, "OWN_IDENTITY"), "{own}: {}", refused.text);
    }
    let past = rule(&world, ".*", json!({ "until": "2020-01-01" }));
    assert_eq!(add(&world, "*", past).await.status, 200, "it denies nobody any more");
    let deny_as = async |by: &str, whom: &str| {
        let body = Some(rule(&world, whom, json!({})));
        world.call(Method::POST, DENIALS, &world.token(by), &[("if-match", "*")], body).await
    };
    let (one, other) = join(deny_as("boss", "chief"), deny_as("chief", "boss")).await;
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 403], "{} {}", one.text, other.text);
    assert_eq!(world.sql("SELECT count(*) FROM deny_rules").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_denied_by_the_table_changes_nothing_though_this_replica_has_not_heard() {
    let world = new_world().await;
    let mut document = apply::current(world.broker.store()).await.unwrap();
    document.deny.push(serde_json::from_value(rule(&world, "boss", json!({}))).unwrap());
    apply::apply(world.broker.store(), &world.clock, &document, "elsewhere", false, false).await.unwrap();
    let made = world.post("/api/v1/admin/teams", "boss", json!({ "name": "green" })).await;
    assert_eq!(made.refusal(), (403, "ACCESS_DENIED"), "{}", made.text);
    assert_eq!(world.post("/api/v1/admin/teams", "chief", json!({ "name": "green" })).await.status, 201);
    assert_eq!(world.sql("SELECT count(*) FROM deny_rules").await, ["1"], "another change keeps it");
}
