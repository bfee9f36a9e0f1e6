//! SIGKILL at random moments: whatever was under way, GitHub and the table agree after the repair, and what
//! was handed out is still there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::process::{Replica, Site, until};
use crate::support::ORG;

const IN_FLIGHT: usize = 64;
const SITES: u64 = 4;
const KILLS: usize = 5;

/// What callers hold in their hands: the body of each 201, by the runner's name.
pub type HandedOut = HashMap<String, Value>;

#[tokio::test(flavor = "multi_thread")]
async fn killed_twenty_times_with_64_provisions_in_flight_it_loses_no_runner_and_leaves_no_orphan() {
    let seed: u64 = match std::env::var("CRASH_SEED") {
        Ok(seed) => seed.parse().expect("CRASH_SEED is a number"),
        Err(_) => rand::random(),
    };
    eprintln!("CRASH_SEED={seed}");
    let sites = (0..SITES).map(|number| kill_again_and_again(StdRng::seed_from_u64(seed ^ number)));
    let handed_out: usize = join_all(sites).await.into_iter().sum();
    eprintln!("{handed_out} of {} were handed out", SITES as usize * KILLS * IN_FLIGHT);
}

/// Kills one site's broker at random moments; how many runners its callers got.
async fn kill_again_and_again(mut random: StdRng) -> usize {
    let site = Site::new().await;
    let mut handed_out = HandedOut::new();
    let mut replica = site.serve().await;
    for round in 0..KILLS {
        site.github.set_latency(Duration::from_millis(random.random_range(0..60)));
        site.github.clear_calls();
        let answered = Arc::new(AtomicUsize::new(0));
        let provisions = provisions(&site, &replica, round, &answered);
        // By what has happened rather than by the clock, so that every part of a provision has its share.
        let moment = random.random_range(0..2 * IN_FLIGHT - 8);
        let progress = || site.asked("POST", "runners/") + answered.load(Ordering::Relaxed);
        // A slow machine's callers may be refused before GitHub is asked: then the end is all that is left.
        let all_answered = || answered.load(Ordering::Relaxed) == IN_FLIGHT;
        until("the moment has come", async || progress() >= moment || all_answered()).await;
        sleep(Duration::from_micros(random.random_range(0..5_000))).await;
        replica.kill().await;
        for (name, answer) in provisions.join_all().await {
            if let Some(body) = answer {
                handed_out.insert(name, body);
            }
        }
        replica = site.serve().await;
        site.settled().await;
        agree(&site, &replica, &handed_out).await;
    }
    handed_out.len()
}

/// 64 callers at once; `None`: he got no whole 201.
fn provisions(
    site: &Site,
    replica: &Replica,
    round: usize,
    answered: &Arc<AtomicUsize>,
) -> JoinSet<(String, Option<Value>)> {
    let mut callers = JoinSet::new();
    for number in 0..IN_FLIGHT {
        let name = format!("r{round}-{number}");
        let path = if number % 8 == 0 { "/api/v1/runners" } else { "/api/v1/runners/jit" };
        let request = site.post(replica, path, &json!({ "runner_name": name, "labels": ["docker"] }));
        let answered = answered.clone();
        callers.spawn(async move {
            let Ok(answer) = request.send().await else { return (name, None) };
            let status = answer.status();
            let body = answer.json::<Value>().await.ok();
            answered.fetch_add(1, Ordering::Relaxed);
            assert!(status == 201 || status.is_server_error(), "{status}: {body:?}");
            (name, body.filter(|_| status == 201))
        });
    }
    callers
}

/// GitHub, the table, the log and the callers tell the same story.
pub async fn agree(site: &Site, replica: &Replica, handed_out: &HandedOut) {
    let on_github: BTreeMap<String, i64> =
        site.github.runners(ORG).into_iter().map(|runner| (runner.name, runner.id)).collect();
    let rows = site
        .rows(
            "SELECT name, status, method, coalesce(github_runner_id::text, ''),
                    coalesce(credential_sha256, ''), id,
                    (SELECT coalesce(string_agg(event_type, ' ' ORDER BY e.id), '')
                     FROM audit_log e WHERE e.runner_id = runners.id)
             FROM runners",
        )
        .await;
    let mut live: BTreeMap<String, (String, String)> = BTreeMap::new();
    for row in &rows {
        let [name, status, method, github_id, sha256, id, events] = row.as_slice() else { unreachable!() };
        let count = |kind: &str| events.split(' ').filter(|event| *event == kind).count();
        assert_eq!(count("provision_requested"), 1, "{name}: {events}");
        match status.as_str() {
            "failed" => {
                assert_eq!((count("provisioned"), count("provision_failed")), (0, 1), "{name}: {events}");
            }
            "pending" => {
                assert_eq!(events, "provision_requested provisioned", "{name}");
                if method == "jit" {
                    assert_eq!(on_github.get(name).map(i64::to_string).as_ref(), Some(github_id), "{name}");
                }
                let twice = live.insert(name.clone(), (id.clone(), sha256.clone()));
                assert!(twice.is_none(), "two live rows are named {name}");
            }
            other => panic!("{name} is {other}: {events}"),
        }
    }
    for name in on_github.keys() {
        assert!(live.contains_key(name), "GitHub has {name}, and no live row knows it: {rows:?}");
    }
    for (name, body) in handed_out {
        let Some((id, sha256)) = live.get(name) else { panic!("{name} was handed out and taken away") };
        let credential = body["encoded_jit_config"].as_str().or(body["registration_token"].as_str());
        let credential = credential.expect("a credential");
        assert_eq!(*id, body["runner_id"].as_str().unwrap_or_default());
        assert_eq!(*sha256, hex::encode(digest(&SHA256, credential.as_bytes())), "{name}");
    }
    quota_is_right(site, replica, live.len()).await;
}

/// What the quota and the rate limit count is what there is.
async fn quota_is_right(site: &Site, replica: &Replica, live: usize) {
    // The policy of a replica that has just started may be some moments away.
    until("the team is known", async || {
        let me = site.get(replica, "/api/v1/auth/me", "blue").await;
        me.body["teams"][0]["live_runners"] == json!(live)
    })
    .await;
    let uncounted = "SELECT r.name FROM runners r FULL JOIN team_requests t ON t.at = r.created_at
        WHERE (r.id IS NULL OR t.at IS NULL) AND coalesce(t.at, r.created_at) > now() - interval '40 s'";
    assert_eq!(site.rows(uncounted).await, Vec::<Vec<String>>::new());
}
