//! Jobs as deliveries report them, whatever the order.

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use runner_broker::store::Store;
use runner_broker::store::jobs::{JobReport, merge};

use crate::support::migrated;

const STATES: [&str; 4] = ["waiting", "queued", "in_progress", "completed"];

/// Anything that a delivery may say of a job, within a few seconds.
fn any_report(rng: &mut StdRng, id: i64) -> JobReport {
    let begin = DateTime::from_timestamp(1_767_225_600, 0).expect("a time");
    let mut some_time = || rng.random_bool(0.5).then(|| begin + TimeDelta::seconds(rng.random_range(0..5)));
    let (queued_at, started_at, completed_at) = (some_time(), some_time(), some_time());
    let runner_id = [None, Some(0), Some(7)].choose(rng).copied().flatten();
    JobReport {
        id,
        run_id: 1,
        repository: "octo-org/octo-repo".into(),
        owner: "octo-org".into(),
        workflow: None,
        name: "build".into(),
        labels: vec!["self-hosted".into()],
        state: STATES.choose(rng).expect("a state"),
        state_at: begin + TimeDelta::seconds(rng.random_range(0..5)),
        conclusion: rng.random_bool(0.5).then(|| "success".into()),
        runner_id,
        runner_name: runner_id.map(|id| format!("runner-{id}")),
        queued_at,
        started_at,
        completed_at,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_never_moves_back_whatever_is_delivered() {
    let seed: u64 =
        std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let database = migrated().await;
    let store = Store::new(&database.url().into(), 1).expect("a URL");
    let mut conn = store.conn().await.expect("a connection");
    let rank = |state: &str| STATES.iter().position(|known| *known == state).expect("a state");
    for job in 0..30 {
        let mut furthest = 0;
        for report in 0..10 {
            let said = any_report(&mut rng, job);
            let stands = merge(&mut conn, std::slice::from_ref(&said), Utc::now()).await.expect("merged");
            furthest = furthest.max(rank(said.state));
            let place = format!("report {report} of job {job} of SEED={seed}");
            assert_eq!(rank(&stands[0].state), furthest, "{place}: {said:?}");
        }
    }
}
