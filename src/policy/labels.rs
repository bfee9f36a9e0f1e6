//! Which labels a team may use: its patterns, and the labels that already mean something to GitHub.

use std::collections::BTreeSet;

use super::denial::Denial;
use super::rules::Team;
use crate::model::{Arch, Label, Os, is_system_label, system_labels};

/// The labels of a runner of this team and system: the system's, the team's required ones and those that are
/// `asked` for, if the team may use each of them.
pub(super) fn all_labels(
    team: &Team,
    os: Os,
    arch: Arch,
    asked: &BTreeSet<Label>,
) -> Result<BTreeSet<Label>, Denial> {
    let mut labels = system_labels(os, arch);
    labels.extend(team.required_labels.iter().cloned());
    let chosen: BTreeSet<Label> = asked.difference(&labels).cloned().collect();
    let refused: Vec<Label> = chosen.iter().filter(|label| !is_allowed(team, label)).cloned().collect();
    if !refused.is_empty() {
        return Err(Denial::Labels(refused));
    }
    labels.extend(chosen);
    if labels.len() > Label::MOST { Err(Denial::TooManyLabels) } else { Ok(labels) }
}

/// The labels of a runner that are not system labels, as they are written.
pub fn custom(labels: &[String]) -> Vec<String> {
    labels.iter().filter(|label| !is_system_label(label)).cloned().collect()
}

impl Team {
    /// The labels of a runner that the team may not use, as they are written.
    pub fn unpermitted(&self, labels: &[String]) -> Vec<String> {
        let is_permitted = |label: &String| {
            label
                .parse()
                .is_ok_and(|label: Label| self.required_labels.contains(&label) || is_allowed(self, &label))
        };
        custom(labels).into_iter().filter(|label| !is_permitted(label)).collect()
    }
}

/// Whether a pattern of the team's matches the label. A reserved label needs a pattern that spells it out: a
/// wildcard was not written with it in mind.
fn is_allowed(team: &Team, label: &Label) -> bool {
    let text = label.as_str();
    match is_reserved(label) {
        true => team.allowed_labels.iter().any(|pattern| pattern.is_exactly(text)),
        false => team.allowed_labels.iter().any(|pattern| pattern.matches(text)),
    }
}

/// Whether a job that asks for this label expects something other than a team's custom runner: a runner of GitHub's
/// own, or any runner of a system.
pub(super) fn is_reserved(label: &Label) -> bool {
    let text = label.as_str();
    is_hosted(text) || looks_self_hosted(text) || is_system_label(text)
}

/// Whether it is named as the images of GitHub-hosted runners are.
fn is_hosted(text: &str) -> bool {
    ["ubuntu-", "windows-", "macos-"].iter().any(|prefix| text.starts_with(prefix))
        || text.ends_with("-latest")
}

/// Whether it can be taken for `self-hosted`: `self_hosted`, `selfhosted-anything`, …
fn looks_self_hosted(text: &str) -> bool {
    let letters: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    letters.starts_with("selfhosted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosted_names_look_alikes_and_system_labels_are_reserved() {
        for label in [
            "ubuntu-22.04",
            "Ubuntu-Latest",
            "windows-2025",
            "macos-15-xlarge",
            "gpu-latest",
            "self-hosted",
            "self_hosted",
            "selfhosted",
            "SELF-HOSTED-gpu",
            "self hosted",
            "linux",
            "Windows",
            "macOS",
            "X64",
            "arm64",
            "arm",
        ] {
            assert!(is_reserved(&label.parse().unwrap()), "{label}");
        }
        for label in
            ["gpu", "ubuntu", "my-ubuntu-22.04", "latest", "not-self-hosted", "x64-fast", "linux-gpu"]
        {
            assert!(!is_reserved(&label.parse().unwrap()), "{label}");
        }
    }
}
