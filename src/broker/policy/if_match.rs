//! The version that an administrator saw before a change (RFC 9110, `If-Match`): if it has changed since, nothing is
//! written.

use serde::Serialize;

use crate::broker::Error;
use crate::model::sha256;

/// Which versions a change is meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// Nobody said: refused.
    Missing,
    /// `*`: whatever is there.
    Any,
    /// One of these.
    Tags(Vec<String>),
}

impl IfMatch {
    /// Matches this version only.
    pub fn tag(tag: impl Into<String>) -> IfMatch {
        IfMatch::Tags(vec![tag.into()])
    }

    /// Compared under the lock under which the change is written.
    pub(in crate::broker) fn check(&self, tag: &str) -> Result<(), Error> {
        match self {
            IfMatch::Missing => Err(Error::PreconditionRequired),
            IfMatch::Any => Ok(()),
            IfMatch::Tags(tags) if tags.iter().any(|wanted| wanted == tag) => Ok(()),
            IfMatch::Tags(_) => Err(Error::PreconditionFailed),
        }
    }
}

/// The version of something: the same for the same content, whenever it came about.
pub(in crate::broker) fn version(of: &impl Serialize) -> String {
    let text = serde_json::to_vec(of).unwrap_or_default();
    let mut hash = sha256(&text);
    hash.truncate(32);
    hash
}
