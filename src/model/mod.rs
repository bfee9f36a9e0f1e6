//! The words of the domain: parsed once at the door, valid ever after. Knows no HTTP, no SQL, no GitHub.

mod backoff;
mod causes;
mod digest;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use backoff::Backoff;
pub use causes::with_causes;
pub use digest::{sha256, sha256_of_parts};

/// The id of the runner group that GitHub gives every organisation, and that every repository's runners are in: a
/// repository has no groups of its own.
pub const DEFAULT_GROUP_ID: i64 = 1;
/// Its name, as GitHub writes it. GitHub compares names without case.
pub const DEFAULT_GROUP_NAME: &str = "Default";

/// Why a text is not one of these words; the sentence is shown to callers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// Who is calling. (issuer, subject) is the identity; the display name is only for people's eyes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub issuer: String,
    pub subject: String,
    pub display_name: String,
}

/// A runner's label, lower-cased as GitHub does: 1 to 256 printable ASCII characters without a comma.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Label(String);

impl Label {
    /// The most labels that GitHub takes for one runner.
    pub const MOST: usize = 100;
    const LONGEST: usize = 256;

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

/// A runner's name: 1 to 64 of `A-Za-z0-9._-`, beginning with a letter or digit, not shaped like a UUID.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct RunnerName(String);

impl RunnerName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunnerName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<RunnerName, Invalid> {
        named(text, 64, "a runner name")?;
        if uuid::Uuid::try_parse(text).is_ok() {
            return Err(Invalid("a runner name is not shaped like a UUID: those are runner ids".into()));
        }
        Ok(RunnerName(text.to_owned()))
    }
}

impl fmt::Display for RunnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an administrator does something, for the audit log: 10 to 500 characters on one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Comment(String);

impl Comment {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Comment {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Comment, Invalid> {
        let text = text.trim();
        let fits = (10..=500).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        match fits {
            true => Ok(Comment(text.to_owned())),
            false => Err(Invalid("10 to 500 characters, none of them a control character".into())),
        }
    }
}

/// What a generated name begins with: as a runner name, at most 50 characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct NamePrefix(String);

impl NamePrefix {
    const SUFFIX: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

    /// The prefix, `-` and six random characters of `a-z0-9`.
    pub fn complete(&self) -> RunnerName {
        let suffix: String =
            (0..6).map(|_| char::from(Self::SUFFIX[rand::random_range(0..Self::SUFFIX.len())])).collect();
        RunnerName(format!("{}-{suffix}", self.0))
    }
}

impl FromStr for NamePrefix {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<NamePrefix, Invalid> {
        named(text, 50, "a runner name prefix")?;
        Ok(NamePrefix(text.to_owned()))
    }
}

fn named(text: &str, longest: usize, what: &str) -> Result<(), Invalid> {
    let well_formed = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= longest;
    match well_formed {
        true => Ok(()),
        false => Err(Invalid(format!(
            "{what} has 1 to {longest} of A-Z a-z 0-9 . _ - and begins with a letter or digit"
        ))),
    }
}

/// How the caller wants the runner named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameAsk {
    Exact(RunnerName),
    Prefix(NamePrefix),
}

impl NameAsk {
    /// The exact name, or a fresh one for the prefix.
    pub fn name(&self) -> RunnerName {
        match self {
            NameAsk::Exact(name) => name.clone(),
            NameAsk::Prefix(prefix) => prefix.complete(),
        }
    }

    pub fn is_generated(&self) -> bool {
        matches!(self, NameAsk::Prefix(_))
    }
}

/// Where a runner is registered: an organisation or a repository, lower-cased, since GitHub compares
/// their names without case. Only well-formed names: they go into a URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    Organization(String),
    Repository { owner: String, name: String },
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

/// A runner group as people give it: GitHub's id, or its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum GroupRef {
    Id(i64),
    Name(String),
}

