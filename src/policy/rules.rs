//! The policy compiled once: patterns ready to match, members found by their issuer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::claims::ClaimRule;
use super::pattern::Pattern;
use super::targets::TargetPattern;
use crate::model::{GroupRef, Label, Method, Role, Target};

/// The values for a team that does not set its own.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// `GITHUB_ORG`: the target of a team, and of a request, that names none.
    pub target: Target,
    /// `DEFAULT_RUNNER_GROUP_ID`.
    pub group_id: i64,
}

/// What a team may do, compiled.
#[derive(Clone, Debug)]
pub struct Team {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) required_labels: BTreeSet<Label>,
    pub(super) allowed_labels: Vec<Pattern>,
    pub(super) methods: Vec<Method>,
    pub(super) targets: Vec<TargetPattern>,
    pub(super) runner_groups: Vec<GroupRef>,
    pub(super) max_runners: Option<i64>,
    pub(super) requests_per_minute: Option<i64>,
    pub(super) defaults: Arc<Defaults>,
}

impl Team {
    /// As the policy writes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// For people; may be empty.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Labels that every runner of the team gets.
    pub fn required_labels(&self) -> &BTreeSet<Label> {
        &self.required_labels
    }

    /// The patterns as they were written.
    pub fn allowed_labels(&self) -> impl Iterator<Item = &str> {
        self.allowed_labels.iter().map(Pattern::as_str)
    }

    /// How its runners may be registered; never empty.
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// The patterns as they were written, or the default target.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(TargetPattern::as_str)
    }

    /// The groups as they were written, or the default group.
    pub fn runner_groups(&self) -> &[GroupRef] {
        &self.runner_groups
    }

    /// Live runners at the same time; `None`: no limit.
    pub fn max_runners(&self) -> Option<i64> {
        self.max_runners
    }

    /// Provisions in a minute; `None`: no limit.
    pub fn requests_per_minute(&self) -> Option<i64> {
        self.requests_per_minute
    }
}

/// A team of the caller's.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The team.
    pub team: Arc<Team>,
    /// The policy's rule that makes the caller a member, such as `team ml, member 2`.
    pub rule: String,
}

/// A caller's teams and roles. Empty for a caller whom no rule matches.
#[derive(Clone, Debug, Default)]
pub struct Memberships {
    /// The teams in the document's order, each once.
    pub teams: Vec<Membership>,
    /// Each role with the rule that gives it, such as `admin 1`.
    pub roles: BTreeMap<Role, String>,
}

impl Memberships {
    /// Whether the caller has this role.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains_key(&role)
    }

    /// Whether the caller has neither a team nor a role.
    pub fn is_stranger(&self) -> bool {
        self.teams.is_empty() && self.roles.is_empty()
    }
}

/// The whole policy, compiled by [`Rules::compile`]. It never changes: a new document makes new rules.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub(super) teams: Vec<Arc<Team>>,
    /// By issuer, so that a token of an issuer that the policy never names costs one look-up.
    pub(super) members: HashMap<String, Vec<MemberRule>>,
    /// Likewise.
    pub(super) denials: HashMap<String, Vec<DenyRule>>,
}

#[derive(Clone, Debug)]
pub(super) struct DenyRule {
    pub(super) rule: String,
    pub(super) claims: Vec<ClaimRule>,
    /// `None`: it never ends.
    pub(super) until: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug)]
pub(super) struct MemberRule {
    pub(super) gives: Gives,
    pub(super) rule: String,
    pub(super) claims: Vec<ClaimRule>,
}

#[derive(Clone, Debug)]
pub(super) enum Gives {
    Team(Arc<Team>),
    Role(Role),
}

impl Rules {
    /// The caller's teams and roles, by the verified claims of their token.
    pub fn memberships(&self, issuer: &str, claims: &Map<String, Value>) -> Memberships {
        let mut found = Memberships::default();
        for member in self.members.get(issuer).into_iter().flatten() {
            let is_known = match &member.gives {
                // A team's members stand together, so that it can only be the last one found.
                Gives::Team(team) => found.teams.last().is_some_and(|last| Arc::ptr_eq(&last.team, team)),
                Gives::Role(role) => found.has(*role),
            };
            if is_known || !member.claims.iter().all(|claim| claim.matches(claims)) {
                continue;
            }
            let rule = member.rule.clone();
            match &member.gives {
                Gives::Team(team) => found.teams.push(Membership { team: team.clone(), rule }),
                Gives::Role(role) => {
                    found.roles.insert(*role, rule);
                }
            }
        }
        found
    }

    /// The deny rule that refuses the caller at this time, such as `deny 2`, whatever teams and roles they have.
    pub fn denied(&self, issuer: &str, claims: &Map<String, Value>, now: DateTime<Utc>) -> Option<&str> {
        let denials = self.denials.get(issuer)?;
        let denied = denials.iter().find(|denial| {
            denial.until.is_none_or(|until| now < until)
                && denial.claims.iter().all(|claim| claim.matches(claims))
        });
        denied.map(|denial| denial.rule.as_str())
    }

    /// All teams in the document's order.
    pub fn teams(&self) -> &[Arc<Team>] {
        &self.teams
    }

    /// The team with this name, without regard to case: no two names differ in case alone.
    pub fn team(&self, name: &str) -> Option<&Arc<Team>> {
        self.teams.iter().find(|team| team.name.eq_ignore_ascii_case(name))
    }
}
