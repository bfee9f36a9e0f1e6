//! Why a request is refused, in words for the caller. They quote what was sent and the limits of the caller's own team,
//! and nothing else of the policy.

use std::fmt;

use crate::model::{GroupRef, Label, Method, Target};

/// A refusal. Its text is the answer's `detail`, `code` its `error_code`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No team at all, or not in the named one, which may or may not exist.
    #[error("{}", no_team(.asked))]
    NoTeam { asked: Option<String> },
    /// The caller's own teams.
    #[error("You are in several teams; name one of them as team: {}", .teams.join(", "))]
    TeamRequired { teams: Vec<String> },
    #[error("Method '{0}' not permitted by policy")]
    Method(Method),
    #[error("Labels [{}] not permitted by policy", Quoted(.0))]
    Labels(Vec<Label>),
    #[error("With the required labels of the team, these are more than {} labels", Label::MOST)]
    TooManyLabels,
    /// `None`: the request named no target, and the default one is not permitted.
    #[error("{}", not_permitted("Target", .0, "The default target is not permitted by policy; name one"))]
    Target(Option<Target>),
    /// `None`: the request named no group, and the team has none on this target.
    #[error("{}", not_permitted("Runner group", .0, "No runner group is permitted by policy on this target"))]
    RunnerGroup(Option<GroupRef>),
    #[error("Team '{team}' has reached its limit of {}", counted(.most, "runner"))]
    QuotaExceeded { team: String, live: i64, most: i64 },
    #[error("Team '{team}' has reached its limit of {} per minute", counted(.most, "request"))]
    RateLimited { team: String, most: i64 },
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
