//! What GitHub says of the App and of each target's installation, with exactly what is missing.
//!
//! Key, id or clock: GitHub's words tell first (`Integration not found`; a claim `exp` or `iat`; else the
//! signature), then the `Date` of its answer. Between a wrong key and another App's id the key's fingerprint tells,
//! as GitHub lists it. Clocks are compared with every answer of GitHub and every fetch of keys, `Age` included.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use super::{Area, Check, Code, Patience, issuers};
use crate::broker::Broker;
use crate::config::Enforcement;
use crate::github::{self, Blame, Deadline, InstallationPermissions};
use crate::model::Target;
use crate::store::sync_targets;

/// How many are asked about at the same time, and at all.
const AT_ONCE: usize = 16;
const TARGETS: usize = 100;
/// A difference of clocks that is worth telling, in seconds; GitHub bears twice as much.
const SKEW: i64 = 30;
/// For Postgres to say which targets there are.
const LOOK_UP: Duration = Duration::from_secs(3);

const APP: &str = "The App";

impl Patience {
    /// Until when one more question may be answered.
    pub(super) fn deadline(self) -> Deadline {
        Deadline::within(self.one).min(self.until)
    }

    /// An answer in time, or that it hangs.
    pub(super) async fn wait<T>(
        self,
        asked: impl Future<Output = Result<T, github::Error>>,
    ) -> Result<T, github::Error> {
        let deadline = self.deadline();
        let millis = deadline.remaining().as_millis();
        tokio::time::timeout_at(deadline.at(), asked).await.unwrap_or_else(|_| {
            let why = format!("no answer within {millis} ms");
            Err(github::Error::Unavailable { maybe_done: false, why })
        })
    }
}

impl Broker {
    pub(super) async fn checks_of_github(&self, patience: Patience) -> Vec<Check> {
        let (app, mut checks, webhooks) = tokio::join!(
            self.check_app(patience),
            self.check_targets(patience),
            self.check_webhook(patience),
        );
        checks.extend(app);
        checks.extend(webhooks);
        checks
    }

    async fn check_targets(&self, patience: Patience) -> Vec<Check> {
        let (targets, mut checks) = match tokio::time::timeout(LOOK_UP, self.targets_to_check()).await {
            Ok(Some(targets)) => (targets, Vec::new()),
            Ok(None) | Err(_) => {
                let why = "Postgres does not say which there are, so only GITHUB_ORG was looked at";
                (vec![self.org.clone()], vec![Check::not_checked(Area::Targets, "Other targets", why)])
            }
        };
        let asked = targets.iter().take(TARGETS).cloned().map(|target| self.check_target(target, patience));
        let found: Vec<(Check, Option<Served>)> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        let (targets_checked, served): (Vec<Check>, Vec<_>) = found.into_iter().unzip();
        checks.extend(targets_checked);
        if targets.len() > TARGETS {
            let more = targets.len() - TARGETS;
            checks.push(Check::ok(Area::Targets, "More targets", format!("{more} were not looked at")));
        }
        let mut seen = BTreeSet::new();
        let one_each = served.into_iter().flatten().filter(|served| seen.insert(served.installation));
        let budgets = one_each.map(|served| self.check_budget(served, patience)).collect::<Vec<_>>();
        checks.extend(stream::iter(budgets).buffered(AT_ONCE).collect::<Vec<_>>().await);
        checks
    }

    /// Those that are swept, those that the policy names, and the one that a request means which names none. `None`:
    /// Postgres does not say.
    async fn targets_to_check(&self) -> Option<Vec<Target>> {
        let mut conn = self.store.conn().await.ok()?;
        let swept = sync_targets::all(&mut conn).await.ok()?;
        let policy = self.policy.load();
        let named = policy.rules.teams().iter().flat_map(|team| team.targets());
        // What has a star in it is no target.
        let named = named.filter_map(|name| name.parse::<Target>().ok());
        let mut others: BTreeSet<Target> = swept.into_iter().map(|row| row.target).chain(named).collect();
        others.remove(&self.org);
        Some([self.org.clone()].into_iter().chain(others).collect())
    }

