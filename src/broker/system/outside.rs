//! What GitHub says of the App and of each target's installation, with exactly what is missing.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use super::{Area, Check};
use crate::broker::Broker;
use crate::config::Enforcement;
use crate::github::{self, Deadline, Granted};
use crate::model::Target;
use crate::store::sync_targets;

/// For one answer; one that hangs keeps the others waiting no longer.
const LIMIT: Duration = Duration::from_millis(1_500);
/// How many are asked about at the same time, and at all.
const AT_ONCE: usize = 16;
const TARGETS: usize = 100;

impl Broker {
    pub(super) async fn checks_of_github(&self) -> Vec<Check> {
        let targets = self.targets_to_check().await;
        let asked = targets.iter().take(TARGETS).cloned().map(|target| self.check_target(target));
        let (app, mut checks) =
            tokio::join!(self.check_app(), stream::iter(asked).buffered(AT_ONCE).collect::<Vec<_>>());
        if targets.len() > TARGETS {
            let more = targets.len() - TARGETS;
            checks.push(Check::ok(Area::Targets, "More targets", format!("{more} were not looked at")));
        }
        checks.push(app);
        checks
    }

    /// Those that are swept, and the one that a request means which names none.
    async fn targets_to_check(&self) -> Vec<Target> {
        let swept = match self.store.conn().await {
            Ok(mut conn) => sync_targets::all(&mut conn).await,
            Err(err) => Err(err),
        };
        let mut targets: Vec<Target> = swept.unwrap_or_default().into_iter().map(|row| row.target).collect();
        if !targets.contains(&self.org) {
            targets.insert(0, self.org.clone());
        }
        targets
    }

    async fn check_app(&self) -> Check {
        let (area, what) = (Area::GitHub, "The App");
        let asked = tokio::time::timeout(LIMIT, self.github.app_state(Deadline::within(LIMIT))).await;
        match asked.unwrap_or_else(|_| Err(hangs())) {
            Ok(app) => {
                let owner = app.owner.and_then(|owner| owner.login).unwrap_or_default();
                let detail = format!("{} (id {}), registered by {owner}: {}", app.name, app.id, app.html_url);
                Check::ok(area, what, detail)
            }
            Err(err @ (github::Error::Unauthorized { .. } | github::Error::NotFound { .. })) => {
                Check::fault(area, what, err.to_string()).advise(
                    "check GITHUB_APP_ID and the private key: the App's settings on GitHub list its keys",
                )
            }
            Err(err) => Check::fault(area, what, err.to_string())
                .advise("check that GITHUB_API_URL can be reached from here, and githubstatus.com"),
        }
    }

    async fn check_target(&self, target: Target) -> Check {
        let (area, what) = (Area::Targets, target.to_string());
        let asked = tokio::time::timeout(LIMIT, self.github.granted(&target, Deadline::within(LIMIT))).await;
        match asked.unwrap_or_else(|_| Err(hangs())) {
            Ok(Some(granted)) => self.judge(&target, &granted),
            Ok(None) => {
                Check::fault(area, what, "the App is not installed there, or not for this repository")
                    .advise("install the App for it, on the App's page on GitHub")
            }
            Err(err) => Check::fault(area, what, err.to_string()),
        }
    }

    fn judge(&self, target: &Target, granted: &Granted) -> Check {
        let (area, what) = (Area::Targets, target.to_string());
        let installation = format!("installation {}", granted.installation);
        if granted.suspended {
            return Check::fault(area, what, format!("{installation} is suspended"))
                .advise("an owner of the account lifts that in its settings, under GitHub Apps");
        }
        let (needed, wanted) = self.needed(target);
        let lacks = |of: &[(&'static str, &'static str)]| -> Vec<String> {
            let missing = of.iter().filter(|(name, level)| !granted.has(name, level));
            missing.map(|(name, level)| format!("{name}={level}")).collect()
        };
        let (needed, wanted) = (lacks(&needed), lacks(&wanted));
        let deaf = self.hears_of_jobs() && !granted.events.iter().any(|event| event == "workflow_job");
        let permit =
            "add it to the App's permissions; an owner of the account then accepts the new permissions";
        match (needed.is_empty(), wanted.is_empty(), deaf) {
            (false, ..) => {
                Check::fault(area, what, format!("{installation} lacks {}", needed.join(", "))).advise(permit)
            }
            (true, false, _) => {
                Check::warning(area, what, format!("{installation} lacks {}", wanted.join(", ")))
                    .advise(permit)
            }
            (true, true, true) => Check::warning(
                area,
                what,
                format!("{installation} is not subscribed to workflow_job"),
            )
            .advise(
                "tick «Workflow job» among the App's events: jobs show here and runners' states come at once",
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

fn hangs() -> github::Error {
    github::Error::Unavailable {
        maybe_done: false,
        why: format!("no answer within {} ms", LIMIT.as_millis()),
    }
}
