//! The broker's problems (RFC 9457), told in words.

use std::fmt;

use serde::Deserialize;

use super::plain;

/// An answer that is no success.
#[derive(Debug)]
pub struct Refusal {
    /// Of HTTP.
    pub status: u16,
    /// Of the broker's own; `None`: somebody in between answered.
    pub problem: Option<Problem>,
    /// Of an answer that is not the broker's.
    content_type: String,
    location: Option<String>,
}

/// What the broker says.
#[derive(Debug, Deserialize)]
pub struct Problem {
    title: String,
    detail: String,
    /// The contract's stable code.
    pub error_code: String,
    #[serde(default)]
    request_id: String,
    #[serde(default)]
    errors: Vec<FieldError>,
}

#[derive(Debug, Deserialize)]
struct FieldError {
    field: String,
    message: String,
}

impl Refusal {
    /// Reads a body as the broker's problem, if it is one.
    pub fn new(status: u16, content_type: &str, location: Option<&str>, body: &str) -> Refusal {
        Refusal {
            status,
            problem: serde_json::from_str(body).ok(),
            content_type: plain(content_type),
            location: location.map(plain),
        }
    }

    /// The contract's stable code; empty if this is not the broker's answer.
    pub fn code(&self) -> &str {
        self.problem.as_ref().map_or("", |problem| &problem.error_code)
    }

    /// In half a sentence, for people who wait.
    pub fn brief(&self) -> String {
        match &self.problem {
            Some(problem) => {
                format!("{} ({} {})", plain(&problem.detail), self.status, plain(&problem.error_code))
            }
            None => format!("the answer was {}", self.status),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(problem) = &self.problem else {
            return match &self.location {
                Some(location) => {
                    write!(
                        f,
                        "answered {} to {location}; redirects are not followed: is --url right?",
                        self.status
                    )
                }
                None => write!(
                    f,
                    "answered {} without a broker's words (content type '{}'): is --url right?",
                    self.status, self.content_type
                ),
            };
        };
        let (title, code) = (plain(&problem.title), plain(&problem.error_code));
        write!(f, "{title} ({} {code}): {}", self.status, plain(&problem.detail))?;
        for error in &problem.errors {
            write!(f, "\n  {}: {}", plain(&error.field), plain(&error.message))?;
        }
        if !problem.request_id.is_empty() {
            write!(f, "\n  request id: {}", plain(&problem.request_id))?;
        }
        Ok(())
    }
}
