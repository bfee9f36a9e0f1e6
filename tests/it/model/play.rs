//! Takes the steps of a sequence, several at a time, and looks after each.

mod hooks;
mod seals;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use runner_broker::broker::Error;
use runner_broker::broker::sweep::report::Report;
use runner_broker::dev::github::RunnerState;
use runner_broker::model::{Arch, Method, NameAsk, Os, sha256};
use runner_broker::policy::Ask;
use runner_broker::store::idempotency::Key;
use secrecy::ExposeSecret;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use super::checks::{self, Ratchet};
use super::site::{Database, Replica, Site, caller};
use super::steps::{Act, LATEST_MILLIS, Name, Step, Then, Which};
use super::told::{HandedOut, TARGETS, TEAMS, Told};

/// A lost request's name is watched for an hour, so somebody has to look more often than that.
const LONGEST_UNSWEPT: TimeDelta = TimeDelta::minutes(25);
/// How many runners GitHub lists on a page.
const PAGE: usize = 100;
/// What the names of runners begin with that somebody else set up for the sake of their number.
const FOREIGN: &str = "foreign-";
/// Far more than any use case may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What went wrong (nothing, if it is empty), and how many runners were handed out.
pub async fn play(database: &Database, steps: &[Step]) -> (Vec<String>, usize) {
    let mut play = Play::new(database).await;
    let breaches = play.all(steps).await;
    let handed_out = play.told().handed_out.len();
    (breaches, handed_out)
}

