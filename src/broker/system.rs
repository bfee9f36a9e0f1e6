//! Whether all that the broker needs is there, in words for the people who look after it: what was checked, how it
//! is, and what to do. Changes nothing. What GitHub is asked for is kept for a minute.

mod inside;
mod outside;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::Broker;
use crate::auth::IssuerStatus;
use crate::config::Setting;

/// How long GitHub's answers are shown before it is asked again.
const KEPT: TimeDelta = TimeDelta::minutes(1);

/// How long somebody waits for GitHub before he is shown what was known before.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    Database,
    Issuers,
    GitHub,
    Targets,
    Webhooks,
    Sweep,
    AuditLog,
    Alerts,
}

impl Area {
    pub const ALL: [Area; 8] = [
        Area::Database,
        Area::Issuers,
        Area::GitHub,
        Area::Targets,
        Area::Webhooks,
        Area::Sweep,
        Area::AuditLog,
        Area::Alerts,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Area::Database => "Postgres",
            Area::Issuers => "Identity providers",
            Area::GitHub => "GitHub App",
            Area::Targets => "Targets",
            Area::Webhooks => "Webhooks",
            Area::Sweep => "Sweep",
            Area::AuditLog => "Audit log",
            Area::Alerts => "Alerts",
        }
    }
}

/// How something is. The gravest is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    Ok,
    /// It works, but somebody should look.
    Warning,
    /// Something does not work.
    Fault,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Ok => "ok",
            Health::Warning => "warning",
            Health::Fault => "fault",
        }
    }
}

/// One thing that was checked. No text holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub area: Area,
    pub what: String,
    pub state: Health,
    pub detail: String,
    /// What to do about it; `None`: nothing.
    pub advice: Option<String>,
}

impl Check {
    fn new(area: Area, what: impl Into<String>, state: Health, detail: impl Into<String>) -> Check {
        Check { area, what: what.into(), state, detail: detail.into(), advice: None }
    }

    fn ok(area: Area, what: impl Into<String>, detail: impl Into<String>) -> Check {
        Check::new(area, what, Health::Ok, detail)
    }

    fn warning(area: Area, what: impl Into<String>, detail: impl Into<String>) -> Check {
        Check::new(area, what, Health::Warning, detail)
    }

    fn fault(area: Area, what: impl Into<String>, detail: impl Into<String>) -> Check {
        Check::new(area, what, Health::Fault, detail)
    }

    fn advise(mut self, advice: impl Into<String>) -> Check {
        self.advice = Some(advice.into());
        self
    }
}

/// How things stand on this replica.
#[derive(Clone, Debug)]
pub struct System {
    pub version: &'static str,
    pub started_at: DateTime<Utc>,
    /// In the order of the areas.
    pub checks: Vec<Check>,
    /// When GitHub was asked; `None`: it has not answered yet.
    pub github_asked_at: Option<DateTime<Utc>>,
}

impl System {
    pub fn of(&self, area: Area) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |check| check.area == area)
    }

    /// The gravest of them; an area of which nothing is known is no worse for that.
    pub fn worst(&self, area: Option<Area>) -> Health {
        let asked = self.checks.iter().filter(|check| area.is_none_or(|area| check.area == area));
        asked.map(|check| check.state).max().unwrap_or(Health::Ok)
    }
}

/// What GitHub said, and when.
#[derive(Clone, Debug)]
struct Asked {
    at: DateTime<Utc>,
    checks: Vec<Check>,
}

/// What a replica keeps for this.
#[derive(Debug)]
pub(super) struct Kept {
    started_at: DateTime<Utc>,
    settings: OnceLock<Vec<Setting>>,
    asked: Mutex<Option<Asked>>,
    /// One asks; who comes meanwhile waits for the same answers.
    asking: tokio::sync::Mutex<()>,
}

impl Kept {
    pub fn new(started_at: DateTime<Utc>) -> Kept {
        Kept {
            started_at,
            settings: OnceLock::new(),
            asked: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    fn asked(&self) -> Option<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fresh(&self, now: DateTime<Utc>) -> Option<Asked> {
        self.asked().filter(|asked| (asked.at..asked.at + KEPT).contains(&now))
    }
}

impl Broker {
    /// Shows this configuration to administrators from now on; the first that is given stays.
    pub fn show_settings(&self, settings: Vec<Setting>) {
        self.system.settings.get_or_init(|| settings);
    }

    /// The configuration in force, without secrets.
    pub fn settings(&self) -> &[Setting] {
        self.system.settings.get().map_or(&[], Vec::as_slice)
    }

    /// Checks everything. Never fails: what is away is a check that says so. Nothing that hangs holds it up for
    /// longer than `PATIENCE` or the pool's.
    pub async fn system(self: &Arc<Self>, issuers: &[IssuerStatus]) -> System {
        let (mut checks, github) = tokio::join!(self.inside(issuers), self.outside());
        checks.extend(github.iter().flat_map(|asked| asked.checks.clone()));
        if github.is_none() {
            checks.push(
                Check::warning(Area::GitHub, "GitHub", "it is still being asked").advise("load this again"),
            );
        }
        let place = |area: Area| Area::ALL.iter().position(|one| *one == area);
        checks.sort_by_key(|check| place(check.area));
        System {
            version: env!("CARGO_PKG_VERSION"),
            started_at: self.system.started_at,
            checks,
            github_asked_at: github.map(|asked| asked.at),
        }
    }

    /// What GitHub says, or said last if it takes too long now.
    async fn outside(self: &Arc<Self>) -> Option<Asked> {
        if let Some(fresh) = self.system.fresh(self.clock.now()) {
            return Some(fresh);
        }
        let broker = self.clone();
        // In a task of its own: whoever loads the page anew finds the answers.
        let asking = self.tasks.spawn_on(
            async move {
                let _alone = broker.system.asking.lock().await;
                let now = broker.clock.now();
                if broker.system.fresh(now).is_none() {
                    let checks = broker.checks_of_github().await;
                    let asked = Some(Asked { at: now, checks });
                    *broker.system.asked.lock().unwrap_or_else(PoisonError::into_inner) = asked;
                }
            },
            &self.runtime,
        );
        // Too late or broken: what was known before is shown with its time.
        let _ = tokio::time::timeout(PATIENCE, asking).await;
        self.system.asked()
    }
}
