//! The policy compiled once: patterns ready to match, members found by their issuer.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::claims::ClaimRule;
use super::document::{Document, Fault, Lines, Member, TeamEntry};
use super::pattern::Pattern;
use super::targets::TargetPattern;
use crate::model::{GroupRef, Label, Method, Role, Target};

/// The most labels that every runner has anyway: `self-hosted`, the system, the processor.
const SYSTEM_LABELS: usize = 3;

/// What holds where a team says nothing.
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
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn description(&self) -> &str {
        &self.description
    }

    /// Put on every runner of the team.
    pub fn required_labels(&self) -> &BTreeSet<Label> {
        &self.required_labels
    }

    /// The patterns as they were written.
    pub fn allowed_labels(&self) -> impl Iterator<Item = &str> {
        self.allowed_labels.iter().map(Pattern::as_str)
    }

    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// The patterns as they were written, or the default target.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(TargetPattern::as_str)
    }

    /// As they were written, or the default group.
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

/// A team of the caller's, and the rule of the policy that says so, such as `team ml, member 2`.
#[derive(Clone, Debug)]
pub struct Membership {
    pub team: Arc<Team>,
    pub rule: String,
}

/// What the policy says about a caller. A stranger's is empty.
#[derive(Clone, Debug, Default)]
pub struct Memberships {
    /// In the document's order, each team once.
    pub teams: Vec<Membership>,
    /// Each with the rule that gives it, such as `admin 1`.
    pub roles: BTreeMap<Role, String>,
}

impl Memberships {
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains_key(&role)
    }

    /// Neither a team nor a role.
    pub fn is_stranger(&self) -> bool {
        self.teams.is_empty() && self.roles.is_empty()
    }
}

/// The whole policy, compiled. It never changes: a new document makes new rules.
#[derive(Clone, Debug)]
pub struct Rules {
    teams: Vec<Arc<Team>>,
    /// By issuer, so that a token of an issuer that the policy never names costs one look-up.
    members: HashMap<String, Vec<MemberRule>>,
}

#[derive(Clone, Debug)]
struct MemberRule {
    gives: Gives,
    rule: String,
    claims: Vec<ClaimRule>,
}

#[derive(Clone, Debug)]
enum Gives {
    Team(Arc<Team>),
    Role(Role),
}

impl Rules {
    /// Compiles the document, or says everything that is wrong with it.
    pub fn compile(document: &Document, defaults: &Defaults) -> Result<Rules, Vec<Fault>> {
        let mut compiler =
            Compiler { lines: &document.lines, defaults: Arc::new(defaults.clone()), faults: Vec::new() };
        let rules = compiler.rules(document);
        compiler.faults.sort_by_key(|fault| fault.line);
        if compiler.faults.is_empty() { Ok(rules) } else { Err(compiler.faults) }
    }

    /// The caller's teams and roles, by the verified claims of his token.
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

    /// In the document's order.
    pub fn teams(&self) -> &[Arc<Team>] {
        &self.teams
    }

    /// Names differ in more than case.
    pub fn team(&self, name: &str) -> Option<&Arc<Team>> {
        self.teams.iter().find(|team| team.name.eq_ignore_ascii_case(name))
    }
}

/// Collects faults while it compiles; what is faulty is left out, and then the result is thrown away.
struct Compiler<'a> {
    lines: &'a Lines,
    defaults: Arc<Defaults>,
    faults: Vec<Fault>,
}