    /// The App, and the clock that its signature depends on.
    async fn check_app(&self, patience: Patience) -> Vec<Check> {
        let area = Area::GitHub;
        let asked = patience.wait(self.github.app_state(patience.deadline())).await;
        let mut clock_is_refused = false;
        let app = match asked {
            Ok(app) => {
                let owner = app.owner.and_then(|owner| owner.login).unwrap_or_default();
                let detail = format!("{} (id {}), registered by {owner}: {}", app.name, app.id, app.html_url);
                Check::ok(area, APP, detail)
            }
            Err(err @ github::Error::Unauthorized { blame: Blame::AppId, .. }) => {
                Check::fault(area, APP, Code::AppId, err.to_string()).advise(format!(
                    "GITHUB_APP_ID is {}: set it to the \"App ID\" (not the client ID) of the App's settings on GitHub; if \
                     that is what it says, GITHUB_API_URL is another GitHub's",
                    self.github.app_id()
                ))
            }
            Err(github::Error::Unauthorized { blame: Blame::Clock, why }) => {
                clock_is_refused = true;
                Check::not_checked(area, APP, format!("GitHub refuses this machine's clock: {why}"))
            }
            Err(err @ github::Error::Unauthorized { .. }) => {
                let fingerprint = self.github.key_fingerprint().unwrap_or_else(|| "unknown".to_owned());
                Check::fault(area, APP, Code::AppKey, err.to_string()).advise(format!(
                    "the key's fingerprint is {fingerprint}: App {}'s settings on GitHub list those of its keys. If it is \
                     not among them, generate a new key there; if another App has it, GITHUB_APP_ID is wrong",
                    self.github.app_id()
                ))
            }
            Err(err @ github::Error::NotFound { .. }) => {
                Check::fault(area, APP, Code::AppId, err.to_string())
                    .advise("check GITHUB_APP_ID and GITHUB_API_URL")
            }
            Err(err @ github::Error::Unavailable { .. }) => {
                Check::fault(area, APP, Code::GitHubUnreachable, err.to_string())
                    .advise("check that GITHUB_API_URL can be reached from here, and githubstatus.com")
            }
            Err(err @ github::Error::RateLimited { .. }) => {
                Check::warning(area, APP, Code::BudgetUsedUp, err.to_string())
                    .advise("who else asks as this App? It is asked again after that")
            }
            Err(err) => Check::fault(area, APP, Code::GitHubRefuses, err.to_string())
                .advise("the words are GitHub's; check GITHUB_API_URL"),
        };
        [Some(app), self.check_clock(clock_is_refused)].into_iter().flatten().collect()
    }

    fn check_clock(&self, is_refused: bool) -> Option<Check> {
        let (area, what) = (Area::GitHub, "Clock");
        let ahead = self.github.ahead()?.num_seconds();
        let apart = issuers::apart(ahead, "GitHub's");
        let advice = "set this machine's clock by NTP: GitHub takes the App's signature only from a clock like its own";
        Some(match (is_refused, ahead.abs()) {
            (true, _) => Check::fault(area, what, Code::GitHubClock, apart).advise(advice),
            (false, SKEW..) => Check::warning(area, what, Code::GitHubClock, apart).advise(advice),
            (false, _) => Check::ok(area, what, apart),
        })
    }

    /// With the installation, if it may be asked for what is left of its hour.
    async fn check_target(&self, target: Target, patience: Patience) -> (Check, Option<Served>) {
        let (area, what) = (Area::Targets, target.to_string());
        let asked = patience.wait(self.github.installation_permissions(&target, patience.deadline())).await;
        match asked {
            Ok(Some(granted)) => {
                let check = self.judge(&target, &granted);
                let works = check.state != super::Health::Fault;
                (check, works.then_some(Served { target, installation: granted.installation }))
            }
            Ok(None) => {
                let detail = "the App is not installed there, or not for this repository";
                let check = Check::fault(area, what, Code::AppNotInstalled, detail)
                    .advise("install the App for it, on the App's page on GitHub");
                (check, None)
            }
            Err(err) => (unanswered(area, what, &err), None),
        }
    }

