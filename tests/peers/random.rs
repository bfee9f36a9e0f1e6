//! The model's random sequences against real processes: three replicas, one of them killed and started again now
//! and then, while all of them provision and sweep. What holds in the model must hold here.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::StreamExt;
use futures_util::stream;
use runner_broker::dev::github::{Action, Fault};
use runner_broker::model::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::database::connect;
use crate::model::checks::{self, Ratchet, Scene};
use crate::model::steps::{Act, Name, REPLICAS, Step, Then, Which, steps};
use crate::model::told::{HandedOut, TARGETS, Told};
use crate::process::{Replica, Site};

const SEQUENCES: u64 = 20;
/// They wait more than they work.
const AT_ONCE: usize = 5;
const KILLS: usize = 3;
const QUOTA: i64 = 6;
const LABEL: &str = "docker";
/// A minute's pause of a removal that failed twice, and the sweeps after it.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn of_three_processes_any_may_be_killed_at_any_moment_and_the_story_stays_the_same() {
    let seed = std::env::var("MODEL_SEED").map(|seed| seed.parse().expect("MODEL_SEED is a number"));
    let seeds = seed.map_or(0..SEQUENCES, |seed| seed..seed + 1);
    let handed_out = AtomicUsize::new(0);
    let play = async |seed| (seed, sequence(seed, &handed_out).await);
    let played = stream::iter(seeds).map(play).buffer_unordered(AT_ONCE);
    let failed: Vec<_> =
        played.filter(|(_, breaches)| std::future::ready(!breaches.is_empty())).collect().await;
    let handed_out = handed_out.into_inner();
    eprintln!("{handed_out} runners were handed out");
    if let Some((seed, breaches)) = failed.first() {
        panic!("MODEL_SEED={seed}\n  {}\n{:#?}", breaches.join("\n  "), killing(*seed));
    }
    assert!(handed_out > 0, "nothing happened");
}

/// The seed's steps with kills among them.
fn killing(seed: u64) -> Vec<Step> {
    let mut steps = steps(seed);
    let apart = steps.len() / KILLS;
    for kill in (0..KILLS).rev() {
        let replica = (seed as usize + kill) % REPLICAS;
        let moment = apart * kill + (seed as usize * 7 + kill * 3) % apart.max(1);
        steps.insert(moment, Step { act: Act::Kill { replica }, then: Then::Go });
    }
    steps
}

async fn sequence(seed: u64, handed_out: &AtomicUsize) -> Vec<String> {
    let mut play = Play::new().await;
    for (number, step) in killing(seed).iter().enumerate() {
        play.take(step).await;
        play.look().await;
        let breaches = std::mem::take(&mut play.told.lock().expect("no panic").breaches);
        if !breaches.is_empty() {
            return breaches.into_iter().map(|breach| format!("after step {number}: {breach}")).collect();
        }
    }
    while play.under_way.join_next().await.is_some() {}
    play.look().await;
    let breaches = come_to_rest(&play.site, &play.db, &play.told).await;
    handed_out.fetch_add(play.told.lock().expect("no panic").handed_out.len(), Ordering::Relaxed);
    breaches
}

struct Play {
    site: Site,
    db: Arc<Client>,
    _connection: crate::database::Connection,
    replicas: Vec<Process>,
    told: Arc<Mutex<Told>>,
    under_way: JoinSet<()>,
    ratchet: Ratchet,
}

struct Process {
    replica: Replica,
    /// Its callers may lose their answers.
    killed: Arc<AtomicBool>,
}

impl Process {
    async fn start(site: &Site) -> Process {
        Process { replica: site.serve().await, killed: Arc::default() }
    }
}

impl Play {
    async fn new() -> Play {
        let site = Site::new().await;
        let policy = std::fs::read_to_string(site.file("policy.toml")).expect("a policy");
        let limited = policy.replace("max_runners = 100000", &format!("max_runners = {QUOTA}"));
        assert_ne!(policy, limited);
        std::fs::write(site.file("policy.toml"), limited).expect("a file");
        let (db, connection) = connect(site.database_url()).await;
        db.batch_execute(include_str!("../it/model/truth.sql")).await.expect("the model's tables");
        let mut replicas = Vec::new();
        for _ in 0..REPLICAS {
            replicas.push(Process::start(&site).await);
        }
        Play {
            site,
            db: Arc::new(db),
            _connection: connection,
            replicas,
            told: Arc::default(),
            under_way: JoinSet::new(),
            ratchet: Ratchet::new([QUOTA, 0]),
        }
    }