impl Compiler<'_> {
    fn fault(&mut self, place: &str, what: String) {
        self.faults.push(Fault { line: self.lines.of(place), what });
    }

    /// The value, or the fault at its place.
    fn or_fault<T>(&mut self, place: &str, who: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|why| self.fault(place, format!("{who}: {why}"))).ok()
    }

    fn rules(&mut self, document: &Document) -> Rules {
        let mut rules = Rules { teams: Vec::new(), members: HashMap::new() };
        let mut names = HashSet::new();
        for (n, entry) in document.team.iter().enumerate() {
            let place = format!("team.{n}");
            let who = format!("team '{}'", entry.name);
            if !names.insert(entry.name.to_lowercase()) {
                self.fault(&format!("{place}.name"), format!("{who}: another team has this name"));
            }
            let team = Arc::new(self.team(entry, &place, &who));
            let gives = Gives::Team(team.clone());
            let list = format!("team {}, member", entry.name);
            self.members(&mut rules, &entry.member, &format!("{place}.member"), &who, &list, &gives);
            rules.teams.push(team);
        }
        self.members(&mut rules, &document.admin, "admin", "admin", "admin", &Gives::Role(Role::Admin));
        let auditor = Gives::Role(Role::Auditor);
        self.members(&mut rules, &document.auditor, "auditor", "auditor", "auditor", &auditor);
        rules
    }

    fn team(&mut self, entry: &TeamEntry, place: &str, who: &str) -> Team {
        let name = named(&entry.name);
        self.or_fault(&format!("{place}.name"), who, name);
        if entry.methods.is_empty() {
            self.fault(&format!("{place}.methods"), format!("{who}: methods is empty"));
        }
        for (key, most) in
            [("max_runners", entry.max_runners), ("requests_per_minute", entry.requests_per_minute)]
        {
            if most.is_some_and(|most| most < 0) {
                self.fault(&format!("{place}.{key}"), format!("{who}: {key} is less than 0"));
            }
        }
        let required = self.list(&entry.required_labels, place, who, "required_labels", |label| {
            label.parse::<Label>().map_err(|why| format!("bad label '{label}': {why}"))
        });
        let required_labels: BTreeSet<Label> = required.into_iter().collect();
        if required_labels.len() > Label::MOST - SYSTEM_LABELS {
            let most = Label::MOST - SYSTEM_LABELS;
            self.fault(
                &format!("{place}.required_labels"),
                format!("{who}: required_labels: at most {most} leave room for the system's"),
            );
        }
        let allowed_labels = self.list(&entry.allowed_labels, place, who, "allowed_labels", |pattern| {
            match Pattern::ignoring_case(pattern) {
                Ok(_) if pattern.is_empty() => Err("an empty pattern matches no label".to_owned()),
                Ok(compiled) => Ok(compiled),
                Err(why) => Err(format!("bad pattern '{pattern}': {why}")),
            }
        });
        let targets = match &entry.targets {
            None => vec![TargetPattern::only(&self.defaults.target)],
            Some(targets) => self.some(targets, place, who, "targets", |target| {
                TargetPattern::parse(target).map_err(|why| format!("bad target '{target}': {why}"))
            }),
        };
        let runner_groups = match &entry.runner_groups {
            None => vec![GroupRef::Id(self.defaults.group_id)],
            Some(groups) => self.some(groups, place, who, "runner_groups", |group| match group {
                GroupRef::Id(id) if *id < 1 => Err(format!("{id} is no id of a runner group")),
                GroupRef::Name(name) if name.trim().is_empty() => Err("a name is empty".to_owned()),
                group => Ok(group.clone()),
            }),
        };
        Team {
            name: entry.name.clone(),
            description: entry.description.clone(),
            required_labels,
            allowed_labels,
            methods: entry.methods.clone(),
            targets,
            runner_groups,
            max_runners: entry.max_runners,
            requests_per_minute: entry.requests_per_minute,
            defaults: self.defaults.clone(),
        }
    }

    fn list<T, U>(
        &mut self,
        items: &[T],
        place: &str,
        who: &str,
        key: &str,
        compile: impl Fn(&T) -> Result<U, String>,
    ) -> Vec<U> {
        let compiled = items.iter().enumerate().map(|(n, item)| {
            let result = compile(item).map_err(|why| format!("{key}: {why}"));
            self.or_fault(&format!("{place}.{key}.{n}"), who, result)
        });
        compiled.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    /// As `list`, but an empty list would allow nothing at all, which nobody writes on purpose.
    fn some<T, U>(
        &mut self,
        items: &[T],
        place: &str,
        who: &str,
        key: &str,
        compile: impl Fn(&T) -> Result<U, String>,
    ) -> Vec<U> {
        if items.is_empty() {
            self.fault(
                &format!("{place}.{key}"),
                format!("{who}: {key} is empty; without it the default holds"),
            );
        }
        self.list(items, place, who, key, compile)
    }

    fn members(
        &mut self,
        rules: &mut Rules,
        members: &[Member],
        place: &str,
        who: &str,
        list: &str,
        gives: &Gives,
    ) {
        for (n, member) in members.iter().enumerate() {
            let place = format!("{place}.{n}");
            let who = format!("{who}: {} {}", if list.contains(' ') { "member" } else { "entry" }, n + 1);
            if member.issuer.is_empty() {
                self.fault(&format!("{place}.issuer"), format!("{who}: issuer is empty"));
            }
            if member.claims.is_empty() {
                let what =
                    format!("{who}: claims is empty: everybody with a token of this issuer would match");
                self.fault(&format!("{place}.claims"), what);
            }
            let claims = member.claims.iter().filter_map(|(key, pattern)| {
                let result = ClaimRule::compile(key, pattern).map_err(|why| format!("claims: {why}"));
                self.or_fault(&format!("{place}.claims.{key}"), &who, result)
            });
            let rule = MemberRule {
                gives: gives.clone(),
                rule: format!("{list} {}", n + 1),
                claims: claims.collect(),
            };
            rules.members.entry(member.issuer.clone()).or_default().push(rule);
        }
    }
}

fn named(name: &str) -> Result<(), String> {
    let well_formed = (1..=64).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._- ".contains(c))
        && name.trim() == name;
    match well_formed {
        true => Ok(()),
        false => Err("a team's name has 1 to 64 of A-Z a-z 0-9 . _ - and inner spaces".to_owned()),
    }
}