    fn judge(&self, target: &Target, granted: &InstallationPermissions) -> Check {
        let (area, what) = (Area::Targets, target.to_string());
        let installation = format!("installation {}", granted.installation);
        if granted.suspended {
            return Check::fault(area, what, Code::AppSuspended, format!("{installation} is suspended"))
                .advise("an owner of the account lifts that in its settings, under GitHub Apps");
        }
        if let Some(id) = self.github.configured_id(target).filter(|id| *id != granted.installation) {
            let detail = format!("GITHUB_APP_INSTALLATION_ID is {id}, but it is {installation}");
            return Check::fault(area, what, Code::InstallationId, detail)
                .advise("set it to that, or leave it out: it is looked up");
        }
        let (needed, wanted) = self.needed(target);
        let lacks = |of: &[(&'static str, &'static str)]| -> Vec<String> {
            let missing = of.iter().filter(|(name, level)| !granted.has(name, level));
            missing.map(|(name, level)| format!("{name}={level}")).collect()
        };
        let (needed, wanted) = (lacks(&needed), lacks(&wanted));
        let deaf = self.hears_of_jobs() && !granted.events.iter().any(|event| event == "workflow_job");
        let code = Code::PermissionMissing;
        let permit =
            "add it to the App's permissions; an owner of the account then accepts the new permissions";
        match (needed.is_empty(), wanted.is_empty(), deaf) {
            (false, ..) => {
                Check::fault(area, what, code, format!("{installation} lacks {}", needed.join(", ")))
                    .advise(permit)
            }
            (true, false, _) => {
                Check::warning(area, what, code, format!("{installation} lacks {}", wanted.join(", ")))
                    .advise(permit)
            }
            (true, true, true) => Check::warning(
                area,
                what,
                Code::EventMissing,
                format!("{installation} is not subscribed to workflow_job"),
            )
            .advise(
                "tick \"Workflow job\" among the App's events: jobs show here and runners' states come at once",
            ),
            (true, true, false) => {
                let held: Vec<String> =
                    granted.permissions.iter().map(|(name, level)| format!("{name}={level}")).collect();
                Check::ok(area, what, format!("{installation} has {}", held.join(", ")))
            }
        }
    }

    /// Without the first, no runners; without the second, what is configured does not work.
    fn needed(&self, target: &Target) -> (Vec<Level>, Vec<Level>) {
        let runners = match target {
            Target::Organization(_) => ("organization_self_hosted_runners", "write"),
            Target::Repository { .. } => ("administration", "write"),
        };
        let jobs = match (self.config.label_policy_enforcement, self.hears_of_jobs()) {
            (Enforcement::Enforce, _) => Some(("actions", "write")),
            (Enforcement::Audit, true) => Some(("actions", "read")),
            (Enforcement::Audit, false) => None,
        };
        (vec![runners], jobs.into_iter().collect())
    }

    pub(super) fn hears_of_jobs(&self) -> bool {
        self.webhooks.are_expected()
    }
}

type Level = (&'static str, &'static str);

/// A target with the installation that serves it.
pub(super) struct Served {
    pub target: Target,
    pub installation: u64,
}

/// What could not be learned. That GitHub cannot be reached or does not take the App's signature is the App's check.
pub(super) fn unanswered(area: Area, what: impl Into<String>, err: &github::Error) -> Check {
    match err {
        github::Error::Unauthorized { .. } => {
            Check::not_checked(area, what, "GitHub does not accept the App, see above")
        }
        github::Error::Unavailable { .. } | github::Error::RateLimited { .. } => {
            Check::not_checked(area, what, err.to_string())
        }
        err => {
            Check::fault(area, what, Code::GitHubRefuses, err.to_string()).advise("the words are GitHub's")
        }
    }
}
