//! Why a request is refused, in words for the caller. They quote what was sent and the limits of the caller's own team,
//! and nothing else of the policy.

use std::fmt;

use crate::model::{GroupRef, Label, Method, Target};

/// A refusal. Its text is the answer's `detail`, `code` its `error_code`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No team at all, or not in the named one, which may or may not exist.
    #[error("{}", no_team(.asked))]
    NoTeam {
        /// The team that the request named, if any.
        asked: Option<String>,
    },
    /// The request named no team, and the caller is in several.
    #[error("You are in several teams; name one of them as team: {}", .teams.join(", "))]
    TeamRequired {
        /// The caller's teams.
        teams: Vec<String>,
    },
    /// The team may not register runners in this way.
    #[error("Method '{0}' not permitted by policy")]
    Method(Method),
    /// The team may not use these labels.
    #[error("Labels [{}] not permitted by policy", Quoted(.0))]
    Labels(Vec<Label>),
    /// More labels than GitHub takes for one runner.
    #[error("With the required labels of the team, these are more than {} labels", Label::MOST)]
    TooManyLabels,
    /// The team may not use this target. `None`: the request named no target, and the default one is not permitted.
    #[error("{}", not_permitted("Target", .0, "The default target is not permitted by policy; name one"))]
    Target(Option<Target>),
    /// The team may not use this group. `None`: the request named no group, and the team has none on this target.
    #[error("{}", not_permitted("Runner group", .0, "No runner group is permitted by policy on this target"))]
    RunnerGroup(Option<GroupRef>),
    /// The team has reached its `max_runners`.
    #[error("Team '{team}' has reached its limit of {}", counted(.most, "runner"))]
    QuotaExceeded {
        /// The team's name.
        team: String,
        /// The team's live runners.
        live: i64,
        /// Its limit.
        most: i64,
    },
    /// The team has reached its `requests_per_minute`.
    #[error("Team '{team}' has reached its limit of {} per minute", counted(.most, "request"))]
    RateLimited {
        /// The team's name.
        team: String,
        /// Its limit.
        most: i64,
    },
}

impl Denial {
    /// The contract's error code.
    pub fn code(&self) -> &'static str {
        match self {
            Denial::NoTeam { .. } => "NO_TEAM",
            Denial::TeamRequired { .. } => "TEAM_REQUIRED",
            Denial::Method(_) => "METHOD_NOT_ALLOWED_BY_POLICY",
            Denial::Labels(_) => "LABEL_POLICY_VIOLATION",
            Denial::TooManyLabels => "INVALID_REQUEST",
            Denial::Target(_) => "TARGET_NOT_ALLOWED",
            Denial::RunnerGroup(_) => "RUNNER_GROUP_NOT_ALLOWED",
            Denial::QuotaExceeded { .. } => "QUOTA_EXCEEDED",
            Denial::RateLimited { .. } => "RATE_LIMITED",
        }
    }
}

/// "1 runner", "12 runners".
fn counted(count: &i64, noun: &str) -> String {
    format!("{count} {noun}{}", if *count == 1 { "" } else { "s" })
}

fn no_team(asked: &Option<String>) -> String {
    match asked {
        Some(team) => format!("You are not in a team '{team}'"),
        None => "You are in no team".to_owned(),
    }
}

fn not_permitted(what: &str, asked: &Option<impl fmt::Display>, otherwise: &str) -> String {
    match asked {
        Some(asked) => format!("{what} '{asked}' not permitted by policy"),
        None => otherwise.to_owned(),
    }
}

/// `'a', 'b'`
struct Quoted<'a>(&'a [Label]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(|label| format!("'{label}'")).collect();
        f.write_str(&texts.join(", "))
    }
}
