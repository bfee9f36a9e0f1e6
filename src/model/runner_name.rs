//! A runner's name, or what a generated one begins with.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::invalid::Invalid;

/// A runner's name: 1 to 64 of `A-Za-z0-9._-`, beginning with a letter or digit, not shaped like a UUID.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct RunnerName(String);

impl RunnerName {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunnerName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<RunnerName, Invalid> {
        check_name(text, 64, "a runner name")?;
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
        check_name(text, 50, "a runner name prefix")?;
        Ok(NamePrefix(text.to_owned()))
    }
}

/// How the caller wants the runner named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameAsk {
    /// This name, or none.
    Exact(RunnerName),
    /// A name that begins with this and that nobody has.
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

    /// Whether the broker chooses the name's end.
    pub fn is_generated(&self) -> bool {
        matches!(self, NameAsk::Prefix(_))
    }
}

fn check_name(text: &str, longest: usize, what: &str) -> Result<(), Invalid> {
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
}
