//! GitHub as the App sees it: who it is, what it may still ask, the calls about runners. The only user of
//! octocrab; knows neither callers nor the database.

#![warn(missing_docs)]

mod answer;
mod app;
mod budget;
mod call;
mod deadline;
mod deliveries;
mod error;
mod groups;
mod installation;
mod installations;
mod listing;
mod operation;
mod paths;
mod permissions;
mod rate_limit;
mod runner;
mod runners;
mod transport;
pub mod webhook;
mod workflow_runs;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

pub use budget::{Allowance, BudgetStatus};
pub use deadline::Deadline;
pub use deliveries::{DeliveryAttempt, FailedDelivery, FailedPage, WebhookSettings};
pub use error::{Blame, Error};
pub use installations::InstallationState;
pub use listing::{CachedPage, Listing};
pub use permissions::{AppState, InstallationPermissions};
pub use rate_limit::RateLimit;
pub use runner::Runner;
pub use runners::{IssuedToken, JitRunner, Removal};
pub use workflow_runs::Cancelled;

use crate::clock::Clock;
use crate::config;
use crate::model::Target;
use crate::single_flight::SingleFlights;
use app::App;
use budget::Quota;
use groups::Groups;
use installation::{Found, Installation};
use transport::Transport;

/// A list that has more pages has no end: 100,000 entries.
const MAX_PAGES: u32 = 1000;
/// How many lookups, and how many lists of groups, are remembered.
const MAX_REMEMBERED: usize = 1000;

/// The App on one GitHub. Clones are the same App: they share connections, tokens and budgets.
#[derive(Clone)]
pub struct GitHub(Arc<Inner>);

struct Inner {
    clock: Clock,
    timeout: Duration,
    transport: Transport,
    app: App,
    app_quota: Quota,
    /// Owner and id, if the configuration names the installation.
    configured: Option<(String, u64)>,
    /// By owner.
    installations: Mutex<HashMap<String, Arc<Installation>>>,
    lookups: SingleFlights<Target, Found, Error>,
    /// By organisation.
    groups: SingleFlights<String, Groups, Error>,
    /// By how much our clock is ahead of GitHub's, as the last answer showed.
    ahead: Mutex<Option<TimeDelta>>,
}

impl GitHub {
    /// Reads the key and prepares the connections; asks GitHub nothing. Within a tokio runtime only.
    /// [`Error::BadKey`] says what is wrong with the key.
    pub fn new(config: &config::GitHub, clock: Clock) -> Result<GitHub, Error> {
        let app = App::new(config.app_id, &config.private_key, clock.now())?;
        let configured = config.installation_id.map(|id| (config.org.owner().to_owned(), id));
        let installations =
            configured.iter().map(|(owner, id)| (owner.clone(), Arc::new(Installation::new(*id)))).collect();
        Ok(GitHub(Arc::new(Inner {
            clock,
            timeout: config.timeout,
            transport: Transport::new(&config.api_url, config.timeout)?,
            app,
            app_quota: Quota::new("app".into()),
            configured,
            installations: Mutex::new(installations),
            lookups: SingleFlights::new(MAX_REMEMBERED),
            groups: SingleFlights::new(MAX_REMEMBERED),
            ahead: Mutex::default(),
        })))
    }

    /// The hourly budgets that GitHub has told of so far.
    pub fn budgets(&self) -> Vec<BudgetStatus> {
        let mut statuses = self.0.app_quota.statuses();
        self.installations().values().for_each(|installation| statuses.extend(installation.quota.statuses()));
        statuses.sort_by(|a, b| (&a.installation, &a.resource).cmp(&(&b.installation, &b.resource)));
        statuses
    }

    /// What is left for lists of this target's runners. `None`: GitHub has not told in this hour.
    pub fn allowance(&self, target: &Target) -> Option<Allowance> {
        self.installations().get(target.owner())?.quota.allowance(self.0.clock.now())
    }

    /// What is left of the budget of this target's installation of which the smallest part is left. `None`: GitHub has not
    /// told of any in this hour.
    pub fn scarcest(&self, target: &Target) -> Option<Allowance> {
        self.installations().get(target.owner())?.quota.scarcest(self.0.clock.now())
    }

    /// By how much our clock is ahead of GitHub's, as the last answer showed to the second. `None`: none has.
    pub fn ahead(&self) -> Option<TimeDelta> {
        *self.0.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_clock(&self, theirs: Option<DateTime<Utc>>, now: DateTime<Utc>) {
        if let Some(theirs) = theirs {
            *self.0.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(now - theirs);
        }
    }

    fn clock(&self) -> &Clock {
        &self.0.clock
    }

    fn timeout(&self) -> Duration {
        self.0.timeout
    }

    fn transport(&self) -> &Transport {
        &self.0.transport
    }

    fn app(&self) -> &App {
        &self.0.app
    }

    fn app_quota(&self) -> &Quota {
        &self.0.app_quota
    }

    fn configured_installation(&self) -> Option<(&str, u64)> {
        self.0.configured.as_ref().map(|(owner, id)| (owner.as_str(), *id))
    }

    /// The installation that the configuration names for this target.
    pub fn configured_id(&self, target: &Target) -> Option<u64> {
        self.configured_installation().filter(|(owner, _)| *owner == target.owner()).map(|(_, id)| id)
    }

    fn installations(&self) -> MutexGuard<'_, HashMap<String, Arc<Installation>>> {
        self.0.installations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the lookups of an owner's targets, and the owner's installation unless it is `current` or configured.
    fn forget_lookups(&self, owner: &str, current: Option<u64>) {
        self.0.lookups.forget(|target| target.owner() == owner);
        if self.configured_installation().is_none_or(|(configured, _)| configured != owner) {
            let mut installations = self.installations();
            if installations.get(owner).is_some_and(|kept| Some(kept.id()) != current) {
                installations.remove(owner);
            }
        }
    }
}

impl fmt::Debug for GitHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitHub").finish_non_exhaustive()
    }
}
