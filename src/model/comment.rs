//! The reason that an administrator gives.

use std::str::FromStr;

use serde::Serialize;

use super::invalid::Invalid;

/// Why an administrator does something, for the audit log: 10 to 500 characters on one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Comment(String);

impl Comment {
    /// Without spaces around it.
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
