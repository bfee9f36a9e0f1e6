//! The console's pages.

use crate::browser::Browser;
use crate::support::{World, team};

#[actix_web::test]
async fn who_is_not_signed_in_is_sent_to_sign_in_and_back() {
    let world = World::new().await;
    let answer = Browser::with(&world, "").get("/?a=b").await;
    assert_eq!((answer.status, answer.header("location")), (303, "/sign-in?return_to=%2F%3Fa%3Db"));
}

#[actix_web::test]
async fn a_page_is_shown_to_whoever_is_signed_in_and_kept_by_nobody() {
    let world = World::new().await;
    let answer = world.signed_in("blue").await.get("/").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.text.contains("blue-user"), "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    let policy = answer.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'"), "{:?}", answer.headers);
}

/// Teams blue and red, the admin boss, the auditor watch.
pub async fn peopled() -> World {
    let world = World::new().await;
    people(&world, "").await;
    world
}

/// As in `peopled`, with these lines about blue.
pub async fn people(world: &World, blue: &str) {
    let role =
        |role: &str, who: &str| format!("[[{role}]]\nissuer = \"ISSUER\"\nclaims = {{ team = \"{who}\" }}\n");
    let policy = [team("blue", blue), team("red", ""), role("admin", "boss"), role("auditor", "watch")];
    world.policy(&policy.concat()).await;
}

/// The text between the first of `before` and the next of `after`.
pub fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let rest = text.split_once(before).map_or("", |(_, rest)| rest);
    rest.split_once(after).map_or("", |(inner, _)| inner)
}

#[actix_web::test]
async fn no_page_holds_a_style_a_script_or_a_handler_of_its_own() {
    let world = peopled().await;
    let made = world.jit("b1").await;
    let admin = world.signed_in("boss").await;
    let blue = world.signed_in("blue").await;
    let runner = format!("/runners/{}", made.str("runner_id"));
    for path in ["/", "/runners", "/runners/new", &runner, &format!("{runner}/remove")] {
        for browser in [&admin, &blue] {
            let page = browser.get(path).await;
            assert_eq!(page.status, 200, "{path}: {}", page.text);
            for bad in [" style=", "<style", " onclick", "javascript:", "http://"] {
                let text = page.text.replace(world.issuer.url(), "");
                assert!(!text.contains(bad), "{path}: {bad}");
            }
            assert_eq!(page.text.matches("<script").count(), 1, "{path}: the one module of ours");
            assert_eq!(page.text.matches("<h1").count(), 1, "{path}");
        }
    }
}

#[actix_web::test]
async fn what_pages_load_is_ours_and_may_be_kept_for_ever() {
    let world = World::new().await;
    let page = world.signed_in("blue").await.get("/").await;
    let nobody = Browser::with(&world, "");
    let styles = between(&page.text, "rel=\"stylesheet\" href=\"", "\"");
    let folder = styles.trim_end_matches("console.css");
    for (name, kind) in [
        ("console.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
        ("uPlot.min.css", "text/css"),
        ("console.js", "text/javascript"),
        ("live.js", "text/javascript"),
        ("chart.js", "text/javascript"),
        ("new-runner.js", "text/javascript"),
        ("uPlot.esm.js", "text/javascript"),
    ] {
        let asset = nobody.get(&format!("{folder}{name}")).await;
        assert_eq!(asset.status, 200, "{name}");
        assert!(asset.header("content-type").starts_with(kind), "{name}");
        assert!(asset.header("cache-control").contains("immutable"), "{name}");
    }
    assert_eq!(nobody.get(&format!("{folder}nothing.js")).await.status, 404);
}
