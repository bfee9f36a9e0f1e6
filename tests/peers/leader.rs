//! The leader killed or frozen again and again under load: another one goes on soon, and nothing is done twice,
//! lost, or refused to anybody who did not ask the one that was hit.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runner_broker::model::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::database::connect;
use crate::model::told::Told;
use crate::process::{Replica, Site, until};
use crate::random::{come_to_rest, handed_out};
use crate::support::ORG;

const ROUNDS: usize = 20;
const REPLICAS: usize = 3;
const CALLERS: usize = 3;
/// `LEASE_SECONDS`, and 5 s.
const TAKEOVER: Duration = Duration::from_secs(1 + 5);

/// One process, as a load balancer knows it.
struct Process {
    replica: Replica,
    /// Frozen or killed while somebody waited for an answer of it.
    hit: Arc<AtomicBool>,
}

struct Cluster {
    site: Site,
    db: Client,
    /// `None`: out of service.
    up: Mutex<HashMap<usize, (String, Arc<AtomicBool>)>>,
    told: Mutex<Told>,
    asked: AtomicUsize,
    excused: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_or_frozen_twenty_times_under_load_is_followed_soon_and_nothing_happens_twice()
 {
    let site = Site::new().await;
    let (db, _connection) = connect(site.database_url()).await;
    db.batch_execute(include_str!("../it/model/truth.sql")).await.expect("the model's tables");
    let cluster = Arc::new(Cluster {
        site,
        db,
        up: Mutex::default(),
        told: Mutex::default(),
        asked: AtomicUsize::new(0),
        excused: AtomicUsize::new(0),
    });
    let mut processes = Vec::new();
    for number in 0..REPLICAS {
        processes.push(cluster.start(number).await);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (cluster, stop) = (cluster.clone(), stop.clone());
        callers.spawn(async move {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                cluster.one_life(caller, number).await;
                number += 1;
            }
        });
    }
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        let leader = cluster.leader(&processes, None).await;
        cluster.out_of_service(leader, &processes);
        let is_killed = round % 2 == 0;
        processes[leader].replica.signal(if is_killed { Signal::KILL } else { Signal::STOP });
        let begun = Instant::now();
        cluster.leader(&processes, Some(leader)).await;
        slowest = slowest.max(begun.elapsed());
        match is_killed {
            true => processes[leader] = cluster.start(leader).await,
            false => {
                // A while longer, so that the next one is at work when the frozen one comes back.
                sleep(Duration::from_millis(300)).await;
                processes[leader].replica.signal(Signal::CONT);
                cluster.in_service(leader, &mut processes[leader]);
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    callers.join_all().await;
    let breaches = come_to_rest(&cluster.site, &cluster.db, &cluster.told).await;
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
    let (asked, excused) = (cluster.asked.load(Ordering::Relaxed), cluster.excused.load(Ordering::Relaxed));
    eprintln!("{asked} lives, {excused} on a replica that was hit; the slowest takeover took {slowest:?}");
    assert!(slowest < TAKEOVER, "{slowest:?}");
    cluster.nothing_was_asked_twice(excused);
}

impl Cluster {
    async fn start(&self, number: usize) -> Process {
        let mut process = Process { replica: self.site.serve().await, hit: Arc::default() };
        self.in_service(number, &mut process);
        process
    }

    fn up(&self) -> std::sync::MutexGuard<'_, HashMap<usize, (String, Arc<AtomicBool>)>> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_service(&self, number: usize, process: &mut Process) {
        process.hit = Arc::default();
        self.up().insert(number, (process.replica.url.clone(), process.hit.clone()));
    }

    /// Who waits for its answer may get none, or a late one.
    fn out_of_service(&self, number: usize, processes: &[Process]) {
        self.up().remove(&number);
        processes[number].hit.store(true, Ordering::Relaxed);
    }

    /// Who leads, once somebody else than `but` does.
    async fn leader(&self, processes: &[Process], but: Option<usize>) -> usize {
        let mut leader = None;
        until("somebody leads", async || {
            for (number, process) in processes.iter().enumerate() {
                if Some(number) == but {
                    continue;
                }
                if process.replica.metric(&self.site.client, "broker_leader").await == Some(1.0) {
                    leader = Some(number);
                }
            }
            leader.is_some()
        })
        .await;
        leader.expect("as was waited for")
    }

    /// A runner is provisioned, and one in two is removed by another replica.
    async fn one_life(&self, caller: usize, number: usize) {
        let name = format!("c{caller}-{number}");
        let body = json!({ "runner_name": name, "labels": ["docker"] });
        let token = self.site.token("blue");
        let call = |url: String| self.site.client.post(format!("{url}/api/v1/runners/jit")).json(&body);
        let Some((201, body)) = self.ask(number, |url| call(url).bearer_auth(&token)).await else { return };
        if let Err(breach) = handed_out(&self.db, &self.told, Method::Jit, &body).await {
            self.breach(breach);
        }
        if number.is_multiple_of(2) {
            let path = format!("/api/v1/runners/{name}");
            let call = |url: String| self.site.client.delete(format!("{url}{path}")).bearer_auth(&token);
            self.ask(number + 1, call).await;
        }
    }

    /// One call to a replica in service; whoever asks one that is not hit gets what he asks for.
    async fn ask(
        &self,
        number: usize,
        call: impl Fn(String) -> reqwest::RequestBuilder,
    ) -> Option<(u16, Value)> {
        let (url, hit) = {
            let up = self.up();
            let mut all: Vec<_> = up.iter().collect();
            all.sort_by_key(|(number, _)| **number);
            let (_, picked) = *all.get(number % all.len().max(1))?;
            picked.clone()
        };
        self.asked.fetch_add(1, Ordering::Relaxed);
        let outcome = async {
            let answer = call(url).send().await?;
            Ok::<_, reqwest::Error>((answer.status().as_u16(), answer.json::<Value>().await?))
        };
        let outcome = outcome.await;
        let is_fine = matches!(outcome, Ok((200 | 201, _)));
        if hit.load(Ordering::Relaxed) {
            self.excused.fetch_add(1, Ordering::Relaxed);
        } else if !is_fine {
            self.breach(format!("a replica that was not hit answered {outcome:?}"));
        }
        outcome.ok()
    }

    fn breach(&self, what: String) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).breaches.push(what);
    }

    /// By what GitHub got: a runner for each request, and each removed once.
    fn nothing_was_asked_twice(&self, excused: usize) {
        let calls = self.site.github.calls();
        let count = |method: &str, part: &str, status: u16| {
            let is = |call: &&runner_broker::dev::github::Call| {
                call.method == method && call.path.contains(part) && call.status == Some(status)
            };
            calls.iter().filter(is).count()
        };
        let (made, removed) = (count("POST", "jitconfig", 201), count("DELETE", "runners/", 204));
        let there = self.site.github.runners(ORG).len();
        // An answer that the kill or the frost kept from being counted.
        let unanswered = calls.iter().filter(|call| call.status.is_none()).count();
        assert!(
            made.abs_diff(removed + there) <= unanswered,
            "{made} made, {removed} removed, {there} there"
        );
        let asked = calls.iter().filter(|call| call.path.contains("jitconfig")).count();
        let names = self.told.lock().unwrap_or_else(PoisonError::into_inner).handed_out.len();
        assert!(asked <= names + excused * 2, "{asked} POSTs for {names} runners");
    }
}
