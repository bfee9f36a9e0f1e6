//! What one claim of a rule says about whom it matches.

use std::collections::BTreeMap;

use super::samples::matches_most;
use super::witness::witnesses;
use crate::policy::pattern::Pattern;

/// GitHub Actions of github.com: every repository there can have its tokens.
const GITHUB: &str = "https://token.actions.githubusercontent.com";
/// Likewise every project of gitlab.com.
const GITLAB: &str = "https://gitlab.com";

/// Claims that tokens of everybody have with the same value.
const EVERYBODYS: &[&str] = &["iss", "aud", "typ", "email_verified", "phone_number_verified"];

/// Claims of GitHub's tokens that an owner of any repository may have as they like: branches, environments, workflows.
const OF_ANY_REPOSITORY: &[&str] = &[
    "ref",
    "ref_type",
    "ref_protected",
    "base_ref",
    "head_ref",
    "event_name",
    "environment",
    "workflow",
    "job_workflow_ref",
    "runner_environment",
    "repository_visibility",
    "run_number",
    "run_attempt",
];

/// Likewise of GitLab's.
const OF_ANY_PROJECT: &[&str] = &[
    "ref",
    "ref_type",
    "ref_path",
    "ref_protected",
    "environment",
    "environment_protected",
    "deployment_tier",
    "pipeline_source",
    "runner_environment",
    "project_visibility",
];

/// Names of people that may be somebody else's one day, and what stays.
const NAMES: &[(&str, &str)] = &[
    ("login", "id"),
    ("actor", "actor_id"),
    ("user_login", "user_id"),
    ("user_email", "user_id"),
    ("preferred_username", "sub"),
    ("username", "sub"),
    ("nickname", "sub"),
    ("name", "sub"),
    ("upn", "oid"),
    ("unique_name", "oid"),
];

/// Claims that are numbers.
const NUMBERS: &[&str] =
    &["repository_id", "repository_owner_id", "actor_id", "project_id", "namespace_id", "user_id"];

/// What a claim of a rule is worth for telling people apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// The pattern matches nearly every value.
    MatchesMost,
    /// Everybody has this value, or can have it.
    AnybodyMayChoose,
    /// A name, and the claim that stays.
    Name(&'static str),
    /// An address that nobody has verified.
    UnverifiedEmail,
    /// Owners that the author did not name match as well.
    OwnerIsOpen,
    /// All repositories of an owner.
    Owner,
    /// Somebody in particular.
    Narrow,
}

/// A claim's name; a JSON Pointer of a single step is one, too.
pub fn name(key: &str) -> String {
    match key.strip_prefix('/') {
        Some(step) if !step.contains('/') => step.replace("~1", "/").replace("~0", "~"),
        _ => key.to_owned(),
    }
}

/// What this claim is worth in a rule about this issuer; `verified`: the rule wants `email_verified`.
pub fn worth(issuer: &str, claim: &str, pattern: &Pattern, verified: bool) -> Worth {
    let issuer = issuer.trim_end_matches('/');
    let chosen = EVERYBODYS.contains(&claim)
        || (issuer == GITHUB && OF_ANY_REPOSITORY.contains(&claim))
        || (issuer == GITLAB && OF_ANY_PROJECT.contains(&claim));
    if chosen {
        return Worth::AnybodyMayChoose;
    }
    if matches_most(pattern) {
        return Worth::MatchesMost;
    }
    if let Some((_, stays)) = NAMES.iter().find(|(name, _)| *name == claim) {
        return Worth::Name(stays);
    }
    match claim {
        "email" if !verified => Worth::UnverifiedEmail,
        "repository_owner_id" | "namespace_id" => Worth::Owner,
        _ => owner(claim, pattern),
    }
}

/// Whether a pattern that can only match numbers matches none.
pub fn matches_no_number(claim: &str, pattern: &Pattern) -> bool {
    let is_number = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let found = witnesses(pattern);
    NUMBERS.contains(&claim) && !found.is_empty() && !found.iter().any(is_number)
}

/// A value with an owner in it: what stands before the owner, the owner, and what stands behind.
struct Owned<'a> {
    before: &'a str,
    owner: &'a str,
    after: &'a str,
}

/// Where the owner stands in a value of this claim; `None`: there is none in it.
fn owned<'a>(claim: &str, value: &'a str) -> Option<Owned<'a>> {
    let (before, rest, without) = match claim {
        "repository_owner" | "namespace_path" => {
            return Some(Owned { before: "", owner: value, after: "" });
        }
        "repository" | "project_path" => ("", value, "/x"),
        "workflow_ref" => ("", value, "/x/.github/workflows/x.yml@refs/heads/main"),
        "sub" => match ["repo:", "project_path:"].into_iter().find(|prefix| value.starts_with(prefix)) {
            Some("repo:") => ("repo:", &value[5..], "/x:ref:refs/heads/main"),
            Some(prefix) => (prefix, &value[prefix.len()..], "/x:ref_type:branch:ref:main"),
            None => return None,
        },
        _ => return None,
    };
    let (owner, after) = match rest.find(['/', '@']) {
        Some(at) => rest.split_at(at),
        None => (rest, without),
    };
    Some(Owned { before, owner, after })
}

