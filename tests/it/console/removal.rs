//! Removing runners by hand.

use super::pages::peopled;
use crate::support::{ORG, World};

const WHY: (&str, &str) = ("comment", "the pool moves elsewhere");

async fn ids(world: &World, names: &[&str]) -> Vec<String> {
    let mut ids = Vec::new();
    for name in names {
        ids.push(world.jit(name).await.str("runner_id").to_owned());
    }
    ids
}

fn fields<'a>(ids: &'a [String], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    ids.iter().map(|id| ("id", id.as_str())).chain(more.iter().copied()).collect()
}

#[actix_web::test]
async fn an_admin_sees_what_goes_says_why_and_it_goes() {
    let world = peopled().await;
    let ids = ids(&world, &["b1", "b2", "b3"]).await;
    let boss = world.signed_in("boss").await;
    let asked = boss.submit("/runners", "/runners/remove/check", &fields(&ids[..2], &[])).await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    assert!(asked.text.contains("Remove 2 runners?") && asked.text.contains(">b1<"), "{}", asked.text);
    assert!(!asked.text.contains(">b3<") && asked.text.contains(r#"name="comment""#), "{}", asked.text);
    assert_eq!(world.on_github().len(), 3, "nothing goes yet");

    let short =
        boss.submit("/runners", "/runners/remove", &fields(&ids[..2], &[("comment", "short <b>")])).await;
    assert_eq!(short.status, 422, "{}", short.text);
    assert!(
        short.text.contains("10 to 500 characters, none") && short.text.contains("short &lt;b&gt;"),
        "{}",
        short.text
    );
    assert_eq!(world.on_github().len(), 3);

    let done = boss.submit("/runners", "/runners/remove", &fields(&ids[..2], &[WHY])).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(done.text.matches("removed from GitHub").count(), 2, "{}", done.text);
    assert_eq!(world.on_github(), ["b3"]);
    let batch = world.log("event_type = 'batch_executed'").await;
    assert_eq!((batch.len(), &batch[0]["event_data"]["comment"]), (1, &WHY.1.into()));
    let again = boss.submit("/runners", "/runners/remove", &fields(&ids[..2], &[WHY])).await;
    assert_eq!(again.text.matches("was already gone").count(), 2, "{}", again.text);
}

#[actix_web::test]
async fn a_member_removes_his_own_without_a_comment_and_nobody_elses() {
    let world = peopled().await;
    let ids = ids(&world, &["b1", "b2"]).await;
    let red = world.signed_in("red").await;
    let asked = red.submit("/", "/runners/remove/check", &fields(&ids, &[])).await;
    assert!(asked.text.contains("Nothing to remove") && !asked.text.contains(">b1<"), "{}", asked.text);
    let refused = red.submit("/", "/runners/remove", &fields(&ids, &[])).await;
    assert_eq!(refused.text.matches("RUNNER_NOT_FOUND").count(), 2, "{}", refused.text);
    let watch = world.signed_in("watch").await;
    let refused = watch.submit("/", "/runners/remove", &fields(&ids, &[])).await;
    assert_eq!(refused.text.matches("FORBIDDEN").count(), 2, "{}", refused.text);
    assert_eq!(world.on_github().len(), 2);

    let blue = world.signed_in("blue").await;
    let asked = blue.get(&format!("/runners/{}/remove", ids[0])).await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    assert!(asked.text.contains("Remove b1?") && !asked.text.contains(r#"name="comment""#), "{}", asked.text);
    let done = blue.submit("/runners", "/runners/remove", &fields(&ids[..1], &[])).await;
    assert_eq!((done.status, world.on_github()), (200, vec!["b2".to_owned()]), "{}", done.text);
}

#[actix_web::test]
async fn a_busy_one_is_left_alone_or_goes_when_it_is_idle() {
    let world = peopled().await;
    let made = world.jit("b1").await;
    world.github.connect_jit(made.str("encoded_jit_config")).unwrap();
    world.github.start_job(ORG, "b1").unwrap();
    world.sweep().await;
    let id = [made.str("runner_id").to_owned()];
    let blue = world.signed_in("blue").await;
    let asked = blue.submit("/runners", "/runners/remove/check", &fields(&id, &[])).await;
    assert!(asked.text.contains(r#"name="force_when_idle" value="true" checked"#), "{}", asked.text);
    let left = blue.submit("/runners", "/runners/remove", &fields(&id, &[])).await;
    assert!(left.text.contains("RUNNER_BUSY"), "{}", left.text);
    assert_eq!(world.status("b1").await, "active");
    let waits =
        blue.submit("/runners", "/runners/remove", &fields(&id, &[("force_when_idle", "true")])).await;
    assert!(waits.text.contains("will be removed once idle"), "{}", waits.text);
    assert_eq!(world.status("b1").await, "deleting");
}

#[actix_web::test]
async fn a_form_without_the_pages_token_changes_nothing() {
    let world = peopled().await;
    let ids = ids(&world, &["b1"]).await;
    let blue = world.signed_in("blue").await;
    let paths = ["/runners/remove", "/runners/remove/check", "/runners/new", "/runners/new/check"];
    let own = [format!("/runners/{}/refresh", ids[0]), format!("/runners/{}/remove-token", ids[0])];
    for path in paths.into_iter().chain(own.iter().map(String::as_str)) {
        for token in [None, Some(""), Some("0123")] {
            let mut fields = fields(&ids, &[("name", "b9"), ("key", "k")]);
            fields.extend(token.map(|token| ("csrf_token", token)));
            let answer = blue.post_bare(path, &fields).await;
            assert_eq!(answer.status, 403, "{path}: {}", answer.text);
        }
    }
    // Nor with another session's.
    let other = world.signed_in("blue").await;
    let page = other.get("/runners").await.text;
    let token = super::pages::between(&page, r#"name="csrf_token" value=""#, "\"");
    let answer = blue.post_bare("/runners/remove", &fields(&ids, &[("csrf_token", token)])).await;
    assert_eq!((answer.status, world.on_github().len()), (403, 1));
}
