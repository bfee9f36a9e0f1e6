//! Warnings about a policy that is valid and may not say what its author meant: rules that match people whom nobody
//! thought of, or nobody at all. Judges patterns by what they match, not by how they are spelled.

mod claim;
mod denials;
mod labels;
mod member;
mod samples;
mod witness;

use std::fmt;

use chrono::{DateTime, Utc};

use super::document::{Document, Lines};

/// One warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// From 1; `None`: the document was not read from text, or it is about something that is not there.
    pub line: Option<usize>,
    /// With the entry, and the claim, label or issuer.
    pub what: String,
    /// Whether it is about an issuer that is not configured.
    pub of_issuer: bool,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// What a document is held against.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The issuers whose tokens are accepted; `None`: not known here.
    pub issuers: Option<&'a [String]>,
    /// The policy that the document will replace; `None`: none, or not known here.
    pub current: Option<&'a Document>,
    /// The time, by which deny rules may have ended.
    pub now: DateTime<Utc>,
}

impl Document {
    /// The warnings about this document, in the order of its lines. It should have no faults: patterns that do not
    /// compile are passed over.
    pub fn lint(&self, known: &Known<'_>) -> Vec<Warning> {
        let mut lint = Lint { lines: &self.lines, known, found: Vec::new() };
        for (n, team) in self.team.iter().enumerate() {
            let (place, who) = (format!("team.{n}"), format!("team '{}'", team.name));
            if team.member.is_empty() {
                lint.warn(&place, format!("{who} has no members"));
            }
            lint.labels(&team.allowed_labels, &place, &who);
            let gets = labels::any(&team.allowed_labels).map(|any| format!("have every label ('{any}')"));
            let member = format!("{who}: member");
            lint.members(&team.member, &format!("{place}.member"), &member, gets.as_deref());
        }
        lint.members(&self.admin, "admin", "admin", Some("change everything"));
        lint.members(&self.auditor, "auditor", "auditor", Some("see everything"));
        lint.denials(self);
        if self.admin.is_empty() && known.current.is_some_and(|current| !current.admin.is_empty()) {
            lint.found.push(Warning {
                line: None,
                what: "the last administrator is gone: there is no [[admin]] any more".to_owned(),
                of_issuer: false,
            });
        }
        lint.found.sort_by_key(|warning| warning.line);
        lint.found
    }
}

/// Collects warnings.
struct Lint<'a> {
    lines: &'a Lines,
    known: &'a Known<'a>,
    found: Vec<Warning>,
}

impl Lint<'_> {
    fn warn(&mut self, place: &str, what: String) {
        self.found.push(Warning { line: self.lines.of(place), what, of_issuer: false });
    }

    /// A line says it better.
    fn numbered(&self, who: &str, n: usize, place: &str) -> String {
        match self.lines.of(place) {
            Some(_) => who.to_owned(),
            None => format!("{who} {}", n + 1),
        }
    }

    /// Whether tokens of the issuer are accepted; near misses are named.
    fn issuer(&mut self, issuer: &str, place: &str, who: &str) {
        let Some(issuers) = self.known.issuers.filter(|all| !all.iter().any(|one| one == issuer)) else {
            return;
        };
        let what = match issuers.iter().find(|one| core(one) == core(issuer)) {
            Some(near) => format!(
                "{who}: issuer '{issuer}' is not configured, '{near}' is: they are compared to the last character"
            ),
            None => format!(
                "{who}: issuer '{issuer}' is in neither OIDC_ISSUER, OIDC_EXTRA_ISSUERS nor LOGIN_PROVIDERS"
            ),
        };
        let line = self.lines.of(&format!("{place}.issuer"));
        self.found.push(Warning { line, what, of_issuer: true });
    }
}

/// What two spellings of one issuer have in common: neither case nor scheme nor slashes at the end.
fn core(issuer: &str) -> String {
    let lower = issuer.trim().to_lowercase();
    let bare = lower.split_once("://").map_or(lower.as_str(), |(_, rest)| rest);
    bare.trim_end_matches('/').to_owned()
}
