//! One runner's page.

use runner_broker::dev::github::{Action, Canned, Fault};
use serde_json::json;

use super::pages::{between, peopled};
use crate::support::ORG;

const SCRIPT: &str = "<script>alert(1)</script>";

#[actix_web::test]
async fn a_runners_page_tells_its_life_and_its_job() {
    let world = peopled().await;
    let made = world.jit("b1").await;
    world.github.connect_jit(made.str("encoded_jit_config")).unwrap();
    world.pass(3);
    let job = world.github.queue_job("octo-org/octo-repo", "<b>build", &["self-hosted"]);
    let taken = world.github.take_job(job.id, ORG, "b1").unwrap();
    world.happen("workflow_job", &world.github.job_payload(&taken)).await;
    world.sweep().await;
    let page = world.signed_in("blue").await.get("/runners/b1").await;
    assert_eq!(page.status, 200, "{}", page.text);
    let life = between(&page.text, "<ol class=\"timeline\">", "</ol>");
    let told: Vec<&str> = ["pending → active", "Credential issued", "Requested"].to_vec();
    let places: Vec<_> = told.iter().map(|what| life.find(what)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}: {life}");
    let jobs = between(&page.text, "id=\"jobs\" data-part>", "</section>");
    let link = format!("https://github.com/octo-org/octo-repo/actions/runs/{}/job/{}", job.run_id, job.id);
    assert!(
        jobs.contains(&link) && jobs.contains("&lt;b&gt;build") && jobs.contains("in progress"),
        "{jobs}"
    );
    let id = made.body["github_runner_id"].as_i64().unwrap();
    let on_github = format!("https://github.com/organizations/octo-org/settings/actions/runners/{id}");
    assert!(page.text.contains(&on_github), "{}", page.text);
    assert!(page.text.contains("badge busy"), "{}", page.text);
}

#[actix_web::test]
async fn another_teams_runner_is_not_found_and_an_auditor_has_no_buttons() {
    let world = peopled().await;
    let id = world.jit("b1").await.str("runner_id").to_owned();
    for (who, status, buttons) in
        [("boss", 200, true), ("blue", 200, true), ("watch", 200, false), ("red", 404, false)]
    {
        let browser = world.signed_in(who).await;
        for named in ["b1", &id] {
            let page = browser.get(&format!("/runners/{named}")).await;
            assert_eq!(page.status, status, "{who}: {}", page.text);
            assert_eq!(page.text.contains("Refresh from GitHub"), buttons, "{who}");
            assert_eq!(page.text.contains("Remove…"), buttons, "{who}");
        }
    }
    // The server refuses all the same.
    let refreshed = world.signed_in("watch").await.submit("/", &format!("/runners/{id}/refresh"), &[]).await;
    assert_eq!(refreshed.status, 403, "{}", refreshed.text);
    let refreshed = world.signed_in("red").await.submit("/", &format!("/runners/{id}/refresh"), &[]).await;
    assert_eq!(refreshed.status, 404, "{}", refreshed.text);
    for strange in ["no-such", "%3Cb%3E", "%00", "..%2F", "0198c0de-0000-7000-8000-000000000000"] {
        let page = world.signed_in("blue").await.get(&format!("/runners/{strange}")).await;
        assert_eq!(page.status, 404, "{strange}: {}", page.text);
        assert!(
            page.text.contains("<h1>Runner not found</h1>") && !page.text.contains("<b>"),
            "{}",
            page.text
        );
    }
}

#[actix_web::test]
async fn github_is_asked_on_demand_and_its_silence_is_said() {
    let world = peopled().await;
    let made = world.jit("b1").await;
    world.github.connect_jit(made.str("encoded_jit_config")).unwrap();
    world.pass(3);
    let blue = world.signed_in("blue").await;
    let path = format!("/runners/{}", made.str("runner_id"));
    let asked = blue.submit(&path, &format!("{path}/refresh"), &[]).await;
    assert_eq!((asked.status, asked.header("location")), (303, format!("{path}?refreshed").as_str()));
    let page = blue.get(asked.header("location")).await.text;
    assert!(page.contains("Refreshed from GitHub") && page.contains("badge active"), "{page}");
    world.github.fail(Fault::new("GET", "/runners/", Action::Respond(Canned::status(500))).always());
    let asked = blue.submit(&path, &format!("{path}/refresh"), &[]).await;
    assert_eq!(asked.status, 503, "{}", asked.text);
    assert!(asked.text.contains("GitHub unavailable"), "{}", asked.text);
}

#[actix_web::test]
async fn a_remove_token_is_shown_once_and_only_where_it_is_of_use() {
    let world = peopled().await;
    let jit = world.jit("b1").await.str("runner_id").to_owned();
    let made = world.post("/api/v1/runners/provision", "blue", json!({ "runner_name": "b2" })).await;
    let path = format!("/runners/{}", made.str("runner_id"));
    let blue = world.signed_in("blue").await;
    assert!(!blue.get(&format!("/runners/{jit}")).await.text.contains("Get remove token"));
    assert!(blue.get(&path).await.text.contains("Get remove token"));
    let shown = blue.submit(&path, &format!("{path}/remove-token"), &[]).await;
    assert_eq!((shown.status, shown.header("cache-control")), (201, "no-store"), "{}", shown.text);
    let token = between(&shown.text, "./config.sh remove --token ", "<").to_owned();
    assert!(world.github.issued().iter().any(|issued| token.contains(issued.as_str())), "{token}");
    assert!(!blue.get(&path).await.text.contains(&token));
    let refused = blue.submit(&path, &format!("/runners/{jit}/remove-token"), &[]).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
}

#[actix_web::test]
async fn the_display_name_of_a_caller_is_only_text() {
    let world = peopled().await;
    let claims = json!({ "sub": SCRIPT, "name": SCRIPT, "preferred_username": SCRIPT, "team": "blue" });
    let token = world.issuer.mint(claims.clone());
    let headers = [("user-agent", SCRIPT)];
    let body = json!({ "runner_name": "b1", "labels": ["linux<script>alert(1)</script>"] });
    let made = world.call(reqwest::Method::POST, "/api/v1/runners/jit", &token, &headers, Some(body)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let named = world.signed_in_as(claims).await;
    let boss = world.signed_in("boss").await;
    for path in ["/", "/runners", "/runners/b1", "/runners/b1/remove", "/runners/new"] {
        for browser in [&named, &boss] {
            let page = browser.get(path).await.text;
            assert!(!page.contains("<script>alert"), "{path}: {page}");
        }
    }
    assert!(boss.get("/runners/b1").await.text.contains("linux&lt;script&gt;alert"));
}
