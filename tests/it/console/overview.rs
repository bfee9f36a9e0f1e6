//! The first page, as everybody sees it.

use reqwest::Method;
use serde_json::json;

use super::pages::{between, peopled};
use crate::support::World;

/// Two runners of blue's, one of red's, a refusal of blue's, an access of red's to blue's by the auditor.
async fn busy_day() -> World {
    let world = peopled().await;
    for (name, team) in [("b1", "blue"), ("b2", "blue"), ("r1", "red")] {
        let made = world.post("/api/v1/runners/jit", team, json!({ "runner_name": name })).await;
        assert_eq!(made.status, 201, "{}", made.text);
    }
    let refused = json!({ "runner_name": "b3", "labels": ["gpu"] });
    assert_eq!(world.post("/api/v1/runners/jit", "blue", refused).await.status, 403);
    assert_eq!(
        world.call(Method::DELETE, "/api/v1/runners/r1", &world.token("watch"), &[], None).await.status,
        403
    );
    world
}

/// The number on the tile of a state.
fn tile(page: &str, status: &str) -> String {
    let link = format!(r#"<a class="tile" href="/runners?status={status}"><strong>"#);
    between(page, &link, "</strong>").to_owned()
}

#[actix_web::test]
async fn everybody_sees_his_share() {
    let world = busy_day().await;
    for (who, live, provisioned, refused) in
        [("boss", "3", "3", "1"), ("watch", "3", "3", "1"), ("blue", "2", "2", "1"), ("red", "1", "1", "0")]
    {
        let page = world.signed_in(who).await.get("/").await;
        assert_eq!(page.status, 200, "{}", page.text);
        assert_eq!(tile(&page.text, "pending"), live, "{who}");
        assert_eq!(tile(&page.text, "active"), "0", "{who}");
        let summary = between(&page.text, "id=\"provisions-summary\" data-part>", "</p>");
        assert!(summary.contains(&format!("<strong>{provisioned}</strong> provisioned")), "{who}: {summary}");
        assert!(summary.contains(&format!("<strong>{refused}</strong> refused")), "{who}: {summary}");
        let hours = between(&page.text, "<tbody id=\"provisions-hours\" data-part>", "</tbody>");
        assert!((24..=25).contains(&hours.matches("<tr>").count()), "{who}: {hours}");
    }
}

#[actix_web::test]
async fn what_is_everybodys_is_for_admins_and_auditors() {
    let world = busy_day().await;
    let _lease = world.lease().await;
    for (who, sees) in [("boss", true), ("watch", true), ("blue", false)] {
        let page = world.signed_in(who).await.get("/").await.text;
        assert_eq!(page.contains("calls left"), sees, "{who}");
        assert_eq!(page.contains(&world.replica.to_string()), sees, "{who}");
        assert_eq!(page.contains(r#"href="/security?type=access_refused""#), sees, "{who}");
    }
    let blue = world.signed_in("blue").await.get("/").await.text;
    let events = between(&blue, "id=\"security\" data-part>", "</div>");
    assert!(events.contains("label policy violation") && !events.contains("access refused"), "{events}");
    let red = world.signed_in("red").await.get("/").await.text;
    let events = between(&red, "id=\"security\" data-part>", "</div>");
    assert!(events.contains("access refused") && !events.contains("label policy"), "{events}");
}

#[actix_web::test]
async fn it_says_when_nobody_leads_and_what_is_overdue() {
    let world = busy_day().await;
    let boss = world.signed_in("boss").await;
    assert!(boss.get("/").await.text.contains("no leader"));
    assert_eq!(world.sweep().await.failures, 0);
    world.pass(16);
    assert!(!boss.get("/").await.text.contains("overdue"));
    world.pass(1_000);
    let page = boss.get("/").await.text;
    assert!(page.contains("overdue") && page.contains("octo-org"), "{page}");
}

#[actix_web::test]
async fn only_members_are_shown_the_way_to_a_new_runner() {
    let world = peopled().await;
    for (who, may) in [("boss", false), ("watch", false), ("blue", true)] {
        let page = world.signed_in(who).await.get("/").await.text;
        assert_eq!(page.contains(r#"href="/runners/new""#), may, "{who}");
    }
}
