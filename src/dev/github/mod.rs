//! A GitHub to try the broker on: stateful, strict where GitHub is strict, and failing on command.
//!
//! [`GitHub::start`] serves the operations of runners, runner groups, Apps and installations on a port of
//! 127.0.0.1, at the root and under `/api/v3` (Enterprise Server). Everything that GitHub checks is checked;
//! [`GitHub::fail`] makes calls go wrong; `connect`, `start_job` and their like lead a runner's life.
//!
//! Another process has the same over HTTP. A body is JSON; a refusal is GitHub's basic error.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `GET /_dev` | | `{url, app_id, targets, issued: {kind: count}}` |
//! | `GET /_dev/runners?target=T` | | 200 `[RunnerState]`; `T` is an organisation or `owner/name` |
//! | `GET /_dev/calls`, `DELETE /_dev/calls` | | 200 `[Call]`; 204 |
//! | `POST /_dev/faults`, `DELETE /_dev/faults` | a [`Fault`]: `{"method": "POST", "path": "jitconfig", "skip": 0, "times": 1, "action": {"delay": {"millis": 50}}}` | 204 |
//! | `POST /_dev/connect`, `…/disconnect`, `…/start-job`, `…/finish-job`, `…/remove` | `{target, name}` | 204 |
//! | `POST /_dev/plant` (a runner that somebody else set up) | `{target, name, labels, ephemeral}` | 201 `{id}` |
//! | `POST /_dev/set-labels` (what an admin does) | `{target, name, labels}` | 204 |
//! | `POST /_dev/jit` (what `run.sh --jitconfig` does) | `{encoded_jit_config}` | 200 `{name}` |
//! | `POST /_dev/register` (what `config.sh` does) | `{target, name, labels, ephemeral, token}` | 201 `{id}` |

mod access;
mod answer;
mod api;
mod control;
mod fault;
mod hooks;
mod installations;
mod keys;
mod life;
mod limits;
mod people;
mod records;
mod runners;
mod server;
mod shapes;
mod state;
mod upkeep;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use fault::{Action, Canned, Fault};
pub use hooks::signature;
pub use keys::{private_key_pem, rotated_private_key_pem};
pub use life::{RUNNER_VERSION, Refused};
pub use limits::Limits;
pub use people::{CLIENT_ID, CLIENT_SECRET};
pub use records::{Call, JobState, Person, RunnerState};

use crate::clock::Clock;
use crate::model::Target;
use records::Group;
use server::{Server, Shared};
use state::State;

/// How a GitHub starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// GitHub's own time; a clock apart from the broker's makes a skew.
    pub clock: Clock,
    pub app_id: u64,
    /// 0: a free one.
    pub port: u16,
    /// `None`: no limits, the budget headers show plenty.
    pub limits: Option<Limits>,
    /// What every call takes.
    pub latency: Duration,
    /// Whether `calls` and `issued` remember; off for benchmarks.
    pub record_calls: bool,
    /// Threads that serve.
    pub workers: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            clock: Clock::default(),
            app_id: 424_242,
            port: 0,
            limits: None,
            latency: Duration::ZERO,
            record_calls: true,
            workers: 1,
        }
    }
}

/// A running GitHub; its server and threads end when it is dropped. Where a `target` is asked for, it is an
/// organisation or `owner/name`, compared without case, as are the names of runners.
pub struct GitHub {
    url: String,
    app_id: u64,
    shared: Arc<Shared>,
    _server: Server,
}

