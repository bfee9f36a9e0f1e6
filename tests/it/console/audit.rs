//! The console's pages on the audit log, and its export.

use serde_json::Value;

use super::jobs::{EVIL, escapes, roles};
use crate::audit::sealer::{Signed, seal, write};
use crate::support::{World, team};

async fn id_of(world: &World, event_type: &str) -> String {
    world.sql(&format!("SELECT max(id) FROM audit_log WHERE event_type = '{event_type}'")).await.remove(0)
}

#[actix_web::test]
async fn the_log_shows_what_the_api_shows_and_filters_by_its_address() {
    let world = World::new().await;
    roles(&world).await;
    world.jit("b1").await;
    let page = async |who: &str, query: &str| {
        let page = world.signed_in(who).await.get(&format!("/audit{query}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        page.text
    };
    for who in ["ann", "aud", "blue"] {
        assert!(page(who, "?event_type=provisioned").await.contains(">b1<"), "{who}");
    }
    let theirs = page("green", "?runner=b1").await;
    assert!(theirs.contains("No matching events") && !theirs.contains("/runners/"), "{theirs}");
    assert!(page("nobody", "").await.contains("You are in no team"));
    assert!(page("ann", "?team=green").await.contains("No matching events"));
    let first = page("ann", "?limit=1&team=blue").await;
    assert!(first.contains("/audit?limit=1&amp;team=blue&amp;cursor="), "{first}");
    let refused = world.signed_in("ann").await.get("/audit?since=yesterday&user=keep").await;
    assert_eq!(refused.status, 422);
    assert!(refused.text.contains("a date such as 2026-11-01") && refused.text.contains(r#"value="keep""#));
}

#[actix_web::test]
async fn an_event_is_shown_to_the_character_and_to_whom_it_concerns_alone() {
    let signed = Signed::new().await;
    let world = &signed.world;
    roles(world).await;
    let token = world.token("blue");
    let headers = [("user-agent", EVIL)];
    let ask = Some(serde_json::json!({ "runner_name": "b1" }));
    world.call(reqwest::Method::POST, "/api/v1/runners/jit", &token, &headers, ask).await;
    let id = id_of(world, "provisioned").await;
    let fresh = world.signed_in("blue").await.get(&format!("/audit/{id}")).await;
    assert!(fresh.text.contains("is not sealed yet"), "{}", fresh.text);
    seal(world).await;
    let page = world.signed_in("blue").await.get(&format!("/audit/{id}")).await;
    assert_eq!(page.status, 200, "{}", page.text);
    escapes(&page.text);
    assert_eq!(page.text.matches("data-field=").count(), 20);
    assert!(page.text.contains(r#"data-field="error_code" data-null"#), "{}", page.text);
    let vkey = std::fs::read_to_string(signed.path("audit.vkey")).unwrap();
    assert!(page.text.contains(vkey.trim()), "{}", page.text);
    for path in [format!("/audit/{id}"), format!("/audit/{id}/proof")] {
        assert_eq!(world.signed_in("green").await.get(&path).await.status, 404);
        assert!(world.signed_in("nobody").await.get(&path).await.text.contains("You are in no team yet"));
        assert_eq!(world.signed_in("aud").await.get(&path).await.status, 200);
    }
    assert_eq!(world.signed_in("ann").await.get("/audit/x").await.status, 404);
    // The script gets what the API gives.
    let proof = world.signed_in("blue").await.get(&format!("/audit/{id}/proof")).await;
    assert_eq!(proof.body, world.get(&format!("/api/v1/audit/{id}/proof"), "blue").await.body);
}

#[actix_web::test]
async fn carriage_returns_reach_the_browser_as_they_are() {
    let world = World::new().await;
    world
        .sql(
            "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity, team, event_data)
             VALUES (now(), 'made', 'info', true, E'a\\r\\nb', 'blue', '{}')",
        )
        .await;
    let page = world.signed_in("blue").await.get(&format!("/audit/{}", id_of(&world, "made").await)).await;
    assert!(page.text.contains("a&#13;\nb</dd>"), "{}", page.text);
}

#[actix_web::test]
async fn the_last_checkpoint_is_shown_with_who_signed_it() {
    let signed = Signed::new().await;
    let world = &signed.world;
    let page = world.signed_in("blue").await.get("/audit").await;
    assert!(page.text.contains("No events are sealed yet"), "{}", page.text);
    write(world, 3).await;
    seal(world).await;
    let page = world.signed_in("blue").await.get("/audit").await.text;
    let note = world.get("/api/v1/audit/checkpoint", "blue").await.text;
    let root = note.lines().nth(2).unwrap().to_owned();
    assert!(
        page.contains(&root) && page.contains("this broker&#39;s key") || page.contains("this broker's key"),
        "{page}"
    );
}

#[actix_web::test]
async fn an_export_holds_what_is_filtered_and_may_be_seen() {
    let signed = Signed::new().await;
    let world = &signed.world;
    roles(world).await;
    world.jit("b1").await;
    world.post("/api/v1/runners/jit", "green", serde_json::json!({ "runner_name": "g1" })).await;
    write(world, 1200).await;
    seal(world).await;
    let export = async |who: &str, query: &str| {
        let file = world.signed_in(who).await.get(&format!("/audit/export?{query}")).await;
        assert_eq!(file.status, 200, "{}", file.text);
        file
    };
    let lines = |text: &str| -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let all = export("aud", "format=jsonl").await;
    assert!(all.header("content-disposition").contains("audit.jsonl"), "{:?}", all.headers);
    let events = lines(&all.text);
    assert_eq!(events.len().to_string(), world.count("audit_log").await, "more than one reading of them");
    // He signed in after the seal.
    let sealed = events.iter().filter(|event| event["event_type"] != "signed_in");
    assert!(sealed.clone().count() > 1_000 && sealed.clone().all(|event| event["leaf_hash"].is_string()));
    let own = lines(&export("blue", "format=jsonl&success=true").await.text);
    assert!(
        own.len() >= 2
            && own.iter().all(|event| event["subject"] == "blue-user" && event["leaf_hash"].is_null())
    );
    let csv = export("blue", "format=csv&event_type=provisioned").await.text;
    assert!(csv.starts_with("id,timestamp,event_type,") && csv.lines().count() == 2, "{csv}");
    let stranger = world.signed_in("nobody").await.get("/audit/export?format=csv").await;
    assert!(stranger.text.contains("You are in no team yet"), "{}", stranger.text);
    let refused = world.signed_in("ann").await.get("/audit/export?format=pdf").await;
    assert_eq!(refused.status, 422);
}

#[actix_web::test]
async fn what_a_spreadsheet_would_run_is_quoted() {
    let world = World::new().await;
    world.policy(&team("blue", "")).await;
    world
        .sql(
            "INSERT INTO audit_log (timestamp, event_type, severity, success, user_identity, team, user_agent, event_data)
             VALUES (now(), 'made', 'info', true, 'x', 'blue', '=HYPERLINK(1)', '{}')",
        )
        .await;
    let csv = world.signed_in("blue").await.get("/audit/export?format=csv&event_type=made").await.text;
    assert!(csv.contains(",'=HYPERLINK(1),"), "{csv}");
}
