//! A runner group as people write it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The id of the runner group that GitHub gives every organisation, and that every repository's runners are in: a
/// repository has no groups of its own.
pub const DEFAULT_GROUP_ID: i64 = 1;

/// Its name, as GitHub writes it. GitHub compares names without case.
pub const DEFAULT_GROUP_NAME: &str = "Default";

/// A runner group as people give it: GitHub's id, or its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum GroupRef {
    /// Unique within an organisation.
    Id(i64),
    /// In an organisation no two groups have the same name.
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
