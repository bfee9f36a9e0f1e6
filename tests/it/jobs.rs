//! Jobs for self-hosted runners: who sees which, and those that nobody takes.

use serde_json::{Value, json};

use crate::support::{REPO, World, team};
use crate::webhook::job;

/// The ids of a page.
fn ids(body: &Value) -> Vec<i64> {
    body["jobs"].as_array().expect("jobs").iter().map(|job| job["id"].as_i64().expect("an id")).collect()
}

/// blue: the organisation and one repository of it; green: repositories that begin with `ml_`; ann is an admin,
/// and aud an auditor.
async fn teams(world: &World) {
    let roles = "[[admin]]\nissuer = \"ISSUER\"\nclaims = { team = \"ann\" }\n\
                 [[auditor]]\nissuer = \"ISSUER\"\nclaims = { team = \"aud\" }\n";
    let blue = team("blue", "targets = [\"octo-org\", \"octo-org/octo-repo\"]\n");
    let green = team("green", "targets = [\"octo-org/ml_*\"]\n");
    world.policy(&[blue, green, roles.to_owned()].concat()).await;
}

fn of(repository: &str, id: i64) -> Value {
    let mut body = job(id, &["self-hosted", "gpu"]);
    body["repository"]["full_name"] = json!(repository);
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_shows_what_one_s_runners_took_and_what_is_in_one_s_repositories() {
    let world = World::new().await;
    teams(&world).await;
    for (repository, id) in [
        ("Octo-Org/Octo-Repo", 10),
        ("octo-org/ml_train", 20),
        ("octo-org/mlXtrain", 30),
        ("other/ml_train", 40),
    ] {
        world.happen("workflow_job", &of(repository, id)).await;
    }
    // On a runner of blue's, in a repository that is nobody's.
    world.github.add_repo("octo-org/elsewhere");
    let made = world.jit("b1").await;
    world.github.connect_jit(made.str("encoded_jit_config")).unwrap();
    world.pass(3);
    let taken = world.github.queue_job("octo-org/elsewhere", "build", &["self-hosted"]);
    let taken = world.github.take_job(taken.id, "octo-org", "b1").unwrap();
    world.happen("workflow_job", &world.github.job_payload(&taken)).await;

    let seen = async |who: &str| ids(&world.get("/api/v1/jobs", who).await.body);
    let mut all = vec![40, 30, 20, 10, taken.id];
    all.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(seen("ann").await, all);
    assert_eq!(seen("aud").await, all);
    let mut blue = vec![10, taken.id];
    blue.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(seen("blue").await, blue);
    assert_eq!(seen("green").await, [20], "an underscore stands for itself");
    assert_eq!(seen("stranger").await, Vec::<i64>::new());
    let refused = world.call(reqwest::Method::GET, "/api/v1/jobs", "", &[], None).await;
    assert_eq!(refused.refusal(), (401, "MISSING_TOKEN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_shown_as_the_contract_says() {
    let world = World::new().await;
    world.happen("workflow_job", &job(7, &["Self-Hosted", "GPU"])).await;
    let page = world.get("/api/v1/jobs", "blue").await;
    let expected = json!({
        "id": 7, "run_id": 8, "repository": REPO, "workflow": "CI", "name": "build",
        "labels": ["gpu", "self-hosted"], "state": "queued", "conclusion": null, "runner_name": null,
        "queued_at": "2026-11-21T10:00:00Z", "started_at": null, "completed_at": null,
    });
    assert_eq!(page.body, json!({ "jobs": [expected], "next_cursor": null }));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_filters_narrow_the_list() {
    let world = World::new().await;
    for id in 1..=5 {
        let mut body = job(id, &["self-hosted", if id % 2 == 0 { "Even" } else { "odd" }]);
        if id == 5 {
            body["action"] = json!("waiting");
        }
        world.happen("workflow_job", &body).await;
    }
    let seen = async |query: &str| ids(&world.get(&format!("/api/v1/jobs?{query}"), "blue").await.body);
    assert_eq!(seen("label=EVEN").await, [4, 2]);
    assert_eq!(seen("state=waiting").await, [5]);
    assert_eq!(seen("repository=Octo-Org/Octo-Repo&label=odd&state=queued").await, [3, 1]);
    assert_eq!(seen("repository=octo-org/other").await, Vec::<i64>::new());
    let first = world.get("/api/v1/jobs?limit=2", "blue").await;
    assert_eq!((ids(&first.body), first.str("next_cursor")), (vec![5, 4], "4"));
    let second = world.get("/api/v1/jobs?limit=2&cursor=4", "blue").await;
    assert_eq!((ids(&second.body), second.str("next_cursor")), (vec![3, 2], "2"));
    let last = world.get("/api/v1/jobs?limit=2&cursor=2", "blue").await;
    assert_eq!((ids(&last.body), &last.body["next_cursor"]), (vec![1], &Value::Null));
    for bad in ["state=running", "limit=0", "limit=201", "cursor=x", "nonsense=1"] {
        let answer = world.get(&format!("/api/v1/jobs?{bad}"), "blue").await;
        assert_eq!(answer.refusal(), (422, "INVALID_REQUEST"), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_job_that_no_live_runner_fits_for_five_minutes_is_one_event() {
    let world = World::new().await;
    let ask = json!({ "runner_name": "b1", "labels": ["linux-gpu"] });
    assert_eq!(world.post("/api/v1/runners/jit", "blue", ask).await.status, 201);
    let queue = |labels: &[&str]| world.github.queue_job(REPO, "build", labels);
    let fitting = queue(&["self-hosted", "Linux-GPU", "X64"]);
    let unfit = queue(&["self-hosted", "linux-gpu", "arm64"]);
    let waiting =
        runner_broker::dev::github::JobState { status: "waiting", ..queue(&["self-hosted", "none"]) };
    world.github.add_repo("other-org/repo");
    let elsewhere = world.github.queue_job("other-org/repo", "build", &["self-hosted", "linux-gpu"]);
    for job in [&fitting, &unfit, &waiting, &elsewhere] {
        world.happen("workflow_job", &world.github.job_payload(job)).await;
    }
    let lease = world.lease().await;
    world.pass(290);
    assert_eq!(world.broker.report_unmatched(&lease).await.unwrap(), 0, "not yet");
    world.pass(20);
    let lease = world.lease().await;
    assert_eq!(world.broker.report_unmatched(&lease).await.unwrap(), 2);
    assert_eq!(world.broker.report_unmatched(&lease).await.unwrap(), 0, "once");
    let log = world.log("event_type = 'job.no_match'").await;
    let jobs: Vec<_> = log.iter().map(|event| event["event_data"]["job_id"].as_i64().unwrap()).collect();
    assert_eq!(jobs, [unfit.id, elsewhere.id]);
    assert_eq!(log[0]["target"], REPO);
    // Its runner is gone: now nobody fits the other one either.
    world.delete("/api/v1/runners/b1", "blue").await;
    assert_eq!(world.broker.report_unmatched(&lease).await.unwrap(), 1);
    // Whoever leads no more reports nothing.
    world.sql("UPDATE jobs SET no_match_at = NULL").await;
    crate::sweep::lease::expire(&world).await;
    assert!(world.broker.report_unmatched(&lease).await.is_err());
    assert_eq!(world.log("event_type = 'job.no_match'").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_five_minutes_count_from_when_the_job_is_known_here_and_not_while_deliveries_wait() {
    let world = World::new().await;
    let lease = world.lease().await;
    let report = async || world.broker.report_unmatched(&lease).await.unwrap();
    world.deliver("workflow_job", "late", &job(1, &["self-hosted", "none"])).await;
    world.pass(3600);
    world.broker.work_off().await.unwrap();
    assert_eq!(report().await, 0);
    world.pass(290);
    world.happen("workflow_job", &job(1, &["self-hosted", "none"])).await;
    assert_eq!(report().await, 0);
    world.pass(20);
    world.deliver("workflow_job", "next", &job(2, &["self-hosted", "other"])).await;
    assert_eq!(report().await, 0, "it may be this job's start");
    world.broker.work_off().await.unwrap();
    assert_eq!(report().await, 1, "a repetition does not count anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_want_the_same_are_one_event_an_hour() {
    let world = World::new().await;
    let lease = world.lease().await;
    let report = async || world.broker.report_unmatched(&lease).await.unwrap();
    for id in 1..=20 {
        world.happen("workflow_job", &job(id, &["self-hosted", if id % 2 == 0 { "a" } else { "b" }])).await;
    }
    world.pass(310);
    assert_eq!(report().await, 2);
    world.happen("workflow_job", &job(30, &["self-hosted", "a"])).await;
    world.happen("workflow_job", &job(31, &["self-hosted", "c"])).await;
    world.pass(310);
    assert_eq!(report().await, 1, "only what is new");
    world.pass(3600);
    assert_eq!(report().await, 1);
    let log = world.log("event_type = 'job.no_match'").await;
    let said: Vec<_> =
        log.iter().map(|event| (&event["event_data"]["job_id"], &event["event_data"]["jobs"])).collect();
    let expected = [(1, 10), (2, 10), (31, 1), (30, 1)].map(|(id, jobs)| (json!(id), json!(jobs)));
    assert_eq!(said, expected.iter().map(|(id, jobs)| (id, jobs)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_on_another_team_s_runner_is_not_shown_for_its_repository() {
    let world = World::new().await;
    teams(&world).await;
    world.github.add_repo("octo-org/ml_train");
    let made = world.jit("b1").await;
    world.github.connect_jit(made.str("encoded_jit_config")).unwrap();
    world.pass(3);
    let queued = world.github.queue_job("octo-org/ml_train", "build", &["self-hosted"]);
    world.happen("workflow_job", &world.github.job_payload(&queued)).await;
    let seen = async |who: &str| ids(&world.get("/api/v1/jobs", who).await.body);
    assert_eq!(seen("green").await, [queued.id], "nobody's yet");
    let taken = world.github.take_job(queued.id, "octo-org", "b1").unwrap();
    world.happen("workflow_job", &world.github.job_payload(&taken)).await;
    assert_eq!((seen("green").await, seen("blue").await), (vec![], vec![queued.id]));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_forgotten_once_they_are_long_over() {
    let world = World::new().await;
    world.happen("workflow_job", &job(1, &["self-hosted"])).await;
    let mut done = job(2, &["self-hosted"]);
    done["action"] = json!("completed");
    world.happen("workflow_job", &done).await;
    let mut left = Vec::new();
    for days in [6, 2, 81, 2] {
        world.pass(days * 86_400);
        world.broker.tidy_webhooks(&world.lease().await).await.unwrap();
        left.push(world.count("jobs").await);
    }
    assert_eq!(left, ["2", "1", "1", "0"]);
}
