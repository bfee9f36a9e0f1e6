//! Whether all that the broker needs is there, in words for the people who look after it: what was checked, how it
//! is, and what to do. Changes nothing. The console's page asks GitHub once a minute, `doctor` whenever it is called.
//!
//! A list of checks (area, what, state, code, detail, advice) that never fails: an unavailable part is a check.
//! GitHub is asked with the App's own budget, 16 targets at a time and 1.5 s each, once a minute however many look; a
//! page waits 2 s and then shows the last result. `doctor` asks anew: 4 s per answer of GitHub, 10 s for all.
//!
//! One cause is one fault: what another check's fault prevents is a warning `not_checked`, so a wrong App key is one
//! line. Configuration arrives as data (`Config::shown`), where a secret is only set or not.

mod app;
mod budget;
mod certificate;
mod check;
mod code;
mod database;
mod inside;
mod issuers;
mod webhook;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use url::Url;

use super::Broker;
use crate::auth::{IssuerStatus, Verifier};
use crate::clock::Clock;
use crate::config::{self, Config, Setting};
use crate::github::Deadline;
use crate::policy::Warning;
use crate::single_flight::{Abandoned, SingleFlight};
use crate::store;
pub use check::{Area, Check, Health, worst};
pub use code::Code;

/// How long GitHub's answers are shown before it is asked again.
const MAX_AGE: TimeDelta = TimeDelta::minutes(1);

/// How long a page waits for GitHub before it shows the previous answers.
const WAIT: Duration = Duration::from_secs(2);

/// For one answer of GitHub's to the page; one that hangs keeps the others waiting no longer.
const ONE: Duration = Duration::from_millis(1_500);
/// For all of them: a hundred targets, sixteen at a time, then their installations.
const ALL: Duration = Duration::from_secs(30);

/// The same for `doctor`, for which somebody waits at a terminal.
const DOCTORS_ONE: Duration = Duration::from_secs(4);
const DOCTORS_ALL: Duration = Duration::from_secs(10);
/// By then `doctor` has said what it has to say, whatever hangs.
const DOCTORS_LAST: Duration = Duration::from_secs(13);

/// What a check of the policy's issuers is about.
const ISSUERS_OF_POLICY: &str = "Issuers of the policy";

/// How many warnings about the policy are checks of their own.
const WARNINGS: usize = 20;

/// Who reads the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audience {
    /// A replica, for its page.
    Console,
    /// A command; there may be no replica at all.
    Doctor,
}

/// How long is waited for one answer, and until when for all.
#[derive(Clone, Copy, Debug)]
struct Patience {
    one: Duration,
    until: Deadline,
}

/// How things stand on this replica.
#[derive(Clone, Debug)]
pub struct System {
    /// The program's version.
    pub version: &'static str,
    /// When this replica started.
    pub started_at: DateTime<Utc>,
    /// In the order of the areas.
    pub checks: Vec<Check>,
    /// When GitHub was asked; `None`: it has not answered yet.
    pub github_asked_at: Option<DateTime<Utc>>,
}

impl System {
    /// The checks of one area.
    pub fn of(&self, area: Area) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |check| check.area == area)
    }

    /// The gravest of them; an area of which nothing is known is no worse for that.
    pub fn worst(&self, area: Option<Area>) -> Health {
        worst(self.checks.iter().filter(|check| area.is_none_or(|area| check.area == area)))
    }
}

/// What was configured besides what the use cases need.
#[derive(Debug)]
struct StaticSettings {
    settings: Vec<Setting>,
    issuers: Vec<String>,
    public_url: Url,
    tls: Option<config::Tls>,
    leeway: Duration,
}

/// What GitHub said, and when.
#[derive(Clone, Debug)]
struct Asked {
    at: DateTime<Utc>,
    checks: Vec<Check>,
}

/// What a replica keeps for this.
#[derive(Debug)]
pub(super) struct CheckCache {
    started_at: DateTime<Utc>,
    around: OnceLock<StaticSettings>,
    asked: Arc<SingleFlight<Asked>>,
}

impl CheckCache {
    pub fn new(started_at: DateTime<Utc>) -> CheckCache {
        CheckCache { started_at, around: OnceLock::new(), asked: Arc::default() }
    }

    fn around(&self) -> Option<&StaticSettings> {
        self.around.get()
    }

    /// The issuers of tokens and sign-ins, as far as the configuration is known.
    pub(super) fn issuers(&self) -> Option<&[String]> {
        self.around().map(|around| around.issuers.as_slice())
    }
}

impl Broker {
    /// Lets the checks, and administrators, see this configuration from now on; the first that is given stays.
    pub fn show_config(&self, config: &Config) {
        self.system.around.get_or_init(|| StaticSettings {
            settings: config.shown(),
            issuers: config.issuers(),
            public_url: config.http.public_url.clone(),
            tls: config.http.tls.clone(),
            leeway: config.oidc.leeway,
        });
    }

    /// The configuration that this replica runs with, without secrets.
    pub fn settings(&self) -> &[Setting] {
        self.system.around().map_or(&[], |around| &around.settings)
    }

