//! The console's page on jobs.

use reqwest::header::COOKIE;
use serde_json::json;

use crate::browser::Browser;
use crate::support::{World, answer, team};
use crate::webhook::job;

/// blue and green, ann as an admin, aud as an auditor.
pub async fn roles(world: &World) {
    let roles = "[[admin]]\nissuer = \"ISSUER\"\nclaims = { team = \"ann\" }\n\
                 [[auditor]]\nissuer = \"ISSUER\"\nclaims = { team = \"aud\" }\n";
    let green = team("green", "targets = [\"octo-org/other\"]\n");
    world.policy(&[team("blue", ""), green, roles.to_owned()].concat()).await;
}

/// What a browser shows of a text that somebody chose, as long as it is escaped.
pub const EVIL: &str = "<script>alert(1)</script>";

pub fn escapes(page: &str) {
    assert!(!page.contains(EVIL), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
}

#[actix_web::test]
async fn jobs_are_shown_to_whom_the_api_shows_them() {
    let world = World::new().await;
    roles(&world).await;
    let mut other = job(20, &["self-hosted", "gpu"]);
    other["repository"]["full_name"] = json!("octo-org/other");
    world.happen("workflow_job", &job(10, &["self-hosted", "linux"])).await;
    world.happen("workflow_job", &other).await;
    let shown = async |who: &str| {
        let page = world.signed_in(who).await.get("/jobs").await;
        assert_eq!(page.status, 200, "{}", page.text);
        (page.text.contains("octo-org/octo-repo ·"), page.text.contains("octo-org/other"), page.text)
    };
    for all in ["ann", "aud", "blue"] {
        let (own, other, page) = shown(all).await;
        assert!(own && other, "{all}: {page}");
    }
    let (own, other, page) = shown("green").await;
    assert!(!own && other, "{page}");
    let (own, other, page) = shown("nobody").await;
    assert!(!own && !other && page.contains("You are in no team"), "{page}");
    let out = Browser::with(&world, "").get("/jobs?state=queued").await;
    assert_eq!(out.header("location"), "/sign-in?return_to=%2Fjobs%3Fstate%3Dqueued");
}

#[actix_web::test]
async fn a_queued_job_says_which_of_its_labels_no_live_runner_has() {
    let world = World::new().await;
    roles(&world).await;
    let page = async |who: &str| world.signed_in(who).await.get("/jobs").await.text;
    world.happen("workflow_job", &job(10, &["self-hosted", "linux", "gpu"])).await;
    assert!(page("ann").await.contains("no live runner serves this repository"));
    assert_eq!(world.jit("b1").await.status, 201);
    let text = page("ann").await;
    assert!(text.contains(r#"no live runner has <code class="label">gpu</code>"#), "{text}");
    assert!(!text.contains(r#"<code class="label">self-hosted</code> or"#), "{text}");
    // green has no runner that could.
    let mut other = job(20, &["self-hosted"]);
    other["repository"]["full_name"] = json!("octo-org/other");
    world.happen("workflow_job", &other).await;
    assert!(page("green").await.contains("no live runner of your teams serves this repository"));
    assert!(
        page("blue").await.contains(r#"no live runner of your teams has <code class="label">gpu</code>"#)
    );
    // Each label is there, at two runners.
    for labels in [["linux-a"], ["linux-b"]] {
        let ask = json!({ "labels": labels, "runner_name": format!("two-{}", labels[0]) });
        assert_eq!(world.post("/api/v1/runners/jit", "blue", ask).await.status, 201);
    }
    world.happen("workflow_job", &job(30, &["self-hosted", "linux-a", "linux-b"])).await;
    let text = world.signed_in("blue").await.get("/jobs?label=linux-a").await.text;
    assert!(text.contains("no live runner of your teams has all of these labels together"), "{text}");
}

#[actix_web::test]
async fn jobs_link_to_their_run_and_to_their_runner() {
    let world = World::new().await;
    let made = world.jit("b1").await;
    world.github.connect_jit(made.str("encoded_jit_config")).unwrap();
    world.pass(3);
    let queued = world.github.queue_job(crate::support::REPO, "build", &["self-hosted"]);
    let taken = world.github.take_job(queued.id, "octo-org", "b1").unwrap();
    world.happen("workflow_job", &world.github.job_payload(&taken)).await;
    let text = world.signed_in("blue").await.get("/jobs?state=in_progress").await.text;
    assert!(text.contains(r#"href="/runners/b1""#), "{text}");
    let job = format!("/job/{}\"", taken.id);
    assert!(
        text.contains("https://github.com/octo-org/octo-repo/actions/runs/") && text.contains(&job),
        "{text}"
    );
    assert!(world.signed_in("blue").await.get("/jobs?state=queued").await.text.contains("No matching jobs"));
}

#[actix_web::test]
async fn jobs_come_page_by_page_and_a_filter_that_cannot_be_says_why() {
    let world = World::new().await;
    for id in 1..=3 {
        world.happen("workflow_job", &job(id, &["self-hosted", EVIL])).await;
    }
    let browser = world.signed_in("blue").await;
    let page = browser.get("/jobs?limit=2&state=queued").await.text;
    escapes(&page);
    let next = r#"href="/jobs?limit=2&amp;state=queued&amp;cursor=2" data-older"#;
    assert!(page.contains(next), "{page}");
    let page = browser.get("/jobs?limit=2&state=queued&cursor=2").await.text;
    assert!(!page.contains("data-older") && page.contains("/job/1\""), "{page}");
    let page = browser.get("/jobs?state=nonsense&label=keep").await;
    assert_eq!(page.status, 422);
    assert!(page.text.contains("one of waiting, queued, in_progress, completed"), "{}", page.text);
    assert!(page.text.contains(r#"value="keep""#), "{}", page.text);
    // Nothing of a page is anybody else's.
    let bare =
        answer(world.client().get(format!("{}/jobs", world.url)).header(COOKIE, "runner-broker=guessed"))
            .await;
    assert!(!bare.text.contains("octo-repo"), "{}", bare.text);
}
