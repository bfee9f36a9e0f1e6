//! [`Document`] → [`Rules`]: checks what every entry means and names every fault, with its line if it has one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::claims::ClaimRule;
use super::deny::{DenyEntry, MAX_COMMENT, Until};
use super::document::{Document, Fault, Lines, Member, TeamEntry};
use super::pattern::Pattern;
use super::reader;
use super::rules::{Defaults, DenyRule, Gives, MemberRule, Rules, Team};
use super::targets::TargetPattern;
use crate::model::{GroupRef, Label, Role, SYSTEM_LABELS};

/// The most bytes of a team's description.
const MAX_DESCRIPTION: usize = 4_000;

impl Document {
    /// Reads TOML and compiles it.
    ///
    /// # Errors
    /// Every fault of form and of meaning, in the order of their lines.
    pub fn read(text: &str, defaults: &Defaults) -> Result<(Document, Rules), Vec<Fault>> {
        let (document, mut faults) = reader::read(text);
        match document.check(defaults) {
            Ok(rules) if faults.is_empty() => return Ok((document, rules)),
            Ok(_) => {}
            Err(more) => faults.extend(more),
        }
        faults.sort_by_key(|fault| fault.line);
        Err(faults)
    }

    /// Compiles the document.
    ///
    /// # Errors
    /// Every fault of meaning, such as a pattern that is no regular expression.
    pub fn check(&self, defaults: &Defaults) -> Result<Rules, Vec<Fault>> {
        Rules::compile(self, defaults)
    }
}

impl Rules {
    /// Compiles the document.
    ///
    /// # Errors
    /// Every fault of meaning, such as a pattern that is no regular expression.
    pub fn compile(document: &Document, defaults: &Defaults) -> Result<Rules, Vec<Fault>> {
        let defaults = Arc::new(defaults.clone());
        let mut compiler = Compiler { lines: &document.lines, defaults, faults: Vec::new() };
        let rules = compiler.rules(document);
        compiler.faults.sort_by_key(|fault| fault.line);
        if compiler.faults.is_empty() { Ok(rules) } else { Err(compiler.faults) }
    }
}

/// Collects faults while it compiles. With a fault the result is incomplete, and is thrown away.
struct Compiler<'a> {
    lines: &'a Lines,
    defaults: Arc<Defaults>,
    faults: Vec<Fault>,
}

