//! The policy at a job's start: what the runner's labels are by now decides, not what was asked for once.

use runner_broker::config::Enforcement;
use runner_broker::dev::github::{Action, Canned, Fault, JobState};
use serde_json::{Value, json};

use crate::support::{ORG, World};

const EVENTS: &str = "event_type = 'label_policy_violation_workflow'";

impl World {
    async fn enforcing(enforcement: Enforcement) -> World {
        World::with(|config| config.broker.label_policy_enforcement = enforcement).await
    }

    /// A job on a runner that was given a label which its team may not have.
    async fn drifted(&self) -> JobState {
        let job = self.job_on("b1").await;
        self.github.set_labels(ORG, "b1", &["self-hosted", "Linux", "X64", "docker", "Admin-Only"]).unwrap();
        job
    }

    async fn start(&self, job: &JobState) -> Vec<Value> {
        self.happen("workflow_job", &self.github.job_payload(job)).await;
        self.log(EVENTS).await
    }

    fn cancels(&self) -> usize {
        self.github.calls().iter().filter(|call| call.path.ends_with("/cancel")).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_whose_labels_the_team_may_have_is_no_event() {
    let world = World::enforcing(Enforcement::Enforce).await;
    let job = world.job_on("b1").await;
    world.github.set_labels(ORG, "b1", &["Self-Hosted", "Linux", "ARM64", "Docker"]).unwrap();
    assert!(world.start(&job).await.is_empty());
    assert_eq!(world.cancels(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_violation_is_one_event_with_all_that_an_auditor_wants() {
    let world = World::enforcing(Enforcement::Audit).await;
    let job = world.drifted().await;
    let log = world.start(&job).await;
    assert_eq!(world.start(&job).await.len(), 1, "a repetition is no second violation");
    let data = &log[0]["event_data"];
    assert_eq!((&log[0]["severity"], &log[0]["success"]), (&json!("high"), &json!(false)));
    assert_eq!((&log[0]["runner_name"], &log[0]["team"]), (&json!("b1"), &json!("blue")));
    assert_eq!((&data["job_id"], &data["run_id"]), (&json!(job.id), &json!(job.run_id)));
    assert_eq!(data["repository"], "octo-org/octo-repo");
    assert_eq!(data["forbidden_labels"], json!(["Admin-Only"]));
    assert_eq!(data["action_taken"], "reported");
    assert_eq!(world.cancels(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn enforced_the_run_is_cancelled_once() {
    let world = World::enforcing(Enforcement::Enforce).await;
    let job = world.drifted().await;
    let log = world.start(&job).await;
    world.start(&job).await;
    assert_eq!((log.len(), world.cancels()), (1, 1));
    assert_eq!(log[0]["event_data"]["action_taken"], "run cancelled");
    assert_eq!(world.github.jobs()[0].conclusion, Some("cancelled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_has_ended_or_a_missing_permission_is_said_and_not_tried_again() {
    let cases: [(Action, &str); 2] = [
        (Action::Respond(Canned { status: 409, ..Canned::default() }), "has ended"),
        (Action::PermissionMissing, "actions=write"),
    ];
    for (action, said) in cases {
        let world = World::enforcing(Enforcement::Enforce).await;
        let job = world.drifted().await;
        if said == "actions=write" {
            world.github.set_permissions(
                ORG,
                &[("organization_self_hosted_runners", "write"), ("administration", "write")],
            );
        } else {
            world.github.fail(Fault::new("POST", "/cancel", action).always());
        }
        let log = world.start(&job).await;
        let taken = log[0]["event_data"]["action_taken"].as_str().unwrap().to_owned();
        assert!(taken.starts_with("run not cancelled") && taken.contains(said), "{taken}");
        let asked = world.cancels();
        world.pass(3600);
        world.broker.work_off().await.unwrap();
        assert_eq!((world.log(EVENTS).await.len(), world.cancels()), (1, asked));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_is_not_asked_for_twice() {
    let world = World::enforcing(Enforcement::Enforce).await;
    let job = world.drifted().await;
    world.github.fail(Fault::new("POST", "/cancel", Action::ActThenDrop));
    let log = world.start(&job).await;
    assert!(log[0]["event_data"]["action_taken"].as_str().unwrap().starts_with("unknown"), "{log:?}");
    assert_eq!(world.cancels(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_github_did_not_hear_is_asked_again_later() {
    let world = World::enforcing(Enforcement::Enforce).await;
    let job = world.drifted().await;
    world.github.fail(Fault::new("POST", "/cancel", Action::SecondaryLimit { retry_after_seconds: 1 }));
    assert!(world.start(&job).await.is_empty());
    world.pass(10);
    world.broker.work_off().await.unwrap();
    assert_eq!(world.log(EVENTS).await[0]["event_data"]["action_taken"], "run cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_runner_that_is_gone_the_last_list_tells() {
    let world = World::enforcing(Enforcement::Audit).await;
    let job = world.drifted().await;
    world.sweep().await;
    world.sql("UPDATE runners SET status = 'deleted'").await;
    world.github.remove(ORG, "b1").unwrap();
    world.start(&job).await;
    // On a slow machine GitHub's answer may be late, and the delivery's next attempt decides.
    crate::support::eventually("the violation", async || {
        world.pass(5);
        world.broker.work_off().await.unwrap();
        !world.log(EVENTS).await.is_empty()
    })
    .await;
    let log = world.log(EVENTS).await;
    assert_eq!(log[0]["event_data"]["labels_known_from"], "last list");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_last_attempt_the_last_list_tells() {
    let world = World::enforcing(Enforcement::Audit).await;
    let job = world.drifted().await;
    world.sweep().await;
    world.github.fail(Fault::new("GET", "/actions/runners/", Action::Html { status: 503 }).always());
    assert!(world.start(&job).await.is_empty());
    for _ in 0..14 {
        world.pass(900);
        world.broker.work_off().await.unwrap();
    }
    let log = world.log(EVENTS).await;
    assert_eq!((log.len(), &log[0]["event_data"]["labels_known_from"]), (1, &json!("last list")));
    assert!(world.log("event_type = 'webhook_delivery_set_aside'").await.is_empty());
}
