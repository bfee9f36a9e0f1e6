//! Admins and auditors, as admins make them; and that somebody is always left.

use futures_util::future::join;
use reqwest::Method;
use serde_json::{Value, json};

use super::teams::change;
use crate::people::identities::new_world;
use crate::support::{Answer, World};

const ADMINS: &str = "/api/v1/admin/admins";
const AUDITORS: &str = "/api/v1/admin/auditors";

/// The id of the rule about this team.
async fn id_of(world: &World, list: &str, who: &str) -> String {
    let listed = world.get(list, "watch").await;
    let members = listed.body["members"].as_array().expect("members").clone();
    let found = members.iter().find(|one| one["claims"]["team"] == who).expect("a member");
    found["id"].as_str().expect("an id").to_owned()
}

fn rule(world: &World, claims: Value) -> Option<Value> {
    Some(json!({ "issuer": world.issuer.url(), "claims": claims }))
}

async fn remove_as(world: &World, by: &str, path: &str, seen: &str) -> Answer {
    world.call(Method::DELETE, path, &world.token(by), &[("if-match", seen)], None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_makes_admins_and_auditors_and_takes_it_back() {
    let world = new_world().await;
    for (list, read, is_admin) in [(ADMINS, "green", true), (AUDITORS, "grey", false)] {
        let before = world.get(list, "watch").await;
        let added =
            change(&world, Method::POST, list, before.header("etag"), rule(&world, json!({ "team": read })))
                .await;
        assert_eq!(added.status, 200, "{}", added.text);
        assert_eq!(world.get(list, read).await.body, added.body, "it is in force at once");
        let again =
            change(&world, Method::POST, list, added.header("etag"), rule(&world, json!({ "team": read })))
                .await;
        assert_eq!((again.status, again.header("etag")), (200, added.header("etag")));
        let body = json!({ "name": format!("of-{read}") });
        let made = world.post("/api/v1/admin/teams", read, body).await;
        assert_eq!(made.status, if is_admin { 201 } else { 403 }, "{}", made.text);
        let stale =
            change(&world, Method::POST, list, before.header("etag"), rule(&world, json!({ "x": "y" })))
                .await;
        assert_eq!(stale.refusal(), (412, "PRECONDITION_FAILED"));
        let unseen = change(&world, Method::POST, list, "", rule(&world, json!({ "x": "y" }))).await;
        assert_eq!(unseen.refusal(), (428, "PRECONDITION_REQUIRED"));
        let one = format!("{list}/{}", id_of(&world, list, read).await);
        assert_eq!(
            change(&world, Method::DELETE, &one, "", None).await.refusal(),
            (428, "PRECONDITION_REQUIRED")
        );
        let gone = change(&world, Method::DELETE, &one, added.header("etag"), None).await;
        assert_eq!((gone.status, gone.header("etag")), (200, before.header("etag")), "{}", gone.text);
        assert_eq!(world.get(list, read).await.refusal(), (403, "FORBIDDEN"));
        assert_eq!(change(&world, Method::DELETE, &one, "*", None).await.refusal(), (404, "NOT_FOUND"));
    }
    let told = world.log("event_type = 'role_members_changed'").await;
    let issuer = world.issuer.url();
    let line = |event: &Value| event["event_data"]["changes"][0].as_str().unwrap().replace(issuer, "ISSUER");
    assert_eq!(
        told.iter().map(line).collect::<Vec<_>>(),
        [
            r#"admin: added ISSUER {"team":"green"}"#,
            r#"admin: removed ISSUER {"team":"green"}"#,
            r#"auditor: added ISSUER {"team":"grey"}"#,
            r#"auditor: removed ISSUER {"team":"grey"}"#,
        ]
    );
    assert!(told.iter().all(|event| event["user_identity"] == "boss-user"));
    let bad = change(&world, Method::POST, ADMINS, "*", rule(&world, json!({}))).await;
    assert_eq!((bad.status, &bad.body["errors"][0]["field"]), (422, &json!("claims")), "{}", bad.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_the_role_from_himself_unless_another_rule_gives_it_too() {
    let world = new_world().await;
    let own = format!("{ADMINS}/{}", id_of(&world, ADMINS, "boss").await);
    let refused = change(&world, Method::DELETE, &own, "*", None).await;
    assert_eq!(refused.refusal(), (409, "OWN_ADMIN_ROLE"), "{}", refused.text);
    assert_eq!(world.get(ADMINS, "boss").await.body["members"].as_array().map(Vec::len), Some(2));
    let wider = rule(&world, json!({ "sub": "boss-.*" }));
    assert_eq!(change(&world, Method::POST, ADMINS, "*", wider).await.status, 200);
    let gone = change(&world, Method::DELETE, &own, "*", None).await;
    assert_eq!(gone.status, 200, "{}", gone.text);
    // What is left of the role is by the other rule, and that one stays now.
    let wider = gone.body["members"][1]["id"].as_str().unwrap();
    let refused = change(&world, Method::DELETE, &format!("{ADMINS}/{wider}"), "*", None).await;
    assert_eq!(refused.refusal(), (409, "OWN_ADMIN_ROLE"));
    assert_eq!(world.log("event_type = 'role_members_changed'").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_take_the_role_from_each_other_one_stays() {
    let world = new_world().await;
    let boss = format!("{ADMINS}/{}", id_of(&world, ADMINS, "boss").await);
    let chief = format!("{ADMINS}/{}", id_of(&world, ADMINS, "chief").await);
    let (one, other) =
        join(remove_as(&world, "boss", &chief, "*"), remove_as(&world, "chief", &boss, "*")).await;
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 403], "{} {}", one.text, other.text);
    assert_eq!(world.sql("SELECT count(*) FROM role_members WHERE role = 'admin'").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_admin_any_more_by_the_table_changes_nothing_though_this_replica_has_not_heard() {
    let world = new_world().await;
    world.sql("DELETE FROM role_members WHERE claims = '{\"team\": \"boss\"}'").await;
    let made = world.post("/api/v1/admin/teams", "boss", json!({ "name": "green" })).await;
    assert_eq!(made.refusal(), (403, "FORBIDDEN"), "{}", made.text);
    assert_eq!(world.post("/api/v1/admin/teams", "chief", json!({ "name": "green" })).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_deactivated_by_the_table_changes_nothing_though_this_replica_has_not_heard() {
    let world = new_world().await;
    crate::people::identities::seen(&world, &["boss"]).await;
    world.sql("UPDATE identities SET active = false, deactivated_at = now()").await;
    let made = world.post("/api/v1/admin/teams", "boss", json!({ "name": "green" })).await;
    assert_eq!(made.refusal(), (403, "IDENTITY_DEACTIVATED"), "{}", made.text);
}