    async fn look(&mut self) {
        let scene = Scene { db: &self.db, github: &self.site.github, now: chrono::Utc::now() };
        checks::after_a_step(&scene, &self.told, &mut self.ratchet).await;
    }

    async fn take(&mut self, step: &Step) {
        self.act(&step.act).await;
        match step.then {
            Then::Go => {}
            Then::Micros(micros) => sleep(Duration::from_micros(2 * micros)).await,
            Then::Wait => while self.under_way.join_next().await.is_some() {},
        }
    }

    /// What needs the clock, or is the processes' own doing, is left out.
    async fn act(&mut self, act: &Act) {
        let github = &self.site.github;
        match *act {
            Act::Provision { replica, method, name, key, on_repo, .. } => {
                self.provision(replica, method, name, key, TARGETS[usize::from(on_repo)]);
            }
            Act::Remove { replica, which, .. } => {
                let Some(which) = self.which(which) else { return };
                let url = format!("{}/api/v1/runners/{which}", self.replicas[replica].replica.url);
                let request = self.site.client.delete(url).bearer_auth(self.site.token("blue"));
                self.send(replica, request, None);
            }
            Act::Refresh { replica, which } => {
                let Some(which) = self.which(which) else { return };
                let url = format!("{}/api/v1/runners/{which}/refresh", self.replicas[replica].replica.url);
                let request = self.site.client.post(url).bearer_auth(self.site.token("blue"));
                self.send(replica, request, None);
            }
            Act::Kill { replica } => {
                self.replicas[replica].killed.store(true, Ordering::Relaxed);
                let next = Process::start(&self.site);
                // Killed first: the next one starts while the others work on.
                let process = &mut self.replicas[replica];
                process.replica.signal(rustix::process::Signal::KILL);
                *process = next.await;
            }
            Act::Connect(n) => {
                let mut told = self.told.lock().expect("no panic");
                let count = told.handed_out.len().max(1);
                if let Some(out) = told.handed_out.get_mut(usize::from(n) % count) {
                    out.connect(github, chrono::Utc::now());
                }
            }
            Act::StartJob(n) => self.on_github(n, |target, name| {
                github.start_job(target, name).ok();
                false
            }),
            Act::FinishJob(n) => self.on_github(n, |target, name| github.finish_job(target, name).is_ok()),
            Act::Disconnect(n) => self.on_github(n, |target, name| {
                github.disconnect(target, name).ok();
                false
            }),
            Act::Vanish(n) => self.on_github(n, |target, name| github.remove(target, name).is_ok()),
            Act::Fault(ref fault) => github.fail(short(fault.clone())),
            Act::ClearFaults => github.clear_faults(),
            _ => {}
        }
    }

    fn provision(&mut self, replica: usize, method: Method, name: Name, key: Option<u8>, target: &str) {
        let path = match method {
            Method::Jit => "/api/v1/runners/jit",
            Method::RegistrationToken => "/api/v1/runners/provision",
        };
        let (field, name) = match name {
            Name::Exact(n) => ("runner_name", format!("r{}", n % 3)),
            Name::Prefix => ("runner_name_prefix", "p".to_owned()),
        };
        let place = if target.contains('/') { "repository" } else { "organization" };
        let body = json!({ field: name, "labels": [LABEL], place: target });
        let mut request = self.site.post(&self.replicas[replica].replica, path, &body);
        if let Some(key) = key {
            request = request.header("idempotency-key", format!("key-{key}"));
        }
        self.send(replica, request, Some(method));
    }

