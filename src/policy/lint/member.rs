//! Rules that match more people than their author may think.

use std::collections::BTreeMap;

use super::Lint;
use super::claim::{Worth, matches_no_number, name, worth};
use crate::policy::document::Member;
use crate::policy::pattern::Pattern;

/// A claim of a rule, as it is written and what it is worth.
struct Judged<'a> {
    key: &'a str,
    pattern: &'a str,
    worth: Worth,
}

impl Lint<'_> {
    /// `gets`: what is too much for every repository of an owner, if members may do that.
    pub(super) fn members(&mut self, members: &[Member], place: &str, who: &str, gets: Option<&str>) {
        for (n, member) in members.iter().enumerate() {
            let place = format!("{place}.{n}");
            let who = self.numbered(who, n, &place);
            self.issuer(&member.issuer, &place, &who);
            self.numbers(&member.claims, &place, &who);
            let judged = judged(member);
            let is_narrow = |one: &Judged<'_>| matches!(one.worth, Worth::Narrow | Worth::Owner);
            if judged.iter().any(is_narrow) {
                self.owners(&judged, &place, &who, gets);
            } else {
                self.wide(member, &judged, &place, &who);
            }
        }
    }

    /// Ids that are compared with what is no number.
    pub(super) fn numbers(&mut self, claims: &BTreeMap<String, String>, place: &str, who: &str) {
        for (key, text) in claims {
            let compiled = Pattern::exact(text);
            if compiled.is_ok_and(|pattern| matches_no_number(&name(key), &pattern)) {
                let what = format!("{who}: claims: '{key}' is a number, and '{text}' matches none");
                self.warn(&format!("{place}.claims.{key}"), what);
            }
        }
    }

    /// Nothing in the rule is somebody's for good.
    fn wide(&mut self, member: &Member, judged: &[Judged<'_>], place: &str, who: &str) {
        let before = self.found.len();
        for Judged { key, pattern, worth } in judged {
            let what = match worth {
                Worth::OwnerIsOpen => format!(
                    "'{pattern}' also matches owners that it does not name: write owner/repository, or add \
                     repository_owner_id"
                ),
                Worth::Name(stays) => format!("a name that can pass to somebody else: use {stays}"),
                Worth::UnverifiedEmail => {
                    "an address that can pass to somebody else, and that nobody may have verified: add \
                     email_verified = \"true\", or use sub"
                        .to_owned()
                }
                Worth::MatchesMost | Worth::AnybodyMayChoose | Worth::Owner | Worth::Narrow => continue,
            };
            self.warn(&format!("{place}.claims.{key}"), format!("{who}: claims: '{key}': {what}"));
        }
        if self.found.len() > before {
            return;
        }
        let reasons = judged.iter().map(|one| match one.worth {
            Worth::MatchesMost => format!("'{}' = '{}' matches nearly every value", one.key, one.pattern),
            _ => format!("'{}' is as anybody likes", one.key),
        });
        let reasons: Vec<String> = reasons.collect();
        if let Some(first) = judged.first() {
            let what = format!(
                "{who}: claims: nearly everybody with a token of {} matches: {}",
                member.issuer,
                reasons.join(", ")
            );
            self.warn(&format!("{place}.claims.{}", first.key), what);
        }
    }

    /// An owner's every repository, by one claim alone.
    fn owners(&mut self, judged: &[Judged<'_>], place: &str, who: &str, gets: Option<&str>) {
        let Some(gets) = gets.filter(|_| !judged.iter().any(|one| one.worth == Worth::Narrow)) else {
            return;
        };
        let Some(of) = judged.iter().find(|one| one.worth == Worth::Owner) else { return };
        let key = of.key;
        let what = format!(
            "{who}: claims: '{key}' = '{}' alone lets every repository of the owner {gets}",
            of.pattern
        );
        self.warn(&format!("{place}.claims.{key}"), what);
    }
}

fn judged(member: &Member) -> Vec<Judged<'_>> {
    let is_verified = |(key, pattern): (&String, &String)| name(key) == "email_verified" && pattern == "true";
    let verified = member.claims.iter().any(is_verified);
    let one = |(key, text): (&'_ String, &'_ String)| {
        let pattern = Pattern::exact(text).ok()?;
        Some(worth(&member.issuer, &name(key), &pattern, verified))
    };
    let claims = member.claims.iter();
    claims
        .filter_map(|(key, pattern)| one((key, pattern)).map(|worth| Judged { key, pattern, worth }))
        .collect()
}