/// Whether the owner is one that the pattern names, and whether it says more than the owner.
fn owner(claim: &str, pattern: &Pattern) -> Worth {
    let found = witnesses(pattern);
    // A pattern that names its owners has few of them, however many values it matches.
    let mut behind: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for Owned { before, owner, after } in found.iter().filter_map(|value| owned(claim, value)) {
        let known = behind.entry((before, owner)).or_default();
        if known.len() < 3 {
            known.push(after);
        }
    }
    let is_open = |((before, owner), behind): (&(&str, &str), &Vec<&str>)| {
        let other_owners = others(owner);
        let mut values = other_owners.iter().flat_map(|other| behind.iter().map(move |after| (other, after)));
        values.any(|(other, after)| pattern.matches(&format!("{before}{other}{after}")))
    };
    if behind.iter().any(is_open) {
        return Worth::OwnerIsOpen;
    }
    if matches!(claim, "repository_owner" | "namespace_path") {
        return Worth::Owner;
    }
    let has_any_repository = |value: &String| {
        let Some(Owned { before, owner, after }) = owned(claim, value) else { return false };
        let behind = after.split_once(':').map_or(String::new(), |(_, behind)| format!(":{behind}"));
        ["kvbq", "wet-zufo"].iter().all(|other| pattern.matches(&format!("{before}{owner}/{other}{behind}")))
    };
    if found.iter().any(has_any_repository) { Worth::Owner } else { Worth::Narrow }
}

/// Owners that somebody else could have.
fn others(owner: &str) -> Vec<String> {
    let mut others: Vec<String> = ["kvbq", "wet-zufo", "a1"].map(str::to_owned).to_vec();
    others.extend([
        format!("{owner}x"),
        format!("{owner}-evil"),
        format!("x{owner}"),
        format!("evil-{owner}"),
    ]);
    for (at, one) in owner.char_indices() {
        let behind = &owner[at + one.len_utf8()..];
        others.extend(["x", "y", "7", "-"].map(|other| format!("{}{other}{behind}", &owner[..at])));
    }
    others.retain(|other| !other.eq_ignore_ascii_case(owner));
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(claim: &str, pattern: &str) -> Worth {
        worth(GITHUB, claim, &Pattern::exact(pattern).unwrap(), false)
    }

    #[test]
    fn an_owner_that_is_not_named_is_open_however_it_is_written() {
        for (claim, pattern) in [
            ("repository", ".*/ml"),
            ("repository", "[^/]+/ml"),
            ("repository", "octo-org.*"),
            ("repository", "octo.*/ml"),
            ("repository", "octo.org/ml"),
            ("repository", "(octo-org|.*)/ml"),
            ("repository", "octo-org[0-9]/ml"),
            ("repository_owner", "octo-.*"),
            ("sub", "repo:.*/ml:.*"),
            ("sub", "repo:octo-org.*"),
            ("sub", "repo:octo-org[^:]*:ref:refs/heads/main"),
            ("workflow_ref", ".*/.github/workflows/deploy.yml@refs/heads/main"),
        ] {
            assert!(
                matches!(of(claim, pattern), Worth::OwnerIsOpen | Worth::MatchesMost),
                "{claim} {pattern} {:?}",
                of(claim, pattern)
            );
        }
        for (claim, pattern) in [
            ("repository", "octo-org/ml-.*"),
            ("repository", "octo-org/(ml|web)"),
            ("repository", "(?i)octo-org/ml"),
            ("repository", "(octo|hexa)-org/ml"),
            ("repository_id", "74"),
            ("sub", "repo:octo-org/ml:.*"),
            ("sub", "repo:octo-org@12/ml@34:ref:refs/heads/main"),
            ("sub", "repo:octo-org/ml-[a-z]+:environment:prod"),
            ("sub", "8f7a"),
            ("workflow_ref", r"octo-org/ml/\.github/workflows/ci\.yml@.*"),
        ] {
            assert_eq!(of(claim, pattern), Worth::Narrow, "{claim} {pattern}");
        }
        for (claim, pattern) in [
            ("repository", "octo-org/.*"),
            ("repository_owner", "octo-org"),
            ("repository_owner_id", "65"),
            ("sub", "repo:octo-org/.*"),
            ("sub", "repo:octo-org/[^:]+:ref:refs/heads/main"),
        ] {
            assert_eq!(of(claim, pattern), Worth::Owner, "{claim} {pattern}");
        }
    }
}
