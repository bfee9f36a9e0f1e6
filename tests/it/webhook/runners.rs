//! What jobs say of the runners that took them: forward by GitHub's times, and the sweep has the last word.

use runner_broker::dev::github::{Action, Fault, JobState};
use serde_json::{Value, json};

use crate::support::{ORG, REPO, World};

impl World {
    /// A JIT runner of blue's that is online, and a job that it took some seconds later.
    pub async fn job_on(&self, name: &str) -> JobState {
        let made = self.jit(name).await;
        self.github.connect_jit(made.str("encoded_jit_config")).expect("a runner");
        let job = self.github.queue_job(REPO, "build", &["self-hosted", "linux"]);
        self.pass(5);
        self.github.take_job(job.id, ORG, name).expect("a job")
    }

    async fn row(&self, name: &str) -> String {
        let query = format!(
            "SELECT status || CASE WHEN busy THEN ' busy' ELSE ' idle' END FROM runners WHERE name = '{name}'"
        );
        self.sql(&query).await.remove(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_start_makes_its_runner_active_and_its_end_idle_and_one_sweep_then_ends_it() {
    let world = World::new().await;
    world.hear();
    world.job_on("b1").await;
    world.heard(2).await;
    assert_eq!(world.row("b1").await, "active busy");
    assert_eq!(world.events("b1").await.last().unwrap(), "runner_state_changed");
    let id = world.github.jobs()[0].id;
    assert_eq!(
        world.sql("SELECT state || ' ' || runner_name || ' ' || team FROM jobs").await,
        ["in_progress b1 blue"]
    );
    world.pass(60);
    world.github.end_job(id, "success").unwrap();
    world.heard(3).await;
    assert_eq!(world.row("b1").await, "active idle");
    assert_eq!(world.sql("SELECT state || ' ' || conclusion FROM jobs").await, ["completed success"]);
    world.pass(1);
    world.sweep().await;
    assert_eq!(world.status("b1").await, "deleted", "one sweep is enough");
    assert_eq!(world.moves("b1").await.len(), 2, "pending, active, deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_job_that_the_row_knows_better_than_still_counts_as_a_miss() {
    let world = World::new().await;
    let job = world.job_on("b1").await;
    world.pass(2);
    // GitHub lists it still, so the sweep is newer than the job's end and says that it is there.
    let done = JobState {
        status: "completed",
        conclusion: Some("success"),
        completed_at: Some(world.clock.now()),
        ..job.clone()
    };
    world.pass(2);
    world.sweep().await;
    world.github.end_job(job.id, "success").unwrap();
    world.happen("workflow_job", &world.github.job_payload(&done)).await;
    world.pass(2);
    world.sweep().await;
    assert_eq!(world.status("b1").await, "deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_out_of_order_do_not_make_an_idle_runner_busy() {
    let world = World::new().await;
    let begun = world.job_on("b1").await;
    let queued = JobState { status: "queued", runner: None, started_at: None, ..begun.clone() };
    world.pass(30);
    let done = JobState {
        status: "completed",
        conclusion: Some("failure"),
        completed_at: Some(world.clock.now()),
        ..begun.clone()
    };
    for job in [&done, &begun, &queued, &done, &begun] {
        world.happen("workflow_job", &world.github.job_payload(job)).await;
        assert_eq!(world.row("b1").await, "active idle");
        assert_eq!(world.sql("SELECT state FROM jobs").await, ["completed"]);
    }
    // Each order of the three in one batch as well.
    let bodies: Vec<Value> = [&begun, &done, &queued].map(|job| world.github.job_payload(job)).into();
    world.sql("TRUNCATE jobs").await;
    for (number, body) in bodies.iter().enumerate() {
        world.deliver("workflow_job", &format!("batch {number}"), body).await;
    }
    world.broker.work_off().await.unwrap();
    let times =
        "SELECT state || ' ' || (queued_at < started_at AND started_at < completed_at)::text FROM jobs";
    assert_eq!(world.sql(times).await, ["completed true"]);
    assert_eq!(world.row("b1").await, "active idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_older_than_what_the_row_knows_changes_nothing_but_wakes_the_sweep() {
    let world = World::new().await;
    let job = world.job_on("b1").await;
    world.pass(10);
    world.github.fail(Fault::new("GET", "/runners", Action::Delay { millis: 0 }));
    world.sweep().await;
    world.sql("UPDATE runners SET busy = false").await;
    let before = world.sql("SELECT r::text FROM runners r").await;
    world.sql("UPDATE sync_targets SET wanted_at = NULL").await;
    world.happen("workflow_job", &world.github.job_payload(&job)).await;
    assert_eq!(world.sql("SELECT r::text FROM runners r").await, before);
    let wanted = "SELECT target FROM sync_targets WHERE wanted_at IS NOT NULL ORDER BY target";
    assert!(world.sql(wanted).await.contains(&ORG.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_another_runner_of_that_name_or_id_moves_nothing() {
    let world = World::new().await;
    let job = world.job_on("b1").await;
    let mut body = world.github.job_payload(&job);
    let id = body["workflow_job"]["runner_id"].clone();
    for (wrong_id, wrong_name, repository) in [
        (json!(999_999), json!("b1"), json!(REPO)),
        (id.clone(), json!("b2"), json!(REPO)),
        (id.clone(), json!("b1"), json!("other-org/octo-repo")),
        (json!(null), json!(null), json!(REPO)),
        (json!(0), json!(""), json!(REPO)),
    ] {
        body["workflow_job"]["runner_id"] = wrong_id;
        body["workflow_job"]["runner_name"] = wrong_name;
        body["repository"]["full_name"] = repository;
        world.happen("workflow_job", &body).await;
        assert_eq!(world.row("b1").await, "pending idle");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_null_runner_at_the_end_keeps_the_one_that_took_the_job() {
    let world = World::new().await;
    let job = world.job_on("b1").await;
    world.happen("workflow_job", &world.github.job_payload(&job)).await;
    let done = JobState {
        status: "completed",
        conclusion: Some("cancelled"),
        completed_at: Some(world.clock.now()),
        runner: None,
        ..job
    };
    world.happen("workflow_job", &world.github.job_payload(&done)).await;
    assert_eq!(
        world.sql("SELECT state || ' ' || runner_name || ' ' || team FROM jobs").await,
        ["completed b1 blue"]
    );
    assert_eq!(world.row("b1").await, "active busy", "nothing says that its runner is idle; the sweep will");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_of_the_registration_flow_is_known_by_the_sweep_that_its_first_job_wakes() {
    let world = World::new().await;
    let made = world.post("/api/v1/runners/provision", "blue", json!({ "runner_name": "r1" })).await;
    let id = world.github.register(ORG, "R1", &["linux"], true, made.str("registration_token")).unwrap();
    world.github.connect(ORG, "r1").unwrap();
    // An old job of a former runner of that name says nothing of this one.
    let mut old = super::job(5, &["self-hosted"]);
    old["action"] = json!("in_progress");
    old["workflow_job"]["runner_id"] = json!(77);
    old["workflow_job"]["runner_name"] = json!("r1");
    world.happen("workflow_job", &old).await;
    assert_eq!(world.row("r1").await, "pending idle");
    world.pass(5);
    let job = world.github.queue_job(REPO, "build", &["self-hosted"]);
    let job = world.github.take_job(job.id, ORG, "r1").unwrap();
    world.sql("UPDATE sync_targets SET wanted_at = NULL").await;
    world.happen("workflow_job", &world.github.job_payload(&job)).await;
    assert_eq!(world.row("r1").await, "pending idle", "a name proves nothing");
    let wanted = "SELECT target FROM sync_targets WHERE wanted_at IS NOT NULL ORDER BY target";
    assert!(world.sql(wanted).await.contains(&ORG.to_owned()));
    world.sweep().await;
    assert_eq!(world.row("r1").await, "active busy");
    assert_eq!(world.column("r1", "github_runner_id").await, id.to_string());
    // The delivery waited for that with its labels.
    world.pass(5);
    world.broker.work_off().await.unwrap();
    assert_eq!(world.sql(&format!("SELECT team FROM jobs WHERE id = {}", job.id)).await, ["blue"]);
    assert_eq!(world.count("webhook_deliveries WHERE finished_at IS NULL").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repositorys_runner_does_not_take_over_the_name_that_is_pending_with_its_owner() {
    let world = World::new().await;
    world.post("/api/v1/runners/provision", "blue", json!({ "runner_name": "r1" })).await;
    let before = world.sql("SELECT r::text FROM runners r").await;
    world.pass(5);
    for action in ["in_progress", "completed"] {
        let mut body = super::job(5, &["self-hosted"]);
        body["action"] = json!(action);
        body["workflow_job"]["runner_id"] = json!(77);
        body["workflow_job"]["runner_name"] = json!("R1");
        body["workflow_job"]["started_at"] = json!(world.clock.now());
        body["workflow_job"]["completed_at"] = json!(world.clock.now());
        world.happen("workflow_job", &body).await;
        assert_eq!(world.sql("SELECT r::text FROM runners r").await, before, "{action}");
    }
    for _ in 0..14 {
        world.pass(900);
        world.broker.work_off().await.unwrap();
    }
    assert_eq!(world.sql("SELECT r::text FROM runners r").await, before);
    assert_eq!(world.sql("SELECT team IS NULL FROM jobs").await, ["t"], "nor is the job blue's");
    assert_eq!(world.count("webhook_deliveries WHERE finished_at IS NULL").await, "0");
    assert!(world.log("event_type = 'webhook_delivery_set_aside'").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_does_not_ask_for_self_hosted_leaves_no_row_but_its_runner_is_busy() {
    let world = World::new().await;
    let job = world.job_on("b1").await;
    let job = JobState { labels: vec!["docker".into()], ..job };
    world.happen("workflow_job", &world.github.job_payload(&job)).await;
    assert_eq!(world.count("jobs").await, "0");
    assert_eq!(world.row("b1").await, "active busy");
}