impl Compiler<'_> {
    fn fault(&mut self, place: &str, what: String) {
        self.faults.push(Fault { line: self.lines.of(place), place: place.to_owned(), what });
    }

    /// The value, or the fault at its place.
    fn or_fault<T>(&mut self, place: &str, who: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|why| self.fault(place, format!("{who}: {why}"))).ok()
    }

    fn rules(&mut self, document: &Document) -> Rules {
        let mut rules = Rules::default();
        let mut names = HashSet::new();
        for (n, entry) in document.team.iter().enumerate() {
            let place = format!("team.{n}");
            let who = format!("team '{}'", entry.name);
            if !names.insert(entry.name.to_lowercase()) {
                self.fault(&format!("{place}.name"), format!("{who}: another team has this name"));
            }
            let team = Arc::new(self.team(entry, &place, &who));
            let gives = Gives::Team(team.clone());
            let place = format!("{place}.member");
            let rule = format!("team {}, member", entry.name);
            self.members(&mut rules, &entry.member, &place, [&format!("{who}: member"), &rule], &gives);
            rules.teams.push(team);
        }
        for (role, entries) in [(Role::Admin, &document.admin), (Role::Auditor, &document.auditor)] {
            self.members(&mut rules, entries, role.as_str(), [role.as_str(); 2], &Gives::Role(role));
        }
        self.denials(&mut rules, &document.deny);
        rules
    }

    fn team(&mut self, entry: &TeamEntry, place: &str, who: &str) -> Team {
        let name = check_name(&entry.name);
        self.or_fault(&format!("{place}.name"), who, name);
        if entry.description.len() > MAX_DESCRIPTION || entry.description.chars().any(is_unprintable) {
            let what = format!(
                "{who}: description: at most {MAX_DESCRIPTION} bytes of text, without control characters but \
                 line ends and tabs"
            );
            self.fault(&format!("{place}.description"), what);
        }
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
                Ok(_) if pattern.contains(char::is_control) => Err("a control character".to_owned()),
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
                GroupRef::Name(name) if name.contains(char::is_control) => {
                    Err("a name has a control character".to_owned())
                }
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

    /// `who` begins what a fault says, `rule` what an audit event says; the member's number follows.
    fn members(
        &mut self,
        rules: &mut Rules,
        members: &[Member],
        place: &str,
        [who, rule]: [&str; 2],
        gives: &Gives,
    ) {
        for (n, member) in members.iter().enumerate() {
            let place = format!("{place}.{n}");
            let rule = format!("{rule} {}", n + 1);
            let who = self.numbered(who, n, &place);
            let claims = self.claims(&member.issuer, &member.claims, &place, &who);
            let members = rules.members.entry(member.issuer.clone()).or_default();
            members.push(MemberRule { gives: gives.clone(), rule, claims });
        }
    }

    fn denials(&mut self, rules: &mut Rules, entries: &[DenyEntry]) {
        for (n, entry) in entries.iter().enumerate() {
            let place = format!("deny.{n}");
            let who = self.numbered("deny", n, &place);
            let is_short = entry.comment.chars().count() <= MAX_COMMENT;
            if !is_short || entry.comment.contains(char::is_control) {
                let what = format!("{who}: comment: at most {MAX_COMMENT} characters on one line");
                self.fault(&format!("{place}.comment"), what);
            }
            let claims = self.claims(&entry.issuer, &entry.claims, &place, &who);
            let denial =
                DenyRule { rule: format!("deny {}", n + 1), claims, until: entry.until.map(Until::at) };
            rules.denials.entry(entry.issuer.clone()).or_default().push(denial);
        }
    }

    /// A line says it better, and the number is off where an unreadable entry was left out.
    fn numbered(&self, who: &str, n: usize, place: &str) -> String {
        match self.lines.of(place) {
            Some(_) => who.to_owned(),
            None => format!("{who} {}", n + 1),
        }
    }

    /// Checks the issuer and compiles the claims of an entry.
    fn claims(
        &mut self,
        issuer: &str,
        claims: &BTreeMap<String, String>,
        place: &str,
        who: &str,
    ) -> Vec<ClaimRule> {
        if issuer.contains(char::is_control) {
            self.fault(&format!("{place}.issuer"), format!("{who}: issuer has a control character"));
        }
        if issuer.is_empty() {
            self.fault(&format!("{place}.issuer"), format!("{who}: issuer is empty"));
        }
        if claims.is_empty() {
            let what = format!("{who}: claims is empty: everybody with a token of this issuer would match");
            self.fault(&format!("{place}.claims"), what);
        }
        let compiled = claims.iter().filter_map(|(key, pattern)| {
            let result = match (key, pattern) {
                (key, pattern) if key.contains('\0') || pattern.contains('\0') => {
                    Err("claims: a NUL, which is in no claim".to_owned())
                }
                (key, pattern) => ClaimRule::compile(key, pattern).map_err(|why| format!("claims: {why}")),
            };
            self.or_fault(&format!("{place}.claims.{key}"), who, result)
        });
        compiled.collect()
    }
}

/// Control characters, which Postgres refuses (NUL) or which change a terminal; line ends and tabs are text.
fn is_unprintable(c: char) -> bool {
    c.is_control() && !"\n\r\t".contains(c)
}

/// Whether a team may have this name: 1 to 64 of `A-Za-z0-9._-` and inner spaces.
pub fn is_team_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._- ".contains(c))
        && name.trim() == name
}

fn check_name(name: &str) -> Result<(), String> {
    match is_team_name(name) {
        true => Ok(()),
        false => Err("a team's name has 1 to 64 of A-Z a-z 0-9 . _ - and inner spaces".to_owned()),
    }
}