struct Play {
    site: Site,
    told: Arc<Mutex<Told>>,
    under_way: JoinSet<()>,
    ratchet: Ratchet,
    /// When everything was last looked at whole.
    swept: DateTime<Utc>,
    /// GitHub may still act on what was asked before.
    late: bool,
    /// Keys are forgotten after a day.
    day: u32,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Play {
    async fn new(database: &Database) -> Play {
        let site = Site::new(database, [4, 3]).await;
        let swept = site.clock.now();
        let ratchet = Ratchet::new(site.quotas());
        Play { site, told: Arc::default(), under_way: JoinSet::new(), ratchet, swept, late: false, day: 0 }
    }

    async fn all(&mut self, steps: &[Step]) -> Vec<String> {
        for (number, step) in steps.iter().enumerate() {
            self.take(step).await;
            self.look().await;
            let breaches = std::mem::take(&mut self.told().breaches);
            if !breaches.is_empty() {
                let at = |breach| format!("after step {number}: {breach}");
                return breaches.into_iter().map(at).collect();
            }
        }
        self.settle().await;
        self.look().await;
        let mut breaches = std::mem::take(&mut self.told().breaches);
        if breaches.is_empty() {
            let told = self.told.clone();
            breaches = checks::at_the_end(&self.site.scene(), &told).await;
            breaches.extend(self.jobs_at_the_end().await);
            breaches.extend(self.log_at_the_end().await);
        }
        breaches
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        lock(&self.told)
    }

    fn breach(&self, what: impl Into<String>) {
        self.told().breaches.push(what.into());
    }

    async fn look(&mut self) {
        let told = self.told.clone();
        checks::after_a_step(&self.site.scene(), &told, &mut self.ratchet).await;
    }

    async fn take(&mut self, step: &Step) {
        self.act(&step.act).await;
        match step.then {
            Then::Go => tokio::task::yield_now().await,
            Then::Micros(micros) => sleep(Duration::from_micros(micros)).await,
            Then::Wait => self.wait().await,
        }
    }

    async fn act(&mut self, act: &Act) {
        match *act {
            Act::Provision { replica, team, method, name, key, on_repo } => {
                self.provision(replica, TEAMS[team], method, name, key, TARGETS[usize::from(on_repo)]);
            }
            Act::Remove { replica, which, when_idle } => {
                let Some(which) = self.which(which) else { return };
                let broker = self.site.replicas[replica].broker.clone();
                let work = self.site.replicas[replica].spawn(async move {
                    let caller = caller(&broker, "blue");
                    broker.remove(&caller, &which, when_idle).await.map(|_| ())
                });
                self.follow(work, |_, ()| {});
            }
            Act::Refresh { replica, which } => {
                let Some(which) = self.which(which) else { return };
                let broker = self.site.replicas[replica].broker.clone();
                let work = self.site.replicas[replica].spawn(async move {
                    let caller = caller(&broker, "blue");
                    broker.refresh(&caller, &which).await.map(|_| ())
                });
                self.follow(work, |_, ()| {});
            }
            Act::Sweep { replica, takeover } => {
                if takeover {
                    self.site.end_lease().await;
                }
                let work = sweep(&self.site.replicas[replica]);
                self.follow(work, |_, _| {});
            }
            Act::SweepAsBefore { replica } => {
                let replica = &self.site.replicas[replica];
                let (broker, lease) = (replica.broker.clone(), lock(&replica.lease).clone());
                let Some(lease) = lease else { return };
                let work = replica.spawn(async move { broker.sync(&lease).await });
                self.follow(work, |_, _| {});
            }
            Act::StepDown { replica } => {
                let replica = &self.site.replicas[replica];
                let (broker, lease) = (replica.broker.clone(), lock(&replica.lease).clone());
                let Some(lease) = lease else { return };
                let work = replica.spawn(async move { broker.step_down(&lease).await });
                self.follow(work, |_, ()| {});
            }
            Act::Kill { replica } => self.site.kill(replica).await,
            Act::Connect(n) => {
                let now = self.site.clock.now();
                let mut told = lock(&self.told);
                let count = told.handed_out.len();
                if let Some(handed_out) = told.handed_out.get_mut(usize::from(n) % count.max(1)) {
                    handed_out.connect(&self.site.github, now);
                }
            }
            Act::StartJob(n) => self.start_job(n),
            Act::FinishJob(n) => self.finish_job(n),
            Act::Disconnect(n) => {
                if let Some((target, runner)) = self.nth(n) {
                    self.site.github.disconnect(target, &runner.name).expect("it is there");
                }
            }
            Act::Vanish(n) => self.vanish(n),
            Act::Drift(n) => self.drift(n),
            Act::Deliver { seed } => self.deliver(seed),
            Act::WorkOff { replica } => {
                let work = work_off(&self.site.replicas[replica]);
                self.follow(work, |_, _| {});
            }
            Act::Seal { replica, takeover } => {
                if takeover {
                    self.site.end_lease().await;
                }
                let work = seals::seal(&self.site.replicas[replica], true);
                self.follow(work, |_, _| {});
            }
            Act::SealAsBefore { replica } => {
                let work = seals::seal(&self.site.replicas[replica], false);
                self.follow(work, |_, _| {});
            }
            Act::Plant(n) => self.plant(&[exact(n)]),
            Act::PlantPage => {
                let missing = PAGE.saturating_sub(self.site.github.runners(TARGETS[0]).len());
                let names: Vec<String> = (0..missing).map(|n| format!("{FOREIGN}{n}")).collect();
                self.plant(&names);
            }
            Act::RemovePlanted => {
                let runners = self.site.github.runners(TARGETS[0]);
                if let Some(runner) = runners.iter().find(|runner| runner.name.starts_with(FOREIGN)) {
                    self.site.github.remove(TARGETS[0], &runner.name).expect("it is there");
                    self.told().gone.insert(runner.id);
                }
            }
            Act::Fault(ref fault) => {
                self.late = true;
                self.site.github.fail(fault.clone());
            }
            Act::ClearFaults => self.site.github.clear_faults(),
            Act::Suspend => self.site.github.suspend(TARGETS[0]),
            Act::Unsuspend => self.site.github.unsuspend(TARGETS[0]),
            Act::Pass(seconds) => self.pass(seconds).await,
            Act::Quota { team, max } => {
                self.wait().await;
                self.site.quota(team, max).await;
                self.look().await;
                self.ratchet.max[team] = max;
            }
        }
    }

    fn provision(
        &mut self,
        replica: usize,
        team: &'static str,
        method: Method,
        name: Name,
        key: Option<u8>,
        target: &str,
    ) {
        let name = match name {
            Name::Exact(n) => NameAsk::Exact(exact(n).parse().expect("a name")),
            Name::Prefix => NameAsk::Prefix("p".parse().expect("a prefix")),
        };
        let key = key.map(|n| Key {
            key: format!("key-{n}-{}", self.day),
            fingerprint: format!("{method} {name:?} {target}"),
            former_fingerprint: None,
        });
        let ask = Ask {
            method,
            name,
            labels: BTreeSet::from(["docker".parse().expect("a label")]),
            team: None,
            target: Some(target.parse().expect("a target")),
            group: None,
            os: Os::Linux,
            arch: Arch::X64,
            ephemeral: true,
            disable_update: false,
            work_folder: "_work".into(),
        };
        let broker = self.site.replicas[replica].broker.clone();
        let work = self.site.replicas[replica]
            .spawn(async move { broker.provision(&caller(&broker, team), ask, key).await });
        let (told, db) = (self.told.clone(), self.site.db.clone());
        self.under_way.spawn(async move {
            let Some(made) = expect(&told, work.await) else { return };
            let sha256 = sha256(made.credential.expose_secret());
            let id = made.runner.id.to_string();
            let name = made.runner.name.clone();
            lock(&told).handed_out.push(HandedOut::of(made));
            let query = "SELECT 1 FROM audit_log WHERE event_type = 'provisioned' AND runner_id::text = $1
                AND event_data->>'credential_sha256' = $2";
            let known = db.query(query, &[&id, &sha256]).await.expect("the log");
            if known.len() != 1 {
                let breach = format!("{name} was handed out with {} 'provisioned' in the log", known.len());
                lock(&told).breaches.push(breach);
            }
        });
    }

    /// Waits beside the next steps for what a replica does.
    fn follow<T: Send + 'static>(
        &mut self,
        work: tokio::task::JoinHandle<Result<T, Error>>,
        done: impl FnOnce(&mut Told, T) + Send + 'static,
    ) {
        let told = self.told.clone();
        self.under_way.spawn(async move {
            if let Some(value) = expect(&told, work.await) {
                done(&mut lock(&told), value);
            }
        });
    }

