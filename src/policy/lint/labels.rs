//! Label patterns that match nothing that a team may use, or everything.

use super::Lint;
use super::samples::matches_most_words;
use super::witness::witnesses;
use crate::model::Label;
use crate::policy::labels::is_reserved;
use crate::policy::pattern::Pattern;

impl Lint<'_> {
    pub(super) fn labels(&mut self, patterns: &[String], place: &str, who: &str) {
        for (n, text) in patterns.iter().enumerate() {
            let Ok(pattern) = Pattern::ignoring_case(text) else { continue };
            let found = witnesses(&pattern);
            let labels: Vec<Label> = found.iter().filter_map(|text| text.parse().ok()).collect();
            let what = match labels.first() {
                _ if found.is_empty() => continue,
                None => format!("'{text}' matches nothing that can be a label"),
                Some(first) if !pattern.is_literal() && labels.iter().all(is_reserved) => format!(
                    "'{text}' can never match: names such as '{first}' are reserved, and have to be spelled out \
                     one by one"
                ),
                Some(_) => continue,
            };
            self.warn(&format!("{place}.allowed_labels.{n}"), format!("{who}: allowed_labels: {what}"));
        }
    }
}

/// The pattern that matches nearly every label.
pub fn any(patterns: &[String]) -> Option<&str> {
    let is_any =
        |text: &&String| Pattern::ignoring_case(text).is_ok_and(|pattern| matches_most_words(&pattern));
    patterns.iter().find(is_any).map(String::as_str)
}