impl GitHub {
    /// Starts an empty GitHub. Errors: the port is taken, no threads.
    pub fn start(settings: Settings) -> std::io::Result<GitHub> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port))?;
        let url = format!("http://{}", listener.local_addr()?);
        let mut state = State::new(settings.clock, settings.app_id, url.clone(), settings.record_calls);
        state.meter.limits = settings.limits;
        let shared = Arc::new(Shared::new(state, settings.latency));
        let _server = Server::start(listener, shared.clone(), settings.workers)?;
        Ok(GitHub { url, app_id: settings.app_id, shared, _server })
    }

    /// `http://127.0.0.1:PORT`, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn app_id(&self) -> u64 {
        self.app_id
    }

    /// The App's private key, PKCS#8 PEM; the same for all of a process.
    pub fn private_key_pem(&self) -> &'static str {
        private_key_pem()
    }

    /// Deletes the App's key; `rotated_private_key_pem` is the one that signs from now on.
    pub fn rotate_key(&self) {
        self.shared.state().key_rotated = true;
    }

    /// Adds an organisation with the group `Default` and the App installed, all permissions granted.
    /// Panics if this is no name of an organisation.
    pub fn add_org(&self, org: &str) {
        let Ok(target @ Target::Organization(_)) = org.parse() else {
            panic!("'{org}' is no name of an organisation")
        };
        let mut state = self.shared.state();
        state.account(org, true);
        state.scope(target, org);
    }

    /// Adds a repository, `owner/name`; an owner that is unknown becomes a user with the App installed.
    /// Panics if this is no name of a repository.
    pub fn add_repo(&self, repo: &str) {
        let (Ok(target @ Target::Repository { .. }), Some((owner, _))) = (repo.parse(), repo.split_once('/'))
        else {
            panic!("'{repo}' is not owner/name")
        };
        let mut state = self.shared.state();
        state.account(owner, false);
        state.scope(target, repo);
    }

    /// Somebody who can sign in.
    pub fn add_person(&self, person: Person) {
        self.shared.state().people.known.push(person);
    }

    /// What a user's token is good for from now on; `read:org` shows memberships.
    pub fn set_granted_scope(&self, scope: &str) {
        self.shared.state().people.granted = scope.to_owned();
    }

    /// Adds a runner group to an organisation; `None`: no such organisation.
    pub fn add_group(&self, org: &str, name: &str) -> Option<i64> {
        let mut state = self.shared.state();
        let scope = state.scopes.get_mut(&Target::Organization(org.to_lowercase()))?;
        // 2 is the group of GitHub's own runners.
        let id = scope.groups.iter().map(|group| group.id).fold(2, i64::max) + 1;
        scope.groups.push(Group { id, name: name.into(), open: true });
        Some(id)
    }

    /// From now on the App may not use this group: GitHub answers 403.
    pub fn close_group(&self, org: &str, id: i64) {
        let mut state = self.shared.state();
        let scope = state.scopes.get_mut(&Target::Organization(org.to_lowercase()));
        let groups = scope.into_iter().flat_map(|scope| scope.groups.iter_mut());
        groups.filter(|group| group.id == id).for_each(|group| group.open = false);
    }

    /// From now on what happens is delivered there, signed with this secret.
    pub fn set_webhook(&self, url: &str, secret: &str) {
        let hook = records::Hook {
            url: url.to_owned(),
            secret: secret.to_owned(),
            content_type: "json".to_owned(),
            is_insecure: false,
        };
        self.shared.state().hooks.hook = Some(hook);
    }

    /// So many of the next deliveries get lost on their way, and are listed as failed.
    pub fn lose_webhooks(&self, count: u32) {
        self.shared.state().hooks.losing = count;
    }

    /// How many attempts to deliver there were, and how many of them had a good answer.
    pub fn delivered(&self) -> (usize, usize) {
        let state = self.shared.state();
        let good = |delivery: &&records::Delivery| (200..300).contains(&delivery.status_code);
        let all = &state.hooks.deliveries;
        (all.len(), all.iter().filter(good).count())
    }

    /// A workflow run with one job, queued.
    pub fn queue_job(&self, repository: &str, name: &str, labels: &[&str]) -> JobState {
        self.shared.state().queue_job(repository, name, labels)
    }

    /// A runner, online and idle, takes a queued job.
    pub fn take_job(&self, id: i64, target: &str, runner: &str) -> Result<JobState, Refused> {
        self.shared.state().take_job(id, target, runner)
    }

    /// A job ends; its runner is idle, or gone if ephemeral.
    pub fn end_job(&self, id: i64, conclusion: &'static str) -> Result<JobState, Refused> {
        self.shared.state().end_job(id, conclusion)
    }

    /// All jobs as they stand, the oldest first.
    pub fn jobs(&self) -> Vec<JobState> {
        self.shared.state().hooks.jobs.clone()
    }

    /// The body of `workflow_job` about a job as it stood.
    pub fn job_payload(&self, job: &JobState) -> serde_json::Value {
        self.shared.state().job_payload(job)
    }

    /// The body of `installation` about an owner; `None`: no such account.
    pub fn installation_payload(&self, action: &str, owner: &str, id: u64) -> Option<serde_json::Value> {
        self.shared.state().installation_payload(action, owner, id)
    }

    /// The runners of a target, the oldest first.
    pub fn runners(&self, target: &str) -> Vec<RunnerState> {
        let state = self.shared.state();
        let scope = target.parse().ok().and_then(|target: Target| state.scopes.get(&target));
        scope.map(|scope| scope.runners.values().cloned().collect()).unwrap_or_default()
    }

    pub fn runner(&self, target: &str, name: &str) -> Option<RunnerState> {
        let target: Target = target.parse().ok()?;
        self.shared.state().scopes.get(&target)?.named(name).cloned()
    }

    /// What `config.sh` does: registers a runner, offline, with the system labels and these. Its id.
    pub fn register(
        &self,
        target: &str,
        name: &str,
        labels: &[&str],
        ephemeral: bool,
        registration_token: &str,
    ) -> Result<i64, Refused> {
        self.shared.state().register(target, name, labels, ephemeral, registration_token)
    }

    /// What `config.sh remove` does.
    pub fn unregister(&self, target: &str, name: &str, remove_token: &str) -> Result<(), Refused> {
        self.shared.state().unregister(target, name, remove_token)
    }

    /// As `register`, without a token: a runner that somebody else set up.
    pub fn plant(&self, target: &str, name: &str, labels: &[&str], ephemeral: bool) -> Result<i64, Refused> {
        self.shared.state().plant(target, name, labels, ephemeral)
    }

    /// As `plant`, thousands at once: `prefix-0`, `prefix-1`, …; their ids.
    pub fn plant_many(
        &self,
        target: &str,
        prefix: &str,
        count: usize,
        labels: &[&str],
    ) -> Result<Vec<i64>, Refused> {
        self.shared.state().plant_many(target, prefix, count, labels)
    }

    /// What `run.sh --jitconfig` does: the runner of this config is online. Its name.
    pub fn connect_jit(&self, encoded: &str) -> Result<String, Refused> {
        self.shared.state().connect_jit(encoded)
    }

    /// The runner is online, and its version known.
    pub fn connect(&self, target: &str, name: &str) -> Result<(), Refused> {
        self.shared.state().connect(target, name)
    }

    /// The runner is offline; if it was busy it stays so.
    pub fn disconnect(&self, target: &str, name: &str) -> Result<(), Refused> {
        self.shared.state().disconnect(target, name)
    }

    /// The runner, online and idle, is busy.
    pub fn start_job(&self, target: &str, name: &str) -> Result<(), Refused> {
        self.shared.state().start_job(target, name)
    }

    /// The runner is idle; an ephemeral one is gone.
    pub fn finish_job(&self, target: &str, name: &str) -> Result<(), Refused> {
        self.shared.state().finish_job(target, name)
    }

    /// The runner is gone, busy or not, as if removed by hand.
    pub fn remove(&self, target: &str, name: &str) -> Result<(), Refused> {
        self.shared.state().vanish(target, name)
    }

    /// The runner's labels are these now: drift.
    pub fn set_labels(&self, target: &str, name: &str, labels: &[&str]) -> Result<(), Refused> {
        self.shared.state().set_labels(target, name, labels)
    }

    /// Puts a fault at the end of the queue.
    pub fn fail(&self, fault: Fault) {
        self.shared.state().faults.add(fault);
    }

    /// Everything works again.
    pub fn clear_faults(&self) {
        self.shared.state().faults.clear();
    }

    /// The calls so far, the oldest first; those of `/_dev` are not counted.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls()
    }

    pub fn clear_calls(&self) {
        self.shared.state().clear_calls();
    }

    /// Every secret that went out: installation, registration and remove tokens, JIT configs.
    pub fn issued(&self) -> Vec<String> {
        self.shared.state().issued()
    }

    /// What every call takes from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.latency.store(latency.as_micros() as u64, Ordering::Relaxed);
    }

    /// The limits from now on; what is used stays used.
    pub fn set_limits(&self, limits: Option<Limits>) {
        self.shared.state().meter.limits = limits;
    }
}