    /// Sends beside the next steps; of a provision what was handed out is remembered.
    fn send(&mut self, replica: usize, request: reqwest::RequestBuilder, provision: Option<Method>) {
        let killed = self.replicas[replica].killed.clone();
        let (told, db) = (self.told.clone(), self.db.clone());
        self.under_way.spawn(async move {
            let outcome = async {
                let answer = request.send().await?;
                Ok::<_, reqwest::Error>((answer.status().as_u16(), answer.json::<Value>().await?))
            };
            let breach = match (outcome.await, provision) {
                (Ok((201, body)), Some(method)) => handed_out(&db, &told, method, &body).await.err(),
                (Ok((status @ (400 | 401 | 422 | 500), body)), _)
                    if body["error_code"] != "IDEMPOTENCY_KEY_REUSED" =>
                {
                    Some(format!("{status}: {body}"))
                }
                (Err(err), _) if !killed.load(Ordering::Relaxed) => {
                    Some(format!("a request to a living replica failed: {err:?}"))
                }
                _ => None,
            };
            told.lock().expect("no panic").breaches.extend(breach);
        });
    }

    fn which(&self, which: Which) -> Option<String> {
        let told = self.told.lock().expect("no panic");
        match which {
            Which::Named(n) => Some(format!("r{}", n % 3)),
            Which::HandedOut(n) => {
                let picked = told.handed_out.get(usize::from(n) % told.handed_out.len().max(1))?;
                Some(picked.runner_id.clone())
            }
        }
    }

    fn on_github(&self, n: u8, act: impl Fn(&str, &str) -> bool) {
        let of =
            |target: &'static str| self.site.github.runners(target).into_iter().map(move |r| (target, r));
        let all: Vec<_> = TARGETS.into_iter().flat_map(of).collect();
        if let Some((target, runner)) = all.get(usize::from(n) % all.len().max(1))
            && act(target, &runner.name)
        {
            self.told.lock().expect("no panic").gone.insert(runner.id);
        }
    }
}

/// Without faults the sweeps come to an end by themselves, and then everything agrees: what does not.
pub async fn come_to_rest(site: &Site, db: &Client, told: &Mutex<Told>) -> Vec<String> {
    site.github.clear_faults();
    let begun = Instant::now();
    loop {
        let scene = Scene { db, github: &site.github, now: chrono::Utc::now() };
        let mut breaches = checks::unfinished(&scene).await;
        breaches.extend(checks::at_the_end(&scene, told).await);
        breaches.append(&mut told.lock().expect("no panic").breaches);
        if breaches.is_empty() || begun.elapsed() > PATIENCE {
            return breaches;
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// Nothing that makes anybody wait for minutes: here the clock is the world's.
fn short(fault: Fault) -> Fault {
    let action = match fault.action {
        Action::RateLimited { .. } | Action::SecondaryLimit { .. } => Action::Drop,
        Action::Respond(answer) if answer.status < 500 && fault.method.as_deref() != Some("POST") => {
            drop(answer);
            Action::Drop
        }
        action => action,
    };
    let times = fault.times.min(2);
    Fault { action, times, ..fault }
}

/// What the caller got, which the log must know by now.
pub async fn handed_out(db: &Client, told: &Mutex<Told>, method: Method, body: &Value) -> Result<(), String> {
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    let credential = match method {
        Method::Jit => text("encoded_jit_config"),
        Method::RegistrationToken => text("registration_token"),
    };
    let sha256 = hex::encode(digest(&SHA256, credential.as_bytes()));
    let query = "SELECT (event_data->>'generation')::integer, team, target FROM audit_log
        WHERE event_type = 'provisioned' AND runner_id::text = $1 AND event_data->>'credential_sha256' = $2";
    let known = db.query(query, &[&text("runner_id"), &sha256]).await.expect("the log");
    let [event] = known.as_slice() else {
        return Err(format!("{body} was handed out with {} 'provisioned' in the log", known.len()));
    };
    told.lock().expect("no panic").handed_out.push(HandedOut {
        runner_id: text("runner_id"),
        name: text("runner_name"),
        team: event.get(1),
        target: event.get(2),
        method,
        generation: event.get(0),
        labels: vec![LABEL.to_owned()],
        credential: credential.into(),
        github_id: body["github_runner_id"].as_i64(),
        started_at: None,
    });
    Ok(())
}
