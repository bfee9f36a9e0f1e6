//! The policy: what a document may say, and what callers get by it.

mod applied;
mod decisions;
mod denials;
mod deny_rules;
mod documents;
mod lint;
mod properties;
mod roles;
pub mod schema;
pub mod teams;
mod teams_life;

use std::collections::{BTreeMap, BTreeSet};

use runner_broker::model::{Arch, GroupRef, Label, Method, NameAsk, Os};
use runner_broker::policy::{
    Ask, Defaults, Denial, Document, Fault, Grant, Memberships, Rules, Usage, consider,
};
use serde_json::{Value, json};

const ISSUER: &str = "https://login.example.com";

fn defaults() -> Defaults {
    Defaults { target: "octo-org".parse().unwrap(), group_id: 1 }
}

fn rules(toml: &str) -> Rules {
    Document::read(toml, &defaults()).unwrap_or_else(|faults| panic!("{}", lines(&faults))).1
}

/// What is wrong with the document, one fault a line.
fn faults(toml: &str) -> String {
    lines(&Document::read(toml, &defaults()).unwrap_err())
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

/// A team `ml` with these lines, whose only member is the subject `me`.
fn team(lines: &str) -> Memberships {
    let toml = format!(
        "[[team]]\nname = \"ml\"\n{lines}\n[[team.member]]\nissuer = \"{ISSUER}\"\nclaims = {{ sub = \"me\" }}"
    );
    memberships(&rules(&toml), json!({ "sub": "me" }))
}

fn memberships(rules: &Rules, claims: Value) -> Memberships {
    rules.memberships(ISSUER, claims.as_object().unwrap())
}

fn ask(labels: &[&str]) -> Ask {
    Ask {
        method: Method::Jit,
        name: NameAsk::Exact("ci-1".parse().unwrap()),
        labels: labels.iter().map(|label| label.parse().unwrap()).collect(),
        team: None,
        target: None,
        group: None,
        os: Os::Linux,
        arch: Arch::X64,
        ephemeral: true,
        disable_update: false,
        work_folder: "_work".into(),
    }
}

/// The decision on an organisation whose groups are `Default` 1, `ml` 2 and `other` 3.
fn decide(memberships: &Memberships, ask: &Ask, usage: Usage) -> Result<Grant, Denial> {
    let permit = consider(memberships, ask)?;
    let groups = [("Default", 1), ("ml", 2), ("other", 3)];
    let ids: BTreeMap<String, i64> = groups
        .into_iter()
        .filter(|(name, _)| permit.group_names().contains(name))
        .map(|(name, id)| (name.to_owned(), id))
        .collect();
    permit.place(&ids)?.grant(usage)
}

fn granted(memberships: &Memberships, ask: &Ask) -> Grant {
    decide(memberships, ask, Usage::default()).unwrap()
}

fn denied(memberships: &Memberships, ask: &Ask) -> Denial {
    decide(memberships, ask, Usage::default()).unwrap_err()
}

fn label_set(labels: &[&str]) -> BTreeSet<Label> {
    labels.iter().map(|label| label.parse().unwrap()).collect()
}

fn group(name: &str) -> Option<GroupRef> {
    Some(GroupRef::Name(name.into()))
}
