//! A repository that was taken from the App answers «not found» to everything: nothing of it is gone.

use serde_json::json;

use crate::support::{REPO, World};

async fn in_repository(world: &World, name: &str) {
    let body = json!({ "runner_name": name, "repository": REPO });
    assert_eq!(world.post("/api/v1/runners/jit", "blue", body).await.status, 201);
    world.github.connect(REPO, name).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_of_a_repository_that_the_app_may_not_see_is_not_gone() {
    let world = World::new().await;
    in_repository(&world, "b1").await;
    world.sweep().await;
    world.github.select(REPO, false);
    let answer = world.post("/api/v1/runners/b1/refresh", "blue", json!({})).await;
    assert_eq!(answer.refusal(), (502, "GITHUB_REFUSED"), "{}", answer.text);
    assert!(answer.text.contains("octo-org/octo-repo, or the App may not see it"), "{}", answer.text);
    for _ in 0..3 {
        assert_eq!(world.sweep().await.failures, 1);
    }
    assert_eq!(world.status("b1").await, "active");

    world.github.select(REPO, true);
    world.github.remove(REPO, "b1").unwrap();
    let answer = world.post("/api/v1/runners/b1/refresh", "blue", json!({})).await;
    assert_eq!((answer.status, answer.str("status")), (200, "deleted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn its_removal_waits_until_the_app_sees_it_again() {
    let world = World::new().await;
    in_repository(&world, "b1").await;
    world.github.select(REPO, false);
    let answer = world.delete("/api/v1/runners/b1", "blue").await;
    assert_eq!(answer.refusal(), (502, "GITHUB_REFUSED"), "{}", answer.text);
    assert_eq!(world.status("b1").await, "deleting");
    assert_eq!(world.github.runners(REPO).len(), 1);
    world.github.select(REPO, true);
    world.pass(20 * 60);
    assert_eq!(world.sweep().await.removed, 1);
    assert_eq!((world.status("b1").await, world.github.runners(REPO).len()), ("deleted".into(), 0));
}
