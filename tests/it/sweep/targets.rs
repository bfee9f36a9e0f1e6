//! Which targets are swept, and when somebody wants one swept out of turn.

use std::time::Duration;

use runner_broker::background;
use runner_broker::dev::github::{Action, Canned, Fault};
use runner_broker::model::Target;
use runner_broker::store::{Store, sync_targets};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{ORG, REPO, World, eventually, team};

impl World {
    /// As a webhook on any replica does.
    pub async fn want(&self, target: &str) {
        let target: Target = target.parse().unwrap();
        let store = Store::new(&self.database_url().into(), 1).unwrap();
        let mut conn = store.conn().await.unwrap();
        sync_targets::want(&mut conn, &target, self.clock.now()).await.unwrap();
    }

    pub async fn sweep_wanted(&self) -> runner_broker::broker::sweep::report::Report {
        let lease = self.lease().await;
        self.broker.sync_wanted(&lease).await.expect("a sweep")
    }

    /// The paths of the lists that GitHub was asked for, without their queries.
    pub fn lists(&self) -> Vec<String> {
        let calls = self.github.calls();
        let lists = calls.iter().filter(|call| call.path.contains("per_page=100&page="));
        lists.map(|call| call.path.split('?').next().unwrap().to_owned()).collect()
    }
}

const OF_ORG: &str = "/orgs/octo-org/actions/runners";
const OF_REPO: &str = "/repos/octo-org/octo-repo/actions/runners";

#[tokio::test(flavor = "multi_thread")]
async fn the_concrete_targets_of_active_teams_are_swept_and_patterns_name_none() {
    let world = World::new().await;
    world.sweep().await;
    assert_eq!(world.lists(), [OF_ORG], "octo-org, not octo-org/*");

    world.github.clear_calls();
    world.policy(&team("blue", r#"targets = ["octo-org/*", "Octo-Org/Octo-Repo"]"#)).await;
    world.sweep().await;
    assert_eq!(world.lists(), [OF_REPO]);

    world.github.clear_calls();
    world.policy(&team("red", r#"targets = ["octo-org/*"]"#)).await;
    world.sweep().await;
    assert!(world.lists().is_empty(), "a team that is gone names nothing");
    assert!(world.sql("SELECT target FROM sync_targets").await.is_empty());
    // What was seen there is kept for a while: it may be a target again tomorrow.
    assert!(!world.sql("SELECT target FROM github_runners_cache").await.is_empty());
    world.pass(31 * 24 * 3600);
    world.sweep().await;
    assert!(world.sql("SELECT target FROM github_runners_cache").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_without_targets_names_the_default_organisation() {
    let world = World::new().await;
    let policy =
        "[[team]]\nname = \"blue\"\n[[team.member]]\nissuer = \"ISSUER\"\nclaims = { team = \"blue\" }\n";
    world.policy(policy).await;
    world.sweep().await;
    assert_eq!(world.lists(), [OF_ORG]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wanted_target_is_swept_alone_and_once() {
    let world = World::new().await;
    let body = json!({ "runner_name": "b1", "repository": REPO });
    assert_eq!(world.post("/api/v1/runners/jit", "blue", body).await.status, 201);
    world.connected("b2").await;
    world.sweep().await;
    world.github.connect(REPO, "b1").unwrap();
    world.github.clear_calls();
    for _ in 0..5 {
        world.want(REPO).await;
    }
    let report = world.sweep_wanted().await;
    assert_eq!((report.moved, report.failures), (1, 0));
    assert_eq!(world.lists(), [OF_REPO]);
    assert_eq!(world.status("b1").await, "active");
    world.sweep_wanted().await;
    assert_eq!(world.lists().len(), 1, "nobody wants it any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_comes_while_the_target_is_swept_is_for_the_next_sweep() {
    let world = World::new().await;
    world.connected("b1").await;
    world.github.fail(Fault::new("GET", "per_page=100&page=", Action::ActThenDelay { millis: 500 }));
    tokio::join!(world.sweep(), async {
        eventually("the list", async || world.lists().len() == 1).await;
        world.github.disconnect(ORG, "b1").unwrap();
        world.want(ORG).await;
    });
    assert_eq!(world.status("b1").await, "active");
    assert_eq!(world.sweep_wanted().await.moved, 1);
    assert_eq!(world.status("b1").await, "offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_for_what_is_not_ours_to_sweep_is_forgotten() {
    let world = World::new().await;
    world.want("octo-org/octo-repo").await;
    world.want("somebody-else").await;
    world.sweep_wanted().await;
    assert!(world.lists().is_empty());
    assert_eq!(world.sql("SELECT target FROM sync_targets").await, [ORG]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wanted_sweep_that_broke_off_is_tried_again_after_seconds() {
    let world = World::new().await;
    world.connected("b1").await;
    world.want(ORG).await;
    world.github.fail(Fault::new("GET", "per_page=100&page=", Action::Respond(Canned::status(500))).times(3));
    assert_eq!(world.sweep_wanted().await.failures, 1);
    assert_eq!(world.sweep_wanted().await.moved, 0);
    assert_eq!(world.status("b1").await, "pending");
    world.pass(16);
    assert_eq!(world.sweep_wanted().await.moved, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_sweep_off_a_wish_changes_nothing() {
    let world = World::with(|config| config.broker.sync_enabled = false).await;
    world.want(ORG).await;
    world.sweep_wanted().await;
    assert!(world.lists().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_wishes_make_about_one_sweep_a_second_of_the_leaders() {
    let world = World::new().await;
    world.connected("b1").await;
    let stop = CancellationToken::new();
    let jobs = tokio::spawn(background::run(world.broker.clone(), world.verifier.clone(), stop.clone()));
    eventually("the first sweep", async || world.status("b1").await == "active").await;
    world.github.disconnect(ORG, "b1").unwrap();
    let (begun, before) = (tokio::time::Instant::now(), world.lists().len());
    while begun.elapsed() < Duration::from_secs(3) {
        world.want(ORG).await;
    }
    eventually("a wanted sweep", async || world.status("b1").await == "offline").await;
    stop.cancel();
    jobs.await.unwrap();
    let (swept, seconds) = (world.lists().len() - before, begun.elapsed().as_secs() as usize);
    assert!((1..=seconds + 2).contains(&swept), "{swept} sweeps in {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_leader_sweeps_no_wanted_target() {
    let world = World::new().await;
    let lease = world.lease().await;
    world.want(ORG).await;
    world.sql("UPDATE leases SET epoch = epoch + 1").await;
    assert!(world.broker.sync_wanted(&lease).await.is_err());
    assert!(world.lists().is_empty());
}
