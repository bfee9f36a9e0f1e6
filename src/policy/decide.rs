//! [`Ask`] × [`Memberships`] → [`Grant`] or [`Denial`]. Only this file makes a [`Grant`], and `github` accepts nothing
//! else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::denial::Denial;
use super::labels::all_labels;
use super::rules::{Membership, Memberships, Team};
use crate::model::{
    Arch, DEFAULT_GROUP_ID, DEFAULT_GROUP_NAME, GroupRef, Label, Method, NameAsk, Os, Target,
};

/// What a caller asks for, already well-formed.
#[derive(Clone, Debug)]
pub struct Ask {
    /// How the runner will be registered.
    pub method: Method,
    /// Its name, or the beginning of a generated one.
    pub name: NameAsk,
    /// The labels that the caller wants; others are added to them, see [`Grant::labels`].
    pub labels: BTreeSet<Label>,
    /// `None`: the caller's only team.
    pub team: Option<String>,
    /// `None`: [`Defaults::target`](super::Defaults::target).
    pub target: Option<Target>,
    /// `None`: the default group if the team may use it, else the team's first one.
    pub group: Option<GroupRef>,
    /// The system that the runner will run on.
    pub os: Os,
    /// The processor that the runner will run on.
    pub arch: Arch,
    /// Whether the runner takes one job only; always so with [`Method::Jit`].
    pub ephemeral: bool,
    /// Whether the runner must not update itself.
    pub disable_update: bool,
    /// The folder for jobs, relative to the runner's own.
    pub work_folder: String,
}

/// What the team has used so far, counted under its lock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Runners of the team in a [live state](crate::model::Status::LIVE).
    pub live_runners: i64,
    /// Provisions in the last minute.
    pub recent_requests: i64,
}

/// One runner that the policy allows. The fields are private: only [`Placed::grant`] makes one.
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
    /// The name of the team that the runner belongs to.
    pub fn team(&self) -> &str {
        &self.team
    }

    /// The policy's rule that let the caller in, such as `team ml, member 2`; for the audit log.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// How the runner is registered.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The organisation or repository that the runner is registered with.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// GitHub's id of the runner group. In a repository it is always 1, the only group there.
    pub fn group_id(&self) -> i64 {
        self.group_id
    }

    /// All labels of the runner: the system's, the team's required ones and those asked for. 3 to [`Label::MOST`].
    pub fn labels(&self) -> &BTreeSet<Label> {
        &self.labels
    }

    /// Whether the runner takes one job only; always `true` with [`Method::Jit`].
    pub fn ephemeral(&self) -> bool {
        self.ephemeral
    }

    /// Whether the runner must not update itself.
    pub fn disable_update(&self) -> bool {
        self.disable_update
    }

    /// The folder for jobs, relative to the runner's own.
    pub fn work_folder(&self) -> &str {
        &self.work_folder
    }
}

/// A request whose team, method, target and labels are allowed. Still open: the runner group
/// ([`Permit::place`]) and the team's limits ([`Placed::grant`]).
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

/// Decides everything but the runner group and the limits: the caller's team, the method, the target and the labels.
///
/// # Errors
/// The first of [`Denial::NoTeam`], [`Denial::TeamRequired`], [`Denial::Method`], [`Denial::Target`],
/// [`Denial::Labels`] and [`Denial::TooManyLabels`] that applies.
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
        labels: all_labels(team, ask.os, ask.arch, &ask.labels)?,
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

impl Team {
    /// Whether the team may register runners with this target.
    pub fn covers(&self, target: &Target) -> bool {
        self.targets.iter().any(|pattern| pattern.matches(target))
    }
}

impl Permit {
    /// The name of the team that the runner will belong to.
    pub fn team(&self) -> &str {
        &self.team.name
    }

    /// The policy's rule that let the caller in, such as `team ml, member 2`.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// How the runner will be registered.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The organisation or repository that the runner will be registered with.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// All labels that the runner will have, as [`Grant::labels`].
    pub fn labels(&self) -> &BTreeSet<Label> {
        &self.labels
    }

    /// Whether [`Placed::grant`] needs a counted [`Usage`], because the team has a limit.
    pub fn is_limited(&self) -> bool {
        self.team.max_runners.is_some() || self.team.requests_per_minute.is_some()
    }

    /// The team's limit of live runners; `None`: there is none.
    pub fn max_runners(&self) -> Option<i64> {
        self.team.max_runners
    }

    /// The team's limit of provisions in a minute; `None`: there is none.
    pub fn requests_per_minute(&self) -> Option<i64> {
        self.team.requests_per_minute
    }

    /// The names of runner groups whose ids [`Permit::place`] needs, to be looked up on [`Permit::target`]. Empty: it
    /// needs none, and GitHub need not be asked.
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

    /// Settles the runner group. `ids` has GitHub's id for each of [`Permit::group_names`] that exists on the target.
    /// Groups are compared by id alone.
    ///
    /// # Errors
    /// [`Denial::RunnerGroup`]: the team may not use the group, or the target does not have it.
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

/// A permit whose runner group is settled. Still open: the team's limits.
#[derive(Clone, Debug)]
pub struct Placed {
    permit: Permit,
    group_id: i64,
}

impl Placed {
    /// The permit that was placed.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// GitHub's id of the runner group, as [`Grant::group_id`].
    pub fn group_id(&self) -> i64 {
        self.group_id
    }

    /// Grants the runner if the team's limits leave room for it. `usage` must be counted under the team's lock if
    /// [`Permit::is_limited`]; otherwise it may be zero.
    ///
    /// # Errors
    /// [`Denial::QuotaExceeded`] or [`Denial::RateLimited`].
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
