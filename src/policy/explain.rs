//! Which rules of a document match a token's claims, and what keeps the others from it: for their authors, who may see
//! both.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::claims::ClaimRule;
use super::deny::Until;
use super::document::Document;

/// The most characters that are shown of a claim's value.
const SHOWN: usize = 200;

/// A rule, held against a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleMatch {
    /// As audit events name it, such as `team ml, member 2`.
    pub rule: String,
    /// From 1; `None`: the document was not read from text.
    pub line: Option<usize>,
    /// Whether it refuses those whom it matches.
    pub denies: bool,
    /// Why it does not match, a text for each reason; empty: it matches.
    pub against: Vec<String>,
}

impl Document {
    /// Every rule of the document, in its order, held against the claims of a token of this issuer.
    pub fn explain(&self, issuer: &str, claims: &Map<String, Value>, now: DateTime<Utc>) -> Vec<RuleMatch> {
        let mut found = Vec::new();
        let mut push = |rule: String, place: String, of: (&str, &BTreeMap<String, String>), ended| {
            let mut against: Vec<String> = mismatches(of.0, of.1, issuer, claims);
            against.extend(ended);
            let denies = place.starts_with("deny");
            found.push(RuleMatch { rule, line: self.lines.of(&place), denies, against });
        };
        for (t, team) in self.team.iter().enumerate() {
            for (n, member) in team.member.iter().enumerate() {
                let rule = format!("team {}, member {}", team.name, n + 1);
                push(rule, format!("team.{t}.member.{n}"), (&member.issuer, &member.claims), None);
            }
        }
        for (role, members) in [("admin", &self.admin), ("auditor", &self.auditor)] {
            for (n, member) in members.iter().enumerate() {
                let rule = format!("{role} {}", n + 1);
                push(rule, format!("{role}.{n}"), (&member.issuer, &member.claims), None);
            }
        }
        for (n, entry) in self.deny.iter().enumerate() {
            let ended = entry.until.filter(|until: &Until| until.at() <= now);
            let ended = ended.map(|until| format!("it ended at {until}"));
            push(format!("deny {}", n + 1), format!("deny.{n}"), (&entry.issuer, &entry.claims), ended);
        }
        found
    }
}

fn mismatches(
    wanted: &str,
    rules: &BTreeMap<String, String>,
    issuer: &str,
    claims: &Map<String, Value>,
) -> Vec<String> {
    if wanted != issuer {
        return vec![format!("issuer '{issuer}' is not '{wanted}'")];
    }
    let mismatch = |(key, pattern): (&String, &String)| {
        let rule = ClaimRule::compile(key, pattern).ok()?;
        if rule.matches(claims) {
            return None;
        }
        Some(match rule.found(claims) {
            None => format!("claim '{key}' is missing, wanted '{pattern}'"),
            Some(value) => format!("claim '{key}' is {}, wanted '{pattern}'", shown(value)),
        })
    };
    rules.iter().filter_map(mismatch).collect()
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.chars().count() > SHOWN {
        true => format!("{}…", text.chars().take(SHOWN).collect::<String>()),
        false => text,
    }
}
