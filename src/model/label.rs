//! Runner labels, and which of them GitHub's runner sets by itself.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::invalid::Invalid;
use super::system::{Arch, Os};

/// A runner's label, lower-cased as GitHub does: 1 to 256 printable ASCII characters without a comma.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Label(String);

impl Label {
    /// The most labels that GitHub takes for one runner.
    pub const MOST: usize = 100;
    /// In bytes.
    const LONGEST: usize = 256;

    /// In lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Label, Invalid> {
        let text = text.trim_matches(' ');
        if text.is_empty() || text.len() > Label::LONGEST {
            return Err(Invalid(format!("a label has 1 to {} characters", Label::LONGEST)));
        }
        if !text.chars().all(|c| (' '..='~').contains(&c) && c != ',') {
            return Err(Invalid("a label is printable ASCII without a comma".into()));
        }
        Ok(Label(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Every self-hosted runner has this label.
const SELF_HOSTED: &str = "self-hosted";

/// How many labels [`system_labels`] has.
pub const SYSTEM_LABELS: usize = 3;

/// The labels that GitHub's runner gives itself: `self-hosted`, the operating system and the processor.
pub fn system_labels(os: Os, arch: Arch) -> BTreeSet<Label> {
    [SELF_HOSTED, os.as_str(), arch.as_str()].into_iter().map(|text| Label(text.into())).collect()
}

/// Whether a label is a system label of any operating system or processor, in upper or lower case. The only list
/// of them: it follows from [`Os::ALL`] and [`Arch::ALL`].
pub fn is_system_label(label: &str) -> bool {
    let mut names = [SELF_HOSTED]
        .into_iter()
        .chain(Os::ALL.iter().map(|os| os.as_str()))
        .chain(Arch::ALL.iter().map(|arch| arch.as_str()));
    names.any(|name| name.eq_ignore_ascii_case(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labels_of_every_system_are_system_labels_in_either_case() {
        for (os, arch) in Os::ALL.iter().flat_map(|os| Arch::ALL.iter().map(move |arch| (*os, *arch))) {
            let labels = system_labels(os, arch);
            assert_eq!(labels.len(), SYSTEM_LABELS);
            for label in labels {
                assert!(is_system_label(label.as_str()), "{label}");
                assert!(is_system_label(&label.as_str().to_ascii_uppercase()), "{label}");
            }
        }
        for other in ["", "gpu", "self_hosted", "linux-x64", " linux"] {
            assert!(!is_system_label(other), "{other}");
        }
    }
}