    /// Checks everything. Never fails: what is away is a check that says so. Nothing that hangs holds it up for
    /// longer than `WAIT` or the pool's.
    pub async fn system(self: &Arc<Self>, issuers: &[IssuerStatus]) -> System {
        let (mut checks, github) = tokio::join!(self.inside(Audience::Console), self.outside());
        checks.extend(self.around(issuers));
        checks.extend(github.iter().flat_map(|asked| asked.checks.clone()));
        if github.is_none() {
            let asking = Check::not_checked(Area::GitHub, "GitHub", "it is still being asked");
            checks.push(asking.advise("load this again"));
        }
        checks.sort_by_key(|check| check.area);
        System {
            version: env!("CARGO_PKG_VERSION"),
            started_at: self.system.started_at,
            checks,
            github_asked_at: github.map(|asked| asked.at),
        }
    }

    /// Checks everything anew, in the order of the areas, within some 13 s whatever hangs. Needs no replica, takes no
    /// lease, writes nothing.
    pub async fn doctor(self: &Arc<Self>, verifier: &Verifier) -> Vec<Check> {
        let patience = Patience { one: DOCTORS_ONE, until: Deadline::within(DOCTORS_ALL) };
        let last = Deadline::within(DOCTORS_LAST);
        let inside = async {
            match self.store.is_ready().await {
                Ok(()) => self.inside(Audience::Doctor).await,
                Err(err) => self.without_database(&err),
            }
        };
        let outside = async {
            let policy = self.read_policy().await;
            let mut checks = self.checks_of_github(patience).await;
            checks.extend(policy);
            checks
        };
        let (inside, outside, ()) = tokio::join!(
            tokio::time::timeout_at(last.at(), inside),
            tokio::time::timeout_at(last.at(), outside),
            verifier.refresh()
        );
        let late = |area: Area| vec![Check::not_checked(area, area.as_str(), "there was no answer in time")];
        let mut checks = inside.unwrap_or_else(|_| self.without_database(&hangs()));
        checks.extend(outside.unwrap_or_else(|_| late(Area::GitHub)));
        let around = self.around(&verifier.issuers());
        // One cause is one fault: an issuer that is wrongly configured is none of the policy's either.
        if around.iter().any(|check| check.area == Area::Issuers && check.state == Health::Fault) {
            checks.retain(|check| check.what != ISSUERS_OF_POLICY);
        }
        checks.extend(around);
        checks.sort_by_key(|check| check.area);
        checks
    }

    fn without_database(&self, err: &store::Error) -> Vec<Check> {
        let rest = [Area::Webhooks, Area::Sweep, Area::AuditLog, Area::Alerts];
        let rest = rest.map(|area| Check::not_checked(area, "Tables", "Postgres is away, see above"));
        [database::away(err)].into_iter().chain(rest).collect()
    }

    /// The policy names targets, and may say what nobody meant. That Postgres is away, or old, is said elsewhere.
    async fn read_policy(&self) -> Vec<Check> {
        let (area, what) = (Area::Database, "Policy");
        let read = async {
            self.refresh_policy().await?;
            self.policy_warnings().await
        };
        match tokio::time::timeout(DOCTORS_ONE, read).await {
            Ok(Err(err @ super::Error::Policy(_))) => vec![
                Check::fault(area, what, Code::PolicyUnreadable, err.to_string())
                    .advise("apply a policy of this version: 'runner-broker policy apply FILE'"),
            ],
            Ok(Ok(warnings)) => {
                let check = |warning: Warning| {
                    let what = if warning.of_issuer { ISSUERS_OF_POLICY } else { what };
                    Check::warning(area, what, Code::PolicyDoubtful, warning.what).advise(
                        "check what the rule is meant to say; 'runner-broker policy check FILE' names its line",
                    )
                };
                warnings.into_iter().take(WARNINGS).map(check).collect()
            }
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }

    /// What neither Postgres nor GitHub has a say in.
    fn around(&self, issuers: &[IssuerStatus]) -> Vec<Check> {
        let Some(around) = self.system.around() else { return Vec::new() };
        let mut checks = issuers::checks(issuers, around.leeway);
        checks.extend(certificate::checks(around.tls.as_ref(), &around.public_url, self.clock.now()));
        checks
    }

    /// What GitHub says, or said last if it takes too long now.
    async fn outside(self: &Arc<Self>) -> Option<Asked> {
        let now = self.clock.now();
        let is_fresh = |asked: &Asked| (asked.at..asked.at + MAX_AGE).contains(&now);
        let broker = self.clone();
        let fetch = || async move {
            let (tasks, runtime) = (broker.tasks.clone(), broker.runtime.clone());
            let work = async move {
                let at = broker.clock.now();
                let patience = Patience { one: ONE, until: Deadline::within(ALL) };
                Asked { at, checks: broker.checks_of_github(patience).await }
            };
            tasks.spawn_on(work, &runtime).await.map_err(|_| Abandoned)
        };
        match tokio::time::timeout(WAIT, self.system.asked.get(is_fresh, fetch)).await {
            Ok(Ok(asked)) => Some(asked),
            // Too late or broken off: what was known before is shown with its time.
            _ => self.system.asked.peek(|_| true),
        }
    }
}

fn hangs() -> store::Error {
    store::Error::Unavailable("no answer in time".to_owned())
}

/// What can be checked of a configuration that nothing can be started with.
pub async fn without_broker(config: &Config, verifier: &Verifier, clock: &Clock) -> Vec<Check> {
    verifier.refresh().await;
    let mut checks = issuers::checks(&verifier.issuers(), config.oidc.leeway);
    checks.extend(certificate::checks(config.http.tls.as_ref(), &config.http.public_url, clock.now()));
    for area in [Area::Database, Area::GitHub] {
        checks.push(Check::not_checked(area, area.as_str(), "the configuration comes first, see above"));
    }
    checks.sort_by_key(|check| check.area);
    checks
}
