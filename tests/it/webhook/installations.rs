//! Installations that are suspended, removed or changed: believed once GitHub confirms it, known everywhere.

use std::sync::Arc;

use runner_broker::cli::serve::start;
use runner_broker::dev::github::{Action, Fault};
use serde_json::{Value, json};

use crate::support::{Answer, ORG, REPO, WEBHOOK_SECRET, World, answer, eventually};

/// Another replica of the world's broker, serving.
struct Replica {
    broker: Arc<runner_broker::broker::Broker>,
    verifier: runner_broker::auth::Verifier,
    url: String,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Replica {
    async fn of(world: &World) -> Replica {
        let started = start(world.config.clone(), world.clock.clone()).await.expect("a broker");
        started.verifier.refresh().await;
        Replica {
            url: format!("http://{}", started.server.address),
            broker: started.broker,
            verifier: started.verifier,
            server: tokio::spawn(started.server),
        }
    }

    async fn jit(&self, world: &World, body: Value) -> Answer {
        assert!(self.verifier.ready());
        let request = world.client().post(format!("{}/api/v1/runners/jit", self.url));
        answer(request.bearer_auth(world.token("blue")).json(&body)).await
    }
}

impl World {
    /// GitHub tells this broker of what happens there.
    pub fn hear(&self) {
        self.github.set_webhook(&format!("{}/api/v1/webhooks/github", self.url), WEBHOOK_SECRET);
    }

    /// Until GitHub has had a good answer to this many deliveries; then they are worked off.
    pub async fn heard(&self, count: usize) {
        eventually("the deliveries", async || self.github.delivered().1 >= count).await;
        self.broker.work_off().await.expect("a database");
    }

