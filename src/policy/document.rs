//! The policy document as people write it: teams, admins, auditors. Knows its form as TOML, not what it means.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{GroupRef, Method};

/// The whole document, from TOML ([`Document::parse`]) or from tables; [`Document::check`] says whether it is valid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    /// `[[team]]`, in the document's order.
    pub team: Vec<TeamEntry>,
    /// `[[admin]]`: who has [`Role::Admin`](crate::model::Role::Admin).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admin: Vec<Member>,
    /// `[[auditor]]`: who has [`Role::Auditor`](crate::model::Role::Auditor).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auditor: Vec<Member>,
    /// The line of each entry, if the document was read from text.
    #[serde(skip)]
    pub lines: Lines,
}

/// One `[[team]]`, in the document's own words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeamEntry {
    /// As [`is_team_name`](super::is_team_name) wants it; unique without regard to case.
    pub name: String,
    /// For people; at most 4,000 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Labels that every runner of the team gets.
    #[serde(default)]
    pub required_labels: Vec<String>,
    /// Regular expressions for whole labels, without regard to case.
    #[serde(default)]
    pub allowed_labels: Vec<String>,
    /// How its runners may be registered; not empty.
    #[serde(default = "jit_only")]
    pub methods: Vec<Method>,
    /// `org`, `org/repo` or `org/glob*`; `None`: the default target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<String>>,
    /// `None`: the default group alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_groups: Option<Vec<GroupRef>>,
    /// Live runners at the same time; `None`: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runners: Option<i64>,
    /// Provisions in a minute; `None`: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<i64>,
    /// `[[team.member]]`: the callers who belong to the team.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub member: Vec<Member>,
}

impl TeamEntry {
    /// A team that allows nothing yet beyond its defaults.
    pub fn named(name: impl Into<String>) -> TeamEntry {
        TeamEntry {
            name: name.into(),
            description: String::new(),
            required_labels: Vec::new(),
            allowed_labels: Vec::new(),
            methods: jit_only(),
            targets: None,
            runner_groups: None,
            max_runners: None,
            requests_per_minute: None,
            member: Vec::new(),
        }
    }
}

/// The callers that an entry is about: those whose token is of this issuer and has claims that all match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Compared to the last character.
    pub issuer: String,
    /// Claim (or JSON Pointer, if it begins with `/`) to a regular expression for its whole value.
    pub claims: BTreeMap<String, String>,
}

pub(super) fn jit_only() -> Vec<Method> {
    vec![Method::Jit]
}

/// The line of everything that a fault may point to, by its place, such as `team.0.allowed_labels.2`.
/// All `Lines` are equal, because two documents that say the same are.
#[derive(Clone, Debug, Default)]
pub struct Lines(pub(super) BTreeMap<String, usize>);

impl Lines {
    /// The line of the place or, if it has none, of the nearest entry around it.
    pub(super) fn of(&self, place: &str) -> Option<usize> {
        match (self.0.get(place), place.rsplit_once('.')) {
            (Some(line), _) => Some(*line),
            (None, Some((around, _))) => self.of(around),
            (None, None) => None,
        }
    }
}

impl PartialEq for Lines {
    fn eq(&self, _: &Lines) -> bool {
        true
    }
}

/// One fault of a document, as `policy check` prints it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// From 1; `None`: the document was not read from text.
    pub line: Option<usize>,
    /// Such as `team.0.allowed_labels.2`; empty: the whole document.
    pub place: String,
    /// The fault, with the entry that has it.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl Document {
    /// The document as TOML; [`Document::parse`] gives the same document back.
    pub fn to_toml(&self) -> String {
        let teams = self.team.iter().map(team_toml);
        let admins = self.admin.iter().map(|member| member_toml("admin", member));
        let auditors = self.auditor.iter().map(|member| member_toml("auditor", member));
        teams.chain(admins).chain(auditors).collect::<Vec<_>>().join("\n")
    }
}

fn team_toml(team: &TeamEntry) -> String {
    let mut text = format!("[[team]]\nname = {}\n", quoted(&team.name));
    let mut line = |key: &str, value: String| text.push_str(&format!("{key} = {value}\n"));
    if !team.description.is_empty() {
        line("description", quoted(&team.description));
    }
    line("required_labels", list(&team.required_labels, |label| quoted(label)));
    line("allowed_labels", list(&team.allowed_labels, |pattern| quoted(pattern)));
    line("methods", list(&team.methods, |method| quoted(method.as_str())));
    if let Some(targets) = &team.targets {
        line("targets", list(targets, |target| quoted(target)));
    }
    if let Some(groups) = &team.runner_groups {
        let group = |group: &GroupRef| match group {
            GroupRef::Id(id) => id.to_string(),
            GroupRef::Name(name) => quoted(name),
        };
        line("runner_groups", list(groups, group));
    }
    if let Some(most) = team.max_runners {
        line("max_runners", most.to_string());
    }
    if let Some(most) = team.requests_per_minute {
        line("requests_per_minute", most.to_string());
    }
    for member in &team.member {
        text.push('\n');
        text.push_str(&member_toml("team.member", member));
    }
    text
}

fn member_toml(table: &str, member: &Member) -> String {
    let claims: Vec<String> = member
        .claims
        .iter()
        .map(|(claim, pattern)| format!("{} = {}", key(claim), quoted(pattern)))
        .collect();
    let issuer = quoted(&member.issuer);
    format!("[[{table}]]\nissuer = {issuer}\nclaims = {{ {} }}\n", claims.join(", "))
}

fn list<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", "))
}

fn key(text: &str) -> String {
    let is_bare = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_bare { text.to_owned() } else { quoted(text) }
}

/// JSON's strings are TOML's basic strings, but for DEL, which TOML wants escaped.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
