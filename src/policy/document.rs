//! The policy document as people write it: teams, admins, auditors, deny rules. Knows its form as TOML, not what it means.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::deny::DenyEntry;
use super::shapes;
use crate::model::{GroupRef, Method};

/// Which teams there are, what each may have, and who is in them; who are admins and auditors; and
/// who is refused.
// A JSON Schema is made of these docstrings: they are for people who write a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Policy of a runner-broker")]
pub struct Document {
    /// The teams: each may have runners of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub team: Vec<TeamEntry>,
    /// Who may see and change everything. An entry matches a caller if its issuer and all of its claims do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admin: Vec<Member>,
    /// Who may see everything and change nothing. An entry matches a caller if its issuer and all of its claims do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auditor: Vec<Member>,
    /// Who is refused whatever they call: it wins over teams and roles. An entry matches a caller if its issuer and all
    /// of its claims do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<DenyEntry>,
    /// The line of each entry, if the document was read from text.
    #[serde(skip)]
    pub lines: Lines,
}

/// A team: what its members may ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "team", title = "Team")]
pub struct TeamEntry {
    /// The team's name: 1 to 64 of A-Z a-z 0-9 . _ - and inner spaces. Two names differ in more than case.
    #[schemars(regex(pattern = shapes::TEAM_NAME), example = &"ml")]
    pub name: String,
    /// What the team is for, for people: at most 4,000 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4_000), regex(pattern = shapes::LINES), extend("default" = ""))]
    #[schemars(example = &"Trains models on machines with GPUs")]
    pub description: String,
    /// Labels that every runner of the team gets, whether the request names them or not.
    #[serde(default)]
    #[schemars(inner(regex(pattern = shapes::LABEL)), extend("examples" = [["ml"]]))]
    pub required_labels: Vec<String>,
    /// Labels that a request may ask for: regular expressions (Rust's syntax), each for a whole label, without
    /// regard to case. GitHub's own labels, such as ubuntu-latest, need a pattern that spells them out.
    #[serde(default)]
    #[schemars(inner(length(min = 1), regex(pattern = shapes::LINE)))]
    #[schemars(extend("examples" = [["gpu", "cuda-[0-9]+"]]))]
    pub allowed_labels: Vec<String>,
    /// How a runner may get its credential.
    #[serde(default = "jit_only")]
    #[schemars(schema_with = "shapes::methods", extend("examples" = [["jit", "registration_token"]]))]
    pub methods: Vec<Method>,
    /// Where the team may put its runners: an organisation (not its repositories), owner/repository, or owner/ and a
    /// name in which * stands for anything. Without it: the organisation in GITHUB_ORG.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1), inner(regex(pattern = shapes::TARGET)))]
    #[schemars(extend("examples" = [["octo-org", "octo-org/ml-*"]]))]
    pub targets: Option<Vec<String>>,
    /// Runner groups, by id or name, that the team may put its runners into. Without it: the group in
    /// DEFAULT_RUNNER_GROUP_ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "shapes::groups", extend("examples" = [[1, "gpus"]]))]
    pub runner_groups: Option<Vec<GroupRef>>,
    /// How many live runners the team may have at the same time. Without it: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "shapes::limit", example = 20)]
    pub max_runners: Option<i64>,
    /// How many runners the team may ask for in a minute. Without it: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "shapes::limit", example = 30)]
    pub requests_per_minute: Option<i64>,
    /// Who is in the team. An entry matches a caller if its issuer and all of its claims do.
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

/// Callers whose token is of this issuer and has all of these claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "member", title = "Member")]
pub struct Member {
    /// The token's iss, compared to the last character. It must be among the broker's OIDC_ISSUER and
    /// OIDC_EXTRA_ISSUERS.
    #[schemars(length(min = 1), regex(pattern = shapes::LINE))]
    #[schemars(example = &"https://token.actions.githubusercontent.com")]
    pub issuer: String,
    /// Claims that the token must have, all of them; at least one. A key is a claim's name or, if it begins with /, a
    /// JSON Pointer (RFC 6901) into the token. Its value is a regular expression (Rust's syntax) for the claim's
    /// whole value, with regard to case; of a list, one element has to match.
    #[schemars(schema_with = "shapes::claims")]
    #[schemars(extend("examples" = [{ "repository": "octo-org/ml-.*", "ref": "refs/heads/main" }]))]
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
        let denials = self.deny.iter().map(deny_toml);
        teams.chain(admins).chain(auditors).chain(denials).collect::<Vec<_>>().join("\n")
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
    rule_toml(table, &member.issuer, &member.claims)
}

fn deny_toml(entry: &DenyEntry) -> String {
    let mut text = rule_toml("deny", &entry.issuer, &entry.claims);
    if !entry.comment.is_empty() {
        text.push_str(&format!("comment = {}\n", quoted(&entry.comment)));
    }
    if let Some(until) = entry.until {
        text.push_str(&format!("until = {until}\n"));
    }
    text
}

fn rule_toml(table: &str, issuer: &str, claims: &BTreeMap<String, String>) -> String {
    let claims: Vec<String> =
        claims.iter().map(|(claim, pattern)| format!("{} = {}", key(claim), quoted(pattern))).collect();
    format!("[[{table}]]\nissuer = {}\nclaims = {{ {} }}\n", quoted(issuer), claims.join(", "))
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
