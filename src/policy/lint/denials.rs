//! Deny rules that refuse nobody, or everybody who could take them back.

use std::collections::BTreeMap;

use super::Lint;
use super::claim::name;
use super::samples::matches_most;
use super::witness::witnesses;
use crate::policy::deny::{DenyEntry, Until};
use crate::policy::document::{Document, Member};
use crate::policy::pattern::Pattern;

impl Lint<'_> {
    pub(super) fn denials(&mut self, document: &Document) {
        let now = self.known.now;
        let stands = |entry: &&DenyEntry| entry.until.map(Until::at).is_none_or(|until| now < until);
        for (n, entry) in document.deny.iter().enumerate() {
            let place = format!("deny.{n}");
            let who = self.numbered("deny", n, &place);
            self.issuer(&entry.issuer, &place, &who);
            self.numbers(&entry.claims, &place, &who);
            if let Some(until) = entry.until.filter(|_| !stands(&entry)) {
                self.warn(&format!("{place}.until"), format!("{who}: ended at {until}, and refuses nobody"));
            }
        }
        let denied_by =
            |admin: &Member| document.deny.iter().filter(stands).position(|entry| refuses_all(entry, admin));
        let denied: Option<Vec<usize>> = document.admin.iter().map(denied_by).collect();
        let Some(first) = denied.and_then(|by| by.into_iter().min()) else { return };
        let standing: Vec<usize> = (0..document.deny.len()).filter(|n| stands(&&document.deny[*n])).collect();
        let n = standing.get(first).copied().unwrap_or_default();
        let place = format!("deny.{n}");
        let who = self.numbered("deny", n, &place);
        let claims =
            document.deny[n].claims.keys().map(|key| format!("'{key}'")).collect::<Vec<_>>().join(", ");
        self.warn(
            &place,
            format!("{who}: claims: {claims}: no administrator is left, all of them are refused"),
        );
    }
}

/// Whether everybody whom this rule makes an admin is refused: what the one says of a claim is what the other wants, or
/// the other wants nothing in particular.
fn refuses_all(entry: &DenyEntry, admin: &Member) -> bool {
    let has: BTreeMap<String, &String> = admin.claims.iter().map(|(key, text)| (name(key), text)).collect();
    entry.issuer == admin.issuer
        && entry.claims.iter().all(|(key, text)| {
            let Ok(refused) = Pattern::exact(text) else { return false };
            match has.get(&name(key)).map(|text| Pattern::exact(text)) {
                Some(Ok(wanted)) => {
                    let found = witnesses(&wanted);
                    matches_most(&refused)
                        || (!found.is_empty() && found.iter().all(|text| refused.matches(text)))
                }
                Some(Err(_)) => false,
                None => matches_most(&refused),
            }
        })
}
