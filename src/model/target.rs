//! Where a runner is registered.

use std::fmt;
use std::str::FromStr;

use super::invalid::Invalid;

/// Where a runner is registered: an organisation or a repository, lower-cased, since GitHub compares
/// their names without case. Only well-formed names: they go into a URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// By its login.
    Organization(String),
    /// Of an organisation or a user.
    Repository {
        /// The login of the account that it belongs to.
        owner: String,
        /// Without its owner.
        name: String,
    },
}

impl Target {
    /// The account whose installation serves this target.
    pub fn owner(&self) -> &str {
        match self {
            Target::Organization(owner) | Target::Repository { owner, .. } => owner,
        }
    }
}

impl FromStr for Target {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Target, Invalid> {
        let is_owner = |s: &str| {
            (1..=39).contains(&s.len())
                && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
                && s.starts_with(|c: char| c.is_ascii_alphanumeric())
        };
        let is_repo = |s: &str| {
            (1..=100).contains(&s.len())
                && s.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                && s != "."
                && s != ".."
        };
        let text = text.to_ascii_lowercase();
        match text.split_once('/') {
            None if is_owner(&text) => Ok(Target::Organization(text)),
            Some((owner, name)) if is_owner(owner) && is_repo(name) => {
                Ok(Target::Repository { owner: owner.into(), name: name.into() })
            }
            _ => Err(Invalid(
                "a target is the name of a GitHub organisation, or owner/name of a repository".into(),
            )),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Organization(owner) => f.write_str(owner),
            Target::Repository { owner, name } => write!(f, "{owner}/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_cannot_leave_its_place_in_a_url() {
        for bad in ["", "a/b/c", "../x", "a/..", "a/.", "a b", "a/b?c", "a%2fb", "a/b#c"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
        assert_eq!("Octo-Org/Repo.x".parse::<Target>().unwrap().to_string(), "octo-org/repo.x");
    }
}
