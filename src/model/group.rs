//! A runner group as people write it.

use std::fmt;

use serde::{Deserialize, Serialize};

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
