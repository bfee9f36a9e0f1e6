//! The use cases: what happens, and in which order. Knows neither HTTP nor SQL. Each room holds the verbs about one
//! noun; a verb is a method of [`Broker`], in a file of its name. A room uses others only downwards.
//!
//! | Room | What is in it |
//! |---|---|
//! | `audit` | Reading, exporting, proving, verifying and sealing the audit log |
//! | `checks` | Whether everything that the broker needs is there, for `doctor` and the console |
//! | `events` | What the audit log records; every room uses it, and it uses none |
//! | `jobs` | GitHub's jobs for self-hosted runners: listing them, and reporting those that no runner fits |
//! | `numbers` | Statistics, and the numbers of live pages |
//! | `people` | Callers, identities, sessions, sign-in limits, and what refused callers did |
//! | `policy` | The policy as it is stored and edited: documents, teams, roles |
//! | `provision` | Handing out one runner, from the intent to the credential |
//! | `runners` | Existing runners: listing, refreshing and removing them, and their state transitions |
//! | `security` | Security events: listing, posting, bursts of provisions |
//! | `sweep` | Making the table agree with GitHub, under the leader's lease |
//! | `webhook` | GitHub's webhooks: receiving, working through and redelivering them |
//!
//! Below all rooms are also `lease` (who leads), `error` and `urls`. Rooms for runner
//! pools, API tokens and workflow runs would be `pools`, `tokens` and `runs`, beside these.

#![warn(missing_docs)]

pub mod audit;
pub mod checks;
mod error;
pub mod events;
pub mod jobs;
mod lease;
pub mod numbers;
pub mod people;
pub mod policy;
pub mod provision;
pub mod runners;
pub mod security;
pub mod sweep;
mod urls;
pub mod webhook;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::TimeDelta;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify};
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use url::Url;

pub use error::Error;

use crate::clock::Clock;
use crate::config;
use crate::github::{Deadline, GitHub};
use crate::model::Target;
use crate::policy::{Defaults, Rules};
use crate::seal::key::SigningKey;
use crate::store::{self, Store};

/// The policy as this replica knows it. Never older than `POLICY_REFRESH`.
struct Policy {
    revision: i64,
    rules: Rules,
}

/// How often a replica looks whether the policy, or who may not be let in, has changed; a change takes effect
/// within that everywhere.
pub const POLICY_REFRESH: Duration = Duration::from_secs(2);

/// Everything that a use case needs; one per process.
pub struct Broker {
    config: config::Broker,
    org: Target,
    github_url: Url,
    github_timeout: Duration,
    store: Store,
    github: GitHub,
    policy: ArcSwap<Policy>,
    reading_policy: Mutex<()>,
    /// Whether `POLICY_FILE` has the say about the policy.
    policy_is_of_file: OnceLock<()>,
    refusals: people::refusals::Refusals,
    github_calls: people::github_calls::GitHubCalls,
    identities: people::identities::Identities,
    clock: Clock,
    /// What has begun and must end before the process does.
    tasks: TaskTracker,
    runtime: Handle,
    wake: Notify,
    /// Held while a target is listed and compared: the round and the wishes take turns.
    sweeping: Mutex<()>,
    webhooks: webhook::Webhooks,
    /// What signs checkpoints of the audit log.
    signer: OnceLock<SigningKey>,
    stats: numbers::Computed,
    system: checks::CheckCache,
    pulse: numbers::live::PulseFlight,
}

impl Broker {
    /// A broker without any policy; call `refresh_policy` next. Must be called on the runtime that is to
    /// outlive the HTTP workers.
    pub fn new(
        config: config::Broker,
        github_config: &config::GitHub,
        store: Store,
        github: GitHub,
        clock: Clock,
    ) -> Arc<Broker> {
        Arc::new(Broker {
            config,
            org: github_config.org.clone(),
            github_url: github_config.url.clone(),
            github_timeout: github_config.timeout,
            store,
            github,
            system: checks::CheckCache::new(clock.now()),
            policy: ArcSwap::from_pointee(Policy { revision: 0, rules: Rules::default() }),
            reading_policy: Mutex::default(),
            policy_is_of_file: OnceLock::new(),
            refusals: people::refusals::Refusals::default(),
            github_calls: people::github_calls::GitHubCalls::new(clock.clone()),
            identities: people::identities::Identities::default(),
            clock,
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            wake: Notify::new(),
            sweeping: Mutex::new(()),
            webhooks: webhook::Webhooks::new(github_config),
            signer: OnceLock::new(),
            stats: numbers::Computed::default(),
            pulse: Arc::default(),
        })
    }

    /// The clock by which everything here happens.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether Postgres answers.
    pub async fn ping(&self) -> Result<(), store::Error> {
        self.store.ping().await
    }

    /// The connections to Postgres, in use and idle.
    pub fn pool_status(&self) -> store::PoolStatus {
        self.store.status()
    }

    /// Gives the current thread database connections of its own.
    pub fn add_thread_connections(&self) -> Result<(), store::Error> {
        self.store.add_thread_pool()
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The GitHub App.
    pub fn github(&self) -> &GitHub {
        &self.github
    }

    /// Signs the audit log's checkpoints from now on; the first key that is given stays.
    pub fn sign_with(&self, key: SigningKey) {
        if self.signer.set(key).is_err() {
            tracing::warn!("the audit log has its signing key already");
        }
    }

    /// From now on only `POLICY_FILE` changes the policy, and administrators do not.
    pub fn follow_policy_file(&self) {
        self.policy_is_of_file.get_or_init(|| ());
    }

    /// Whether administrators cannot change the policy here, since `POLICY_FILE` does.
    pub fn policy_is_managed_by_file(&self) -> bool {
        self.policy_is_of_file.get().is_some()
    }

    /// The settings of the use cases.
    pub fn config(&self) -> &config::Broker {
        &self.config
    }

    fn defaults(&self) -> Defaults {
        Defaults { target: self.org.clone(), group_id: self.config.default_runner_group_id }
    }

    /// The longest that a use case may take as a whole: a provision may ask GitHub three times.
    pub fn longest(&self) -> Duration {
        3 * self.github_timeout
    }

    fn deadline(&self) -> Deadline {
        Deadline::within(self.longest())
    }

    /// When a `requested` row's own request can no longer be at work.
    fn interrupted_after(&self) -> TimeDelta {
        TimeDelta::from_std(self.longest() + Duration::from_secs(2)).unwrap_or(TimeDelta::MAX)
    }

    /// Runs `work` to its end even if the caller hangs up, on the runtime that ends last.
    async fn run_detached<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let task = self.tasks.spawn_on(work.in_current_span(), &self.runtime);
        task.await.unwrap_or_else(|err| Err(Error::Panicked(err.to_string())))
    }

    /// Returns when something happened that the sweep should look at.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Waits until everything that has begun has ended, but no longer than `patience`; whether it has.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(patience, self.tasks.wait()).await.is_ok()
    }
}
