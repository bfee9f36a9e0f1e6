//! The list of runners.

use serde_json::json;

use super::pages::{between, peopled};
use crate::support::World;

/// The names in a list, in its order.
fn names(page: &str) -> Vec<&str> {
    let rows = between(page, "<tbody data-rows>", "</tbody>");
    let row = |row| between(row, "<th scope=\"row\"><a", "</a>").split_once('>').map_or("", |(_, name)| name);
    rows.split("<tr ").skip(1).map(row).collect()
}

async fn three(world: &World) {
    for (name, team, labels) in
        [("b1", "blue", json!([])), ("b2", "blue", json!(["docker"])), ("r1", "red", json!([]))]
    {
        let body = json!({ "runner_name": name, "labels": labels });
        assert_eq!(world.post("/api/v1/runners/jit", team, body).await.status, 201);
    }
}

#[actix_web::test]
async fn everybody_sees_what_he_may_and_filters_it_by_the_url() {
    let world = peopled().await;
    three(&world).await;
    for (who, path, expected) in [
        ("boss", "/runners", vec!["r1", "b2", "b1"]),
        ("watch", "/runners", vec!["r1", "b2", "b1"]),
        ("blue", "/runners", vec!["b2", "b1"]),
        ("red", "/runners?team=blue", vec![]),
        ("boss", "/runners?team=red&status=&q=", vec!["r1"]),
        ("boss", "/runners?label=Docker", vec!["b2"]),
        ("boss", "/runners?q=B&status=pending&ephemeral=true", vec!["b2", "b1"]),
        ("boss", "/runners?status=active", vec![]),
    ] {
        let page = world.signed_in(who).await.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        assert_eq!(names(&page.text), expected, "{who} {path}");
        assert_eq!(page.text.contains("No matching runners"), expected.is_empty(), "{who} {path}");
    }
    let page = world.signed_in("boss").await.get("/runners?q=b&team=blue").await.text;
    assert!(page.contains("2 runners") && page.contains(r#"name="q" value="b""#), "{page}");
    let none = peopled().await.signed_in("blue").await.get("/runners").await.text;
    assert!(none.contains("No runners yet"), "{none}");
}

#[actix_web::test]
async fn a_page_leads_to_the_next_and_keeps_its_filters() {
    let world = peopled().await;
    three(&world).await;
    let boss = world.signed_in("boss").await;
    let mut path = "/runners?limit=1&q=&ephemeral=true".to_owned();
    let mut seen = Vec::new();
    for _ in 0..5 {
        let page = boss.get(&path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        seen.extend(names(&page.text).into_iter().map(str::to_owned));
        path = between(&page.text, "rel=\"next\" href=\"", "\"").replace("&amp;", "&");
        if path.is_empty() {
            break;
        }
        assert!(path.contains("limit=1") && path.contains("ephemeral=true"), "{path}");
    }
    assert_eq!(seen, ["r1", "b2", "b1"]);
}

#[actix_web::test]
async fn a_filter_that_is_none_is_said_to_be() {
    let world = peopled().await;
    let page = world.signed_in("blue").await.get("/runners?status=%3Cb%3E&cursor=x").await;
    assert_eq!(page.status, 422);
    assert!(page.text.contains("<strong>status</strong>: one of requested"), "{}", page.text);
    assert!(page.text.contains("<strong>cursor</strong>") && !page.text.contains("<b>"), "{}", page.text);
}

#[actix_web::test]
async fn boxes_and_buttons_are_for_who_may_use_them() {
    let world = peopled().await;
    three(&world).await;
    for (who, boxes) in [("boss", 3), ("blue", 2), ("watch", 0)] {
        let page = world.signed_in(who).await.get("/runners").await.text;
        assert_eq!(page.matches(r#"<input type="checkbox" name="id""#).count(), boxes, "{who}");
        assert_eq!(page.contains("Remove selected"), boxes > 0, "{who}");
    }
}

#[actix_web::test]
async fn rows_are_asked_for_anew_by_who_may_see_them() {
    let world = peopled().await;
    three(&world).await;
    let ids = world.sql("SELECT id FROM runners ORDER BY id").await;
    let query: String = ids.iter().map(|id| format!("&id={id}")).collect();
    let path = format!("/runners/rows?{}", query.trim_start_matches('&'));
    let seen = world.signed_in("blue").await.get(&path).await;
    assert_eq!(seen.status, 200, "{}", seen.text);
    assert!(seen.text.contains(">b1<") && seen.text.contains(">b2<") && !seen.text.contains(">r1<"));
    assert!(seen.text.contains(&format!(r#"<tr id="r-{}">"#, ids[0])), "{}", seen.text);
    let blue = world.signed_in("blue").await;
    assert_eq!(blue.get("/runners/rows").await.status, 422);
    assert_eq!(blue.get("/runners/rows?id=x").await.status, 422);
    let many: String = (0..201).map(|n| format!("&id=00000000-0000-0000-0000-{n:012}")).collect();
    assert_eq!(blue.get(&format!("/runners/rows?{}", &many[1..])).await.status, 422);
}