    async fn installation(&self, action: &str, id: u64) {
        let payload = self.github.installation_payload(action, ORG, id).expect("an account");
        self.happen("installation", &payload).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_refuses_provisions_at_once_on_every_replica_without_asking_github() {
    let world = World::new().await;
    let other = Replica::of(&world).await;
    world.hear();
    assert_eq!(world.jit("before").await.status, 201);
    world.github.suspend(ORG);
    world.heard(1).await;
    other.broker.refresh_policy().await.unwrap();
    world.github.clear_calls();
    for refused in [
        world.jit("b1").await,
        other.jit(&world, json!({ "runner_name": "b2" })).await,
        other.jit(&world, json!({ "runner_name": "b3", "repository": REPO })).await,
    ] {
        assert_eq!(refused.refusal(), (502, "GITHUB_REFUSED"));
        assert!(refused.str("detail").contains("installation on 'octo-org' is suspended"), "{refused:?}");
    }
    assert!(world.github.calls().is_empty(), "{:?}", world.github.calls());
    let log = world.log("event_type = 'provision_failed'").await;
    assert_eq!(log.len(), 3);
    assert!(log.iter().all(|event| event["error_code"] == "GITHUB_REFUSED" && event["team"] == "blue"));
    let changed = world.log("event_type = 'installation_changed'").await;
    assert_eq!(changed.len(), 1);
    assert_eq!((&changed[0]["target"], &changed[0]["severity"]), (&json!(ORG), &json!("warning")));

    world.github.unsuspend(ORG);
    world.heard(2).await;
    assert_eq!(world.jit("after").await.status, 201);
    assert_eq!(other.jit(&world, json!({ "runner_name": "b2" })).await.status, 502, "until it looks");
    other.broker.refresh_policy().await.unwrap();
    assert_eq!(other.jit(&world, json!({ "runner_name": "b2" })).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_refusal_comes_before_the_reason_of_a_suspension() {
    let world = World::new().await;
    world.github.suspend(ORG);
    world.installation("suspend", world.github.installation_id(ORG).unwrap()).await;
    let refused = world.post("/api/v1/runners/jit", "red", json!({ "runner_name": "r" })).await;
    assert_eq!(refused.refusal(), (403, "NO_TEAM"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_suspension_or_removal_that_github_does_not_confirm_has_no_effect() {
    let world = World::new().await;
    let id = world.github.installation_id(ORG).unwrap();
    world.installation("suspend", id).await;
    world.installation("deleted", id).await;
    assert_eq!(world.jit("b1").await.status, 201);
    // It was removed once, and is there again under another id: the old body is true of the old id only.
    world.github.uninstall(ORG);
    world.installation("deleted", id).await;
    assert_eq!(world.jit("b2").await.refusal(), (502, "GITHUB_REFUSED"));
    let new = world.github.install(ORG).unwrap();
    assert_ne!(new, id);
    world.installation("created", new).await;
    assert_eq!(world.jit("b2").await.status, 201);
    world.installation("deleted", id).await;
    world.installation("suspend", id).await;
    assert_eq!(world.jit("b3").await.status, 201);
    assert_eq!(world.sql("SELECT installation_id FROM installations").await, [new.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_github_does_not_answer_is_asked_again_after_a_pause() {
    let world = World::new().await;
    world.github.suspend(ORG);
    world.github.fail(Fault::new("GET", "/app/installations/", Action::Html { status: 503 }).times(3));
    world.installation("suspend", world.github.installation_id(ORG).unwrap()).await;
    assert_eq!(world.count("installations").await, "0");
    assert_eq!(world.broker.work_off().await.unwrap(), 0, "not at once");
    world.pass(3);
    assert_eq!(world.broker.work_off().await.unwrap(), 1);
    assert_eq!(world.jit("b1").await.refusal(), (502, "GITHUB_REFUSED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_an_hour_is_set_aside() {
    let world = World::new().await;
    world.github.fail(Fault::new("GET", "/app/installations/", Action::Html { status: 503 }).always());
    let payload = world.github.installation_payload("suspend", ORG, 5).unwrap();
    world.deliver("installation", "i", &payload).await;
    for _ in 0..20 {
        world.broker.work_off().await.unwrap();
        world.pass(900);
    }
    assert_eq!(world.sql("SELECT attempts FROM webhook_deliveries").await, ["12"]);
    let aside = world.log("event_type = 'webhook_delivery_set_aside'").await;
    assert_eq!(aside.len(), 1);
    assert!(aside[0]["error_message"].as_str().unwrap().contains("503"), "{aside:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_leaves_the_selection_is_refused_until_it_comes_back() {
    let world = World::new().await;
    world.hear();
    let ask = json!({ "runner_name": "b1", "repository": REPO });
    world.github.select(REPO, false);
    world.heard(1).await;
    world.github.clear_calls();
    let refused = world.post("/api/v1/runners/jit", "blue", ask.clone()).await;
    assert_eq!(refused.refusal(), (502, "GITHUB_REFUSED"));
    assert!(refused.str("detail").contains("no access to 'octo-org/octo-repo'"), "{refused:?}");
    assert!(world.github.calls().is_empty());
    assert_eq!(world.jit("b2").await.status, 201, "the organisation's own runners are not concerned");
    world.github.select(REPO, true);
    world.heard(2).await;
    assert_eq!(world.post("/api/v1/runners/jit", "blue", ask.clone()).await.status, 201);
    // The first delivery, replayed.
    let payload = json!({
        "action": "removed",
        "installation": { "id": 1, "account": { "login": ORG } },
        "repositories_added": [],
        "repositories_removed": [{ "full_name": REPO }],
    });
    world.happen("installation_repositories", &payload).await;
    let ask = json!({ "runner_name": "b3", "repository": REPO });
    assert_eq!(world.post("/api/v1/runners/jit", "blue", ask).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_permissions_drop_the_tokens_of_every_replica() {
    let world = World::new().await;
    let other = Replica::of(&world).await;
    let minted = || world.github.calls().iter().filter(|call| call.path.ends_with("/access_tokens")).count();
    assert_eq!(world.jit("a1").await.status, 201);
    assert_eq!(other.jit(&world, json!({ "runner_name": "a2" })).await.status, 201);
    assert_eq!(world.jit("a3").await.status, 201);
    assert_eq!(minted(), 2);
    world.installation("new_permissions_accepted", world.github.installation_id(ORG).unwrap()).await;
    assert_eq!(world.jit("a4").await.status, 201);
    assert_eq!(minted(), 3);
    other.broker.refresh_policy().await.unwrap();
    other.broker.refresh_policy().await.unwrap();
    assert_eq!(other.jit(&world, json!({ "runner_name": "a5" })).await.status, 201);
    assert_eq!(minted(), 4, "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_unblocked_when_github_is_seen_to_answer_again() {
    let world = World::new().await;
    let id = world.github.installation_id(ORG).unwrap();
    world.github.suspend(ORG);
    world.installation("suspend", id).await;
    world.github.select(REPO, false);
    let removed = json!({
        "action": "removed",
        "installation": { "id": id, "account": { "login": ORG } },
        "repositories_removed": [{ "full_name": REPO }],
    });
    world.happen("installation_repositories", &removed).await;
    let lease = world.lease().await;
    world.pass(60);
    world.broker.recheck_installations(&lease).await.unwrap();
    assert_eq!(world.jit("b1").await.status, 502);
    // The webhooks about these are lost.
    world.github.unsuspend(ORG);
    world.github.select(REPO, true);
    world.pass(120);
    world.broker.recheck_installations(&lease).await.unwrap();
    assert_eq!(world.jit("b1").await.status, 201);
    assert_eq!(world.count("installations WHERE blocked IS NOT NULL").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_permissions_are_one_event_even_if_the_delivery_is_taken_up_twice() {
    let world = World::new().await;
    world
        .sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not now''; END'")
        .await;
    world
        .sql(
            "CREATE TRIGGER refuse BEFORE UPDATE ON webhook_deliveries FOR EACH ROW
             WHEN (NEW.finished_at IS NOT NULL) EXECUTE FUNCTION refuse()",
        )
        .await;
    let id = world.github.installation_id(ORG).unwrap();
    let payload = world.github.installation_payload("new_permissions_accepted", ORG, id).unwrap();
    world.deliver("installation", "i", &payload).await;
    let _ = world.broker.work_off().await;
    world.sql("DROP TRIGGER refuse ON webhook_deliveries").await;
    world.pass(3600);
    world.broker.work_off().await.unwrap();
    assert_eq!(world.log("event_type = 'installation_changed'").await.len(), 1);
    assert_eq!(world.sql("SELECT token_epoch FROM installations").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_githubs_is_waited_for_and_is_no_attempt() {
    let world = World::new().await;
    world.github.fail(Fault::new("GET", "/app/installations/", Action::RateLimited { reset_seconds: 1800 }));
    world.github.suspend(ORG);
    world.installation("suspend", world.github.installation_id(ORG).unwrap()).await;
    assert_eq!(world.sql("SELECT attempts FROM webhook_deliveries").await, ["0"]);
    world.pass(1700);
    assert_eq!(world.broker.work_off().await.unwrap(), 0);
    world.pass(200);
    assert_eq!(world.broker.work_off().await.unwrap(), 1);
    assert_eq!(world.count("installations WHERE blocked IS NOT NULL").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_blocked_is_asked_about_less_and_less_and_a_few_at_a_time() {
    let world = World::new().await;
    world.github.suspend(ORG);
    world.installation("suspend", world.github.installation_id(ORG).unwrap()).await;
    let asked =
        || world.github.calls().iter().filter(|call| call.path.starts_with("/app/installations")).count();
    let lease = world.lease().await;
    let mut minutes = Vec::new();
    for minute in 0..300 {
        let before = asked();
        world.broker.recheck_installations(&lease).await.unwrap();
        if asked() > before {
            minutes.push(minute);
        }
        world.pass(60);
    }
    assert_eq!(minutes, [1, 3, 7, 15, 31, 63, 123, 183, 243]);
    // Many repositories, of which a week later nothing is known.
    world
        .sql(&format!(
            "INSERT INTO installations (target, blocked, changed_at, next_check_at)
             SELECT name, 'the GitHub App has no access to ''' || name || ''' any more', '{0}', '{0}'
             FROM generate_series(1, 30) n CROSS JOIN LATERAL (SELECT 'octo-org/gone-' || n AS name) named",
            world.clock.now().to_rfc3339()
        ))
        .await;
    world.broker.recheck_installations(&lease).await.unwrap();
    assert_eq!(world.count("installations WHERE checks = 1").await, "20");
    world.pass(7 * 86_400 + 60);
    world.broker.recheck_installations(&lease).await.unwrap();
    assert_eq!(world.sql("SELECT target FROM installations").await, [ORG]);
}
