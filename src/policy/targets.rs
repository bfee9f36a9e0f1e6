//! Which organisations and repositories a team may put its runners on.

use crate::model::Target;

/// `org` (not its repositories), `org/repo`, or `org/` and a name in which `*` stands for anything.
#[derive(Clone, Debug)]
pub(super) struct TargetPattern {
    text: String,
    owner: String,
    /// `None`: the organisation itself.
    repository: Option<String>,
}

impl TargetPattern {
    pub fn parse(text: &str) -> Result<TargetPattern, String> {
        let (owner, repository) = match text.split_once('/') {
            None => (text, None),
            Some((owner, repository)) => (owner, Some(repository)),
        };
        if owner.contains('*') {
            return Err("'*' may stand only in the name of a repository, as in octo-org/*".to_owned());
        }
        // What is left once the stars are a letter has to be a target.
        text.replace('*', "x").parse::<Target>().map_err(|err| err.to_string())?;
        Ok(TargetPattern {
            text: text.to_owned(),
            owner: owner.to_ascii_lowercase(),
            repository: repository.map(str::to_ascii_lowercase),
        })
    }

    /// Matches this target alone.
    pub fn only(target: &Target) -> TargetPattern {
        let repository = match target {
            Target::Organization(_) => None,
            Target::Repository { name, .. } => Some(name.clone()),
        };
        TargetPattern { text: target.to_string(), owner: target.owner().to_owned(), repository }
    }

    pub fn matches(&self, target: &Target) -> bool {
        match (&self.repository, target) {
            (None, Target::Organization(owner)) => *owner == self.owner,
            (Some(glob), Target::Repository { owner, name }) => *owner == self.owner && fits(glob, name),
            _ => false,
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Each part between stars is taken where it first fits, which is enough when the last one is fixed.
fn fits(glob: &str, name: &str) -> bool {
    let Some((head, rest)) = glob.split_once('*') else { return glob == name };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(inner) = name.strip_prefix(head).and_then(|name| name.strip_suffix(tail)) else { return false };
    middle
        .split('*')
        .try_fold(inner, |left, part| left.find(part).map(|at| &left[at + part.len()..]))
        .is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, target: &str) -> bool {
        TargetPattern::parse(pattern).unwrap().matches(&target.parse().unwrap())
    }

    #[test]
    fn an_organisation_is_not_its_repositories() {
        assert!(allows("Octo-Org", "octo-org"));
        assert!(!allows("octo-org", "octo-org/repo"));
        assert!(!allows("octo-org/*", "octo-org"));
        assert!(!allows("octo-org/*", "octo-org-evil/repo"));
    }

    #[test]
    fn a_star_stands_for_anything_in_a_repository_name() {
        assert!(allows("octo-org/*", "octo-org/Repo"));
        assert!(allows("octo-org/ML-*", "octo-org/ml-train"));
        assert!(allows("octo-org/ml-*", "octo-org/ml-"));
        assert!(!allows("octo-org/ml-*", "octo-org/xml-train"));
        assert!(allows("octo-org/*-a*b*-z", "octo-org/x-a-b-b-z"));
        assert!(!allows("octo-org/a*a", "octo-org/a"));
        assert!(!allows("octo-org/*a*b*", "octo-org/ba"));
    }

    #[test]
    fn a_bad_target_is_refused() {
        for bad in ["", "*", "octo*", "*/repo", "octo-org/", "octo-org/a/b", "octo org", "octo-org/[a-z]"] {
            assert!(TargetPattern::parse(bad).is_err(), "{bad}");
        }
    }
}
