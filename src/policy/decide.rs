//! Ask × memberships → Grant or Denial. Only this file makes a `Grant`, and `github` accepts nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::denial::Denial;
use super::labels::is_reserved;
use super::rules::{Membership, Memberships, Team};
use crate::model::{
    Arch, DEFAULT_GROUP_ID, DEFAULT_GROUP_NAME, GroupRef, Label, Method, NameAsk, Os, Target, system_labels,
};

/// What a caller asks for, already well-formed.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: Method,
    pub name: NameAsk,
    pub labels: BTreeSet<Label>,
    pub team: Option<String>,
    pub target: Option<Target>,
    pub group: Option<GroupRef>,
    pub os: Os,
    pub arch: Arch,
    pub ephemeral: bool,
    pub disable_update: bool,
    pub work_folder: String,
}

/// What the team has used so far, counted under its lock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub live_runners: i64,
    /// Provisions in the last minute.
    pub recent_requests: i64,
}

/// One runner that the policy allows. Its fields are private so that nobody else can make one.
#[derive(Clone, Debug)]
pub struct Grant {
    team: String,
    rule: String,
    method: Method,
    target: Target,
    group_id: i64,
    labels: BTreeSet<Label>,
    ephemeral: bool,
    disable_update: bool,
    work_folder: String,
}

impl Grant {
    pub fn team(&self) -> &str {
        &self.team
    }

    /// Which member rule of the policy let the caller in, for the audit log.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    pub fn method(&self) -> Method {
        self.method
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn group_id(&self) -> i64 {
        self.group_id
    }

    /// All of them: the system's, the team's required ones and those asked for.
    pub fn labels(&self) -> &BTreeSet<Label> {
        &self.labels
    }

    pub fn ephemeral(&self) -> bool {
        self.ephemeral
    }

    pub fn disable_update(&self) -> bool {
        self.disable_update
    }

    pub fn work_folder(&self) -> &str {
        &self.work_folder
    }
}

/// Everything but numbers: team, method, target and labels are allowed; the group's name is not looked up
/// yet, and nobody has counted.
#[derive(Clone, Debug)]
pub struct Permit {
    team: Arc<Team>,
    rule: String,
    method: Method,
    target: Target,
    group: Option<GroupRef>,
    labels: BTreeSet<Label>,
    ephemeral: bool,
    disable_update: bool,
    work_folder: String,
}

/// Whether the caller may have such a runner at all.
pub fn consider(memberships: &Memberships, ask: &Ask) -> Result<Permit, Denial> {
    let Membership { team, rule } = choose_team(&memberships.teams, ask.team.as_deref())?;
    if !team.methods.contains(&ask.method) {
        return Err(Denial::Method(ask.method));
    }
    let target = ask.target.clone().unwrap_or_else(|| team.defaults.target.clone());
    if !team.targets.iter().any(|pattern| pattern.matches(&target)) {
        return Err(Denial::Target(ask.target.clone()));
    }
    Ok(Permit {
        team: team.clone(),
        rule: rule.clone(),
        method: ask.method,
        target,
        group: ask.group.clone(),
        labels: all_labels(team, ask)?,
        ephemeral: ask.ephemeral || ask.method == Method::Jit,
        disable_update: ask.disable_update,
        work_folder: ask.work_folder.clone(),
    })
}

fn choose_team<'m>(teams: &'m [Membership], asked: Option<&str>) -> Result<&'m Membership, Denial> {
    match (asked, teams) {
        (Some(name), _) => teams
            .iter()
            .find(|membership| membership.team.name.eq_ignore_ascii_case(name))
            .ok_or_else(|| Denial::NoTeam { asked: Some(name.to_owned()) }),
        (None, []) => Err(Denial::NoTeam { asked: None }),
        (None, [only]) => Ok(only),
        (None, several) => {
            let teams = several.iter().map(|membership| membership.team.name.clone()).collect();
            Err(Denial::TeamRequired { teams })
        }
    }
}

/// Those that every runner of this team and system has, and those asked for, if each is allowed.
fn all_labels(team: &Team, ask: &Ask) -> Result<BTreeSet<Label>, Denial> {
    let mut labels = system_labels(ask.os, ask.arch);
    labels.extend(team.required_labels.iter().cloned());
    let custom: BTreeSet<Label> = ask.labels.difference(&labels).cloned().collect();
    let refused: Vec<Label> = custom.iter().filter(|label| !is_allowed(team, label)).cloned().collect();
    if !refused.is_empty() {
        return Err(Denial::Labels(refused));
    }
    labels.extend(custom);
    if labels.len() > Label::MOST { Err(Denial::TooManyLabels) } else { Ok(labels) }
}

fn is_allowed(team: &Team, label: &Label) -> bool {
    let text = label.as_str();
    match is_reserved(label) {
        true => team.allowed_labels.iter().any(|pattern| pattern.is_exactly(text)),
        false => team.allowed_labels.iter().any(|pattern| pattern.matches(text)),
    }
}

/// The labels that are nobody's to choose: every runner has some of them.
const SYSTEM: [&str; 7] = ["self-hosted", "linux", "windows", "macos", "x64", "arm64", "arm"];

