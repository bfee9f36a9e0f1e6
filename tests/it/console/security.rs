//! The console's pages on security events and on identities.

use serde_json::json;

use super::jobs::{EVIL, escapes, roles};
use crate::support::World;

#[actix_web::test]
async fn security_events_are_for_administrators_and_auditors() {
    let world = World::new().await;
    roles(&world).await;
    let ask = json!({ "runner_name": "b1", "labels": ["gpu"] });
    assert_eq!(world.post("/api/v1/runners/jit", "blue", ask).await.status, 403);
    for who in ["ann", "aud"] {
        let page =
            world.signed_in(who).await.get("/security?severity=warning&type=label_policy_violation").await;
        assert_eq!(page.status, 200, "{}", page.text);
        assert!(page.text.contains("blue-user") && page.text.contains(">refused<"), "{}", page.text);
        let other = world.signed_in(who).await.get("/security?severity=high").await;
        assert!(other.text.contains("No matching events"), "{}", other.text);
    }
    for who in ["blue", "green"] {
        let page = world.signed_in(who).await.get("/security").await;
        assert_eq!(page.status, 403, "{who}");
        assert!(
            !page.text.contains("blue-user</a>") && !page.text.contains("label policy violation</span></a>"),
            "{}",
            page.text
        );
        assert_eq!(world.signed_in(who).await.get("/identities").await.status, 403);
    }
    let refused = world.signed_in("ann").await.get("/security?type=nonsense").await;
    assert_eq!(refused.status, 422);
    assert!(refused.text.contains("one of label_policy_violation"), "{}", refused.text);
}

#[actix_web::test]
async fn security_events_come_page_by_page() {
    let world = World::new().await;
    roles(&world).await;
    for _ in 0..3 {
        world.post("/api/v1/runners/jit", "blue", json!({ "runner_name": "b1", "labels": ["gpu"] })).await;
        world.pass(1);
    }
    let browser = world.signed_in("aud").await;
    let first = browser.get("/security?limit=2").await.text;
    let (_, next) = first.split_once(r#"rel="next" href=""#).unwrap_or_else(|| panic!("{first}"));
    let next = next.split('"').next().unwrap().replace("&amp;", "&");
    let second = browser.get(&next).await.text;
    assert_eq!(second.matches("label policy violation</span></a>").count(), 1, "{second}");
}

#[actix_web::test]
async fn an_administrator_keeps_somebody_out_and_lets_him_in_again() {
    let world = World::new().await;
    roles(&world).await;
    let named = json!({ "sub": "blue-user", "team": "blue", "preferred_username": EVIL });
    world.signed_in_as(named).await;
    let admin = world.signed_in("ann").await;
    world.broker.flush_identities().await.unwrap();
    let page = admin.get("/identities?q=blue-user").await.text;
    escapes(&page);
    let id = world.sql("SELECT id FROM identities WHERE subject = 'blue-user'").await.remove(0);
    let (off, on) = (format!("/identities/{id}/deactivate"), format!("/identities/{id}/activate"));
    assert!(page.contains(&off), "{page}");
    assert_eq!(admin.get("/identities").await.text.matches(">you<").count(), 1);

    let short = admin.submit(&off, &off, &[("comment", "bad")]).await;
    assert_eq!(short.status, 422);
    assert!(
        short.text.contains("10 to 500 characters") && short.text.contains(r#"value="bad""#),
        "{}",
        short.text
    );
    let bare = admin.post_bare(&off, &[("comment", "left the company")]).await;
    assert_eq!(bare.status, 403, "without the page's token: {}", bare.text);
    assert_eq!(world.get("/api/v1/auth/me", "blue").await.status, 200);

    let done = admin.submit(&off, &off, &[("comment", "left the company")]).await;
    assert_eq!((done.status, done.header("location")), (303, "/identities?q=blue-user"));
    assert_eq!(world.get("/api/v1/auth/me", "blue").await.refusal(), (403, "IDENTITY_DEACTIVATED"));
    assert!(admin.get("/identities?active=false").await.text.contains("left the company"));
    assert_eq!(admin.submit(&on, &on, &[("comment", "came back to us")]).await.status, 303);
    assert_eq!(world.get("/api/v1/auth/me", "blue").await.status, 200);
}

#[actix_web::test]
async fn an_auditor_sees_identities_without_any_button_and_is_refused_what_he_forges() {
    let world = World::new().await;
    roles(&world).await;
    let auditor = world.signed_in("aud").await;
    world.signed_in("blue").await;
    world.broker.flush_identities().await.unwrap();
    let id = world.sql("SELECT id FROM identities WHERE subject = 'blue-user'").await.remove(0);
    let page = auditor.get("/identities").await.text;
    assert!(page.contains("blue-user") && !page.contains("/deactivate"), "{page}");
    let path = format!("/identities/{id}/deactivate");
    assert_eq!(auditor.get(&path).await.status, 403);
    let forged = auditor.submit("/identities", &path, &[("comment", "left the company")]).await;
    assert_eq!(forged.status, 403, "{}", forged.text);
    assert_eq!(world.sql("SELECT active FROM identities WHERE subject = 'blue-user'").await, ["t"]);
}
