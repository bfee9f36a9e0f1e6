//! Labels that mean something already: GitHub's hosted images and what the runner itself calls itself.

use crate::model::{Arch, Label, Os};

/// Whether a job that asks for this label expects something else than a team's custom runner. Such a label
/// needs a pattern that spells it out; a wildcard was not written with it in mind.
pub(super) fn is_reserved(label: &Label) -> bool {
    let text = label.as_str();
    is_hosted(text) || looks_self_hosted(text) || is_system(text)
}

fn is_hosted(text: &str) -> bool {
    ["ubuntu-", "windows-", "macos-"].iter().any(|prefix| text.starts_with(prefix))
        || text.ends_with("-latest")
}

/// `self-hosted`, `self_hosted`, `selfhosted-anything`, …
fn looks_self_hosted(text: &str) -> bool {
    let letters: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    letters.starts_with("selfhosted")
}

fn is_system(text: &str) -> bool {
    Os::ALL.iter().any(|os| os.as_str() == text) || Arch::ALL.iter().any(|arch| arch.as_str() == text)
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