/// Those of a runner's labels that somebody chose, as they are written.
pub fn custom(labels: &[String]) -> Vec<String> {
    let is_system = |label: &str| SYSTEM.iter().any(|system| system.eq_ignore_ascii_case(label));
    labels.iter().filter(|label| !is_system(label)).cloned().collect()
}

impl Team {
    /// Those of a runner's labels that the team may not have, as they are written.
    pub fn unpermitted(&self, labels: &[String]) -> Vec<String> {
        let is_permitted = |label: &String| {
            label
                .parse()
                .is_ok_and(|label: Label| self.required_labels.contains(&label) || is_allowed(self, &label))
        };
        custom(labels).into_iter().filter(|label| !is_permitted(label)).collect()
    }

    /// Whether its runners may be put there.
    pub fn covers(&self, target: &Target) -> bool {
        self.targets.iter().any(|pattern| pattern.matches(target))
    }
}

impl Permit {
    pub fn team(&self) -> &str {
        &self.team.name
    }

    /// Which member rule of the policy let the caller in.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    pub fn method(&self) -> Method {
        self.method
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// All that the runner would have.
    pub fn labels(&self) -> &BTreeSet<Label> {
        &self.labels
    }

    /// Whether anything has to be counted before this can be granted.
    pub fn is_limited(&self) -> bool {
        self.team.max_runners.is_some() || self.team.requests_per_minute.is_some()
    }

    /// Live runners that the team may have; `None`: nobody needs to count them.
    pub fn max_runners(&self) -> Option<i64> {
        self.team.max_runners
    }

    /// Provisions in a minute; `None`: nobody needs to count them.
    pub fn requests_per_minute(&self) -> Option<i64> {
        self.team.requests_per_minute
    }

    /// The runner groups whose ids on `target` decide; empty: none is needed, GitHub is not asked.
    pub fn group_names(&self) -> BTreeSet<&str> {
        if matches!(self.target, Target::Repository { .. }) {
            return BTreeSet::new();
        }
        let id = match &self.group {
            Some(GroupRef::Id(id)) => Some(*id),
            Some(GroupRef::Name(_)) => None,
            None => Some(self.team.defaults.group_id),
        };
        if id.is_some_and(|id| self.team.runner_groups.contains(&GroupRef::Id(id))) {
            return BTreeSet::new();
        }
        self.group.iter().chain(&self.team.runner_groups).filter_map(name_of).collect()
    }

    /// Settles the group. `ids` holds what GitHub calls the `group_names`; one that is not on the target is
    /// left out. Groups are compared by id alone.
    pub fn place(self, ids: &BTreeMap<String, i64>) -> Result<Placed, Denial> {
        let group_id = match &self.target {
            Target::Organization(_) => self.organization_group(ids),
            Target::Repository { .. } => self.repository_group(),
        };
        match group_id {
            Some(group_id) => Ok(Placed { permit: self, group_id }),
            None => Err(Denial::RunnerGroup(self.group)),
        }
    }

    fn organization_group(&self, ids: &BTreeMap<String, i64>) -> Option<i64> {
        let id = |group: &GroupRef| match group {
            GroupRef::Id(id) => Some(*id),
            GroupRef::Name(name) => ids.get(name).copied(),
        };
        let allowed: Vec<i64> = self.team.runner_groups.iter().filter_map(id).collect();
        let default = self.team.defaults.group_id;
        match &self.group {
            Some(asked) => id(asked).filter(|id| allowed.contains(id)),
            None if allowed.contains(&default) => Some(default),
            None => allowed.first().copied(),
        }
    }

    /// A repository has the default group only.
    fn repository_group(&self) -> Option<i64> {
        let fits = match &self.group {
            None => true,
            Some(GroupRef::Id(asked)) => *asked == DEFAULT_GROUP_ID,
            Some(GroupRef::Name(asked)) => asked.eq_ignore_ascii_case(DEFAULT_GROUP_NAME),
        };
        fits.then_some(DEFAULT_GROUP_ID)
    }
}

fn name_of(group: &GroupRef) -> Option<&str> {
    match group {
        GroupRef::Id(_) => None,
        GroupRef::Name(name) => Some(name),
    }
}

/// A permit whose runner group is settled. What is left is to count.
#[derive(Clone, Debug)]
pub struct Placed {
    permit: Permit,
    group_id: i64,
}

impl Placed {
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    pub fn group_id(&self) -> i64 {
        self.group_id
    }

    /// The last word. `usage` is counted under the team's lock if the team has a limit, else it may be zero.
    pub fn grant(&self, usage: Usage) -> Result<Grant, Denial> {
        let permit = &self.permit;
        if let Some(most) = permit.max_runners().filter(|most| usage.live_runners >= *most) {
            return Err(Denial::QuotaExceeded { live: usage.live_runners, most });
        }
        if let Some(most) = permit.requests_per_minute().filter(|most| usage.recent_requests >= *most) {
            return Err(Denial::RateLimited { most });
        }
        Ok(Grant {
            team: permit.team.name.clone(),
            rule: permit.rule.clone(),
            method: permit.method,
            target: permit.target.clone(),
            group_id: self.group_id,
            labels: permit.labels.clone(),
            ephemeral: permit.ephemeral,
            disable_update: permit.disable_update,
            work_folder: permit.work_folder.clone(),
        })
    }
}