impl fmt::Display for GroupRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupRef::Id(id) => write!(f, "{id}"),
            GroupRef::Name(name) => f.write_str(name),
        }
    }
}

/// Implements the text form of an enum once: `as_str`, `Display`, `FromStr`, serde.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<$name, Invalid> {
                match text {
                    $($text => Ok($name::$variant),)+
                    _ => Err(Invalid(format!("one of {}", [$($text),+].join(", ")))),
                }
            }
        }
    };
}

words! {
    /// How a runner gets its credential.
    Method { Jit = "jit", RegistrationToken = "registration_token" }
}
words! {
    /// What a caller may do beyond his teams.
    Role { Admin = "admin", Auditor = "auditor" }
}
words! {
    /// The runner's operating system; together with `Arch` it makes the system labels.
    Os { Linux = "linux", Windows = "windows", MacOs = "macos" }
}
words! {
    /// The runner's processor.
    Arch { X64 = "x64", Arm64 = "arm64", Arm = "arm" }
}
words! {
    /// Where a runner stands in its life.
    Status {
        /// The intent is written; GitHub may or may not have heard of it.
        Requested = "requested",
        /// The credential was handed out; the runner has not connected yet.
        Pending = "pending",
        Active = "active",
        Offline = "offline",
        Deleting = "deleting",
        Deleted = "deleted",
        Failed = "failed",
    }
}

impl Status {
    /// Those that count in a quota and hold their name.
    pub const LIVE: &[Status] =
        &[Status::Requested, Status::Pending, Status::Active, Status::Offline, Status::Deleting];

    pub fn is_live(self) -> bool {
        Status::LIVE.contains(&self)
    }

    /// The one table of allowed moves.
    pub fn may_become(self, next: Status) -> bool {
        use Status::*;
        match self {
            Requested => matches!(next, Pending | Deleting | Failed),
            Pending => matches!(next, Requested | Active | Offline | Deleting | Deleted),
            Active => matches!(next, Offline | Deleting | Deleted),
            Offline => matches!(next, Active | Deleting | Deleted),
            // Back to what it was when GitHub says busy; `Failed` when an interrupted provision is repaired.
            Deleting => matches!(next, Pending | Active | Offline | Deleted | Failed),
            Deleted | Failed => false,
        }
    }
}

/// `self-hosted`, the operating system and the processor, as GitHub's own runner names them.
pub fn system_labels(os: Os, arch: Arch) -> BTreeSet<Label> {
    ["self-hosted", os.as_str(), arch.as_str()].into_iter().map(|text| Label(text.into())).collect()
}

/// Whether a lower-cased label is one of those that say what a runner is: any system's, any processor's.
pub fn is_system_label(label: &str) -> bool {
    label == "self-hosted" || label.parse::<Os>().is_ok() || label.parse::<Arch>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_shaped_like_an_id_is_refused() {
        assert!("0198c0de-0000-7000-8000-000000000000".parse::<RunnerName>().is_err());
        assert!("ci-worker-001".parse::<RunnerName>().is_ok());
        assert!("-x".parse::<RunnerName>().is_err());
        assert!("a b".parse::<RunnerName>().is_err());
    }

    #[test]
    fn a_generated_name_keeps_to_the_rules_of_names() {
        let prefix: NamePrefix = "p".repeat(50).parse().unwrap();
        assert!(prefix.complete().as_str().parse::<RunnerName>().is_ok());
    }

    #[test]
    fn a_target_cannot_leave_its_place_in_a_url() {
        for bad in ["", "a/b/c", "../x", "a/..", "a/.", "a b", "a/b?c", "a%2fb", "a/b#c"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
        assert_eq!("Octo-Org/Repo.x".parse::<Target>().unwrap().to_string(), "octo-org/repo.x");
    }

    #[test]
    fn nothing_leaves_its_last_state() {
        for &next in Status::ALL {
            assert!(!Status::Deleted.may_become(next) && !Status::Failed.may_become(next));
        }
    }
}
