//! The one error of this module: a text that is not one of its words.

/// Why a text is not one of these words; the sentence is shown to callers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);