    /// Until nothing is under way any more.
    async fn wait(&mut self) {
        let all = async { while self.under_way.join_next().await.is_some() {} };
        if timeout(PATIENCE, all).await.is_err() {
            self.breach("what was begun does not end");
            self.under_way.abort_all();
        }
    }

    fn which(&self, which: Which) -> Option<String> {
        match which {
            Which::Named(n) => Some(exact(n)),
            Which::HandedOut(n) => {
                let told = self.told();
                let picked = told.handed_out.get(usize::from(n) % told.handed_out.len().max(1))?;
                Some(picked.runner_id.clone())
            }
        }
    }

    /// The n-th runner on GitHub, and where it is.
    fn nth(&self, n: u8) -> Option<(&'static str, RunnerState)> {
        let mut all: Vec<_> = TARGETS
            .iter()
            .flat_map(|target| self.site.github.runners(target).into_iter().map(move |r| (*target, r)))
            .filter(|(_, runner)| !runner.name.starts_with(FOREIGN))
            .collect();
        (!all.is_empty()).then(|| all.swap_remove(usize::from(n) % all.len()))
    }

    fn plant(&self, names: &[String]) {
        for name in names {
            if let Ok(id) = self.site.github.plant(TARGETS[0], name, &["gpu"], false) {
                self.told().planted.insert(id, TARGETS[0]);
            }
        }
    }

    async fn pass(&mut self, seconds: i64) {
        if self.site.clock.now() + TimeDelta::seconds(seconds) - self.swept > LONGEST_UNSWEPT {
            self.settle().await;
        }
        if seconds >= 12 * 3_600 {
            self.day += 1;
        }
        self.site.pass(seconds);
        if TimeDelta::seconds(seconds) > LONGEST_UNSWEPT {
            self.swept = self.site.clock.now();
        }
    }

    /// Everything works again, and the sweep looks for as long as its own rules may keep it from its end.
    async fn settle(&mut self) {
        self.wait().await;
        if self.late {
            sleep(Duration::from_millis(LATEST_MILLIS)).await;
            self.late = false;
        }
        self.site.github.clear_faults();
        self.site.github.unsuspend(TARGETS[0]);
        // Older than a request can be; an end of all limits; the longest pause; and more, for a slow machine.
        let mut unfinished = Vec::new();
        for (round, seconds) in [4, 1, 61, 241, 960, 960, 1, 1, 1, 1].into_iter().enumerate() {
            self.site.pass(seconds);
            self.site.end_lease().await;
            let replica = &self.site.replicas[round % self.site.replicas.len()];
            expect(&self.told, work_off(replica).await);
            let Some(Some(report)) = expect(&self.told, sweep(replica).await) else { continue };
            unfinished = checks::unfinished(&self.site.scene()).await;
            let still = Report { seen: 0, ..report.clone() } == Report::default();
            if still && unfinished.is_empty() {
                self.swept = self.site.clock.now();
                return;
            }
            unfinished.push(format!("{report:?}"));
        }
        self.breach(format!("the sweep comes to no end: {unfinished:?}"));
    }
}

/// What came of it. `None`: a refusal, a failure that callers are told of, or its process was killed.
fn expect<T>(told: &Mutex<Told>, outcome: Result<Result<T, Error>, JoinError>) -> Option<T> {
    let breach = match outcome {
        Ok(Ok(value)) => return Some(value),
        Ok(Err(Error::LeaseLost)) => return None,
        // A task that its process' end broke off, seen by another task of the same process.
        Ok(Err(Error::Panicked(why))) if why.contains("cancelled") => return None,
        Ok(Err(err)) if err.code() != "INTERNAL" => return None,
        Ok(Err(err)) => format!("an internal error: {err:?}"),
        Err(ended) if ended.is_cancelled() => return None,
        Err(panicked) => format!("a panic: {panicked}"),
    };
    lock(told).breaches.push(breach);
    None
}

/// One sweep by this replica, if it leads or may; `None`: it may not.
fn sweep(replica: &Replica) -> tokio::task::JoinHandle<Result<Option<Report>, Error>> {
    let (broker, id, held) = (replica.broker.clone(), replica.id, replica.lease.clone());
    replica.spawn(async move {
        let Some(lease) = broker.lead(id).await? else { return Ok(None) };
        *lock(&held) = Some(lease.clone());
        broker.sync(&lease).await.map(Some)
    })
}

/// Whatever was delivered and is due.
fn work_off(replica: &Replica) -> tokio::task::JoinHandle<Result<usize, Error>> {
    let broker = replica.broker.clone();
    replica.spawn(async move { broker.work_off().await })
}

/// Names are compared without case, so they are not always written the same.
fn exact(n: u8) -> String {
    ["r0", "r1", "R1", "r2"][usize::from(n) % 4].to_owned()
}
