//! What one version of the policy changes in another, a line a change.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::policy::{DenyEntry, Document, Member, TeamEntry};

/// What changes for whom, a line a change. `known` are all teams there ever were.
pub(in crate::broker) fn difference(old: &Document, new: &Document, known: &[String]) -> Vec<String> {
    let teams = |document: &Document| -> BTreeMap<String, TeamEntry> {
        document.team.iter().map(|team| (team.name.clone(), team.clone())).collect()
    };
    let (before, after) = (teams(old), teams(new));
    let mut changes = Vec::new();
    for (name, team) in &after {
        match before.get(name) {
            None if known.contains(name) => changes.push(format!("team {name}: reactivated")),
            None => changes.push(format!("team {name}: added")),
            Some(was) if was != team => changes.extend(team_changes(was, team)),
            Some(_) => {}
        }
    }
    changes.extend(
        before
            .keys()
            .filter(|name| !after.contains_key(*name))
            .map(|name| format!("team {name}: deactivated")),
    );
    changes.extend(entry_changes("admin", &old.admin, &new.admin, shown_member));
    changes.extend(entry_changes("auditor", &old.auditor, &new.auditor, shown_member));
    changes.extend(entry_changes("deny", &old.deny, &new.deny, shown_denial));
    if changes.is_empty() {
        changes.push("the order of entries".to_owned());
    }
    changes
}

fn entry_changes<T: PartialEq>(of: &str, was: &[T], is: &[T], shown: fn(&T) -> String) -> Vec<String> {
    let added = is.iter().filter(|entry| !was.contains(entry));
    let removed = was.iter().filter(|entry| !is.contains(entry));
    added
        .map(|entry| format!("{of}: added {}", shown(entry)))
        .chain(removed.map(|entry| format!("{of}: removed {}", shown(entry))))
        .collect()
}

fn shown_member(member: &Member) -> String {
    format!("{} {}", member.issuer, json!(member.claims))
}

fn shown_denial(entry: &DenyEntry) -> String {
    let mut text = format!("{} {}", entry.issuer, json!(entry.claims));
    if let Some(until) = entry.until {
        text.push_str(&format!(", until {until}"));
    }
    if !entry.comment.is_empty() {
        text.push_str(&format!(", comment {}", json!(entry.comment)));
    }
    text
}

pub(in crate::broker) fn team_changes(was: &TeamEntry, is: &TeamEntry) -> Vec<String> {
    let fields = |team: &TeamEntry| match serde_json::to_value(team) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (was_fields, is_fields) = (fields(was), fields(is));
    let names: std::collections::BTreeSet<&String> = was_fields.keys().chain(is_fields.keys()).collect();
    let shown = |value: Option<&Value>| value.map_or("unset".to_owned(), Value::to_string);
    names
        .into_iter()
        .filter(|name| was_fields.get(*name) != is_fields.get(*name))
        .map(|name| {
            format!(
                "team {}: {name}: {} → {}",
                is.name,
                shown(was_fields.get(name)),
                shown(is_fields.get(name))
            )
        })
        .collect()
}
