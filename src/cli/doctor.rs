//! `doctor`: checks everything that the broker needs.

use std::io::IsTerminal;

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;

use super::policy_file::PolicyFile;
use super::serve;
use super::{CommandResult, Failure, print};
use crate::auth::Verifier;
use crate::broker::Broker;
use crate::broker::checks::{self, Area, Check, Code, Health};
use crate::clock::Clock;
use crate::config::Config;
use crate::model::with_causes;
use crate::policy::Defaults;
use crate::store::Store;

/// Some checks run side by side.
const CONNECTIONS: usize = 4;

#[derive(Args)]
pub struct Doctor {
    /// One JSON object, as docs/DOCTOR.md describes it
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub async fn run(self) -> CommandResult {
        let clock = Clock::default();
        let checks = examine(&clock).await?;
        let report = match self.json {
            true => json(&checks, clock.now())?,
            false => text(&checks, is_colourful()),
        };
        print(&report)?;
        let faults = checks.iter().filter(|check| check.state == Health::Fault);
        let (configured, others): (Vec<_>, Vec<_>) =
            faults.partition(|check| check.area == Area::Configuration);
        match (configured.len(), others.len()) {
            (0, 0) => Ok(()),
            (0, others) => Err(Failure::Failed(format!("{others} fault(s)"))),
            (faults, _) => Err(Failure::Usage(format!("the configuration has {faults} fault(s)"))),
        }
    }
}

/// All checks, in the order of their areas, with the faults that `serve` would report at its start.
async fn examine(clock: &Clock) -> Result<Vec<Check>, Failure> {
    let (config, faults) = Config::from_env_with_faults();
    let mut checks: Vec<Check> =
        faults.each().map(|(variable, why)| Check::configuration(variable, why)).collect();
    let wrong = |name: &str| faults.each().any(|(variable, _)| variable.starts_with(name));
    let verifier = Verifier::new(&config.oidc, clock.clone());
    let verifier = verifier.map_err(|err| Failure::Failed(with_causes(&err)))?;

    let defaults =
        Defaults { target: config.github.org.clone(), group_id: config.broker.default_runner_group_id };
    let policy = config.policy_file.as_deref().map(|path| PolicyFile::read(path, &defaults)).transpose();
    checks.extend(policy.err().map(of_configuration));
    let signer = config.broker.audit_signing_key.as_deref().map(serve::signing_key).transpose();
    let github = (!wrong("GITHUB_")).then(|| serve::github(&config.github, clock)).transpose();
    let store = (!wrong("DATABASE_URL")).then(|| Store::new(&config.database_url, CONNECTIONS)).transpose();
    let store = store.map_err(Failure::from);

    let is_meant_to_sign = signer.is_err();
    let signer = or_check(signer, &mut checks);
    match (or_check(github, &mut checks), or_check(store, &mut checks)) {
        (Some(github), Some(store)) => {
            let broker = Broker::new(config.broker.clone(), &config.github, store, github, clock.clone());
            broker.show_config(&config);
            if let Some(signer) = signer {
                broker.sign_with(signer);
            }
            checks.extend(broker.doctor(&verifier).await);
        }
        _ => checks.extend(checks::without_broker(&config, &verifier, clock).await),
    }
    // An unreadable file is reported under its variable already.
    if wrong("HTTPS_") {
        checks.retain(|check| check.area != Area::Certificate);
    }
    if is_meant_to_sign {
        checks.retain(|check| check.code != Some(Code::CheckpointsUnsigned));
    }
    Ok(checks)
}

/// The value, or a check that says why there is none.
fn or_check<T>(result: Result<Option<T>, Failure>, checks: &mut Vec<Check>) -> Option<T> {
    result.unwrap_or_else(|failure| {
        checks.push(of_configuration(failure));
        None
    })
}

/// The check for a message like `VARIABLE: reason`.
fn of_configuration(failure: Failure) -> Check {
    let why = match failure {
        Failure::Usage(why) | Failure::Failed(why) => why,
        Failure::Exit(code) => format!("exit code {code}"),
    };
    let (variable, why) = why.split_once(": ").unwrap_or(("", &why));
    Check::configuration(variable, why)
}

/// The report as `--json` prints it.
#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    checked_at: DateTime<Utc>,
    state: &'static str,
    checks: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    area: &'static str,
    what: &'a str,
    state: &'static str,
    code: Option<&'static str>,
    detail: &'a str,
    advice: Option<&'a str>,
}

impl<'a> From<&'a Check> for Line<'a> {
    fn from(check: &'a Check) -> Line<'a> {
        Line {
            area: check.area.key(),
            what: &check.what,
            state: check.state.as_str(),
            code: check.code.map(Code::as_str),
            detail: &check.detail,
            advice: check.advice.as_deref(),
        }
    }
}

fn json(checks: &[Check], checked_at: DateTime<Utc>) -> Result<String, Failure> {
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        checked_at,
        state: checks::worst(checks).as_str(),
        checks: checks.iter().map(Line::from).collect(),
    };
    let text = serde_json::to_string_pretty(&report).map_err(|err| Failure::Failed(err.to_string()))?;
    Ok(text + "\n")
}

/// The widest name that the column of details is aligned to.
const MAX_WIDTH: usize = 32;

/// The report for people: a heading per area, a line per check with the advice below it, and the totals.
fn text(checks: &[Check], colourful: bool) -> String {
    let width = checks.iter().map(|check| check.what.chars().count()).filter(|width| *width <= MAX_WIDTH);
    let width = width.max().unwrap_or(0);
    let mut text = String::new();
    let mut area = None;
    for check in checks {
        if area.replace(check.area) != Some(check.area) {
            text += &format!("{}\n", check.area.as_str());
        }
        let state = format!("{:<7}", check.state.as_str());
        let state = if colourful { coloured(check.state, &state) } else { state };
        text += &format!("  {state}  {:<width$}  {}\n", plain(&check.what), plain(&check.detail));
        if let Some(advice) = &check.advice {
            text += &format!("           → {}\n", plain(advice));
        }
    }
    let count = |state| checks.iter().filter(|check| check.state == state).count();
    let [faults, warnings, fine] = [Health::Fault, Health::Warning, Health::Ok].map(count);
    text + &format!("{faults} fault(s), {warnings} warning(s), {fine} ok\n")
}

fn coloured(state: Health, text: &str) -> String {
    let colour = match state {
        Health::Ok => 32,
        Health::Warning => 33,
        Health::Fault => 31,
    };
    format!("\x1b[{colour}m{text}\x1b[0m")
}

/// Texts of others must not move the cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// <https://no-color.org>
fn is_colourful() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    std::io::stdout().is_terminal() && !refused && !is_dumb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_in_line_and_coloured_only_where_it_is_wanted() {
        let broken = Check::configuration("PORT", "found 'x\x1b[2J', wanted\na number");
        let good = Check { what: "GITHUB_ORG".into(), state: Health::Ok, advice: None, ..broken.clone() };
        let checks = [broken, good];
        let seen = text(&checks, false);
        assert!(
            seen.starts_with("Configuration\n  fault    PORT        found 'x [2J', wanted a number\n"),
            "{seen}"
        );
        assert!(
            seen.contains("\n           → correct") && seen.ends_with("\n1 fault(s), 0 warning(s), 1 ok\n"),
            "{seen}"
        );
        assert!(seen.contains("\n  ok       GITHUB_ORG  found"), "{seen}");
        let bright = text(&checks, true);
        assert!(
            bright.contains("  \x1b[31mfault  \x1b[0m  PORT") && bright.contains("\x1b[32mok     \x1b[0m"),
            "{bright}"
        );
    }
}
