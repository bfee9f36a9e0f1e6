//! Who is signed in and in no team.

use serde_json::json;

use super::pages::{between, peopled};
use crate::support::World;

const SCRIPT: &str = "<script>alert(1)</script>";

#[actix_web::test]
async fn whoever_has_neither_team_nor_role_sees_on_every_page_what_to_ask_for() {
    let world = peopled().await;
    let tess =
        world.signed_in_as(json!({ "sub": "tess.1", "groups": ["sales"], "nonce": "of-the-token" })).await;
    for path in ["/", "/runners", "/runners/new", "/runners/any", "/?x=y"] {
        let page = tess.get(path).await;
        assert_eq!((page.status, page.header("cache-control")), (200, "no-store"), "{path}");
        let asked = between(&page.text, "<pre id=\"member\"", "</pre>");
        assert!(asked.contains("[[team.member]]") && asked.contains(r"tess\.1"), "{path}: {asked}");
        assert!(
            asked.contains(world.issuer.url()) && asked.contains("groups = &quot;sales&quot;"),
            "{asked}"
        );
        assert!(!page.text.contains("of-the-token"), "{path}");
        assert!(page.text.contains("Sign out"), "they can sign out");
        assert!(page.text.contains(r#"data-copy="member""#), "{path}");
    }
    // Forms that they send are refused.
    let sent = tess.submit("/", "/runners/new", &[("name", "b1"), ("key", "k")]).await;
    assert_ne!(sent.status, 201, "{}", sent.text);
    assert!(world.sql("SELECT name FROM runners").await.is_empty());
}

#[actix_web::test]
async fn what_he_is_to_ask_for_lets_him_in() {
    let world = peopled().await;
    let tess = world.signed_in_as(json!({ "sub": "tess|1", "team": "nobodys" })).await;
    let page = tess.get("/").await;
    let asked = between(&page.text, "<pre id=\"member\" tabindex=\"0\"><code>", "</code>");
    let toml = asked.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let team = "[[team]]\nname = \"green\"\nallowed_labels = [\"linux\"]\n";
    world.policy(&format!("{team}{toml}")).await;
    let page = tess.get("/").await;
    assert!(page.text.contains("<h1>Overview</h1>") && page.text.contains("green"), "{}", page.text);
}

#[actix_web::test]
async fn no_script_in_his_claims_is_one_of_the_page() {
    let world = World::new().await;
    let claims = json!({ "sub": SCRIPT, "name": SCRIPT, "groups": [SCRIPT], SCRIPT: SCRIPT, "\"><b>": "x" });
    let page = world.signed_in_as(claims).await.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("&lt;script&gt;alert"), "{}", page.text);
    assert!(!page.text.contains(SCRIPT) && !page.text.contains("\"><b>"), "{}", page.text);
}
