//! Deny rules as people write them, and the moment at which one ends.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, SecondsFormat, Utc};
use regex::Regex;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::shapes;

/// The most characters of a rule's comment.
pub(super) const MAX_COMMENT: usize = 500;

/// Callers who are refused whatever they call, and whatever else matches them: their token is of this issuer and has
/// all of these claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "deny", title = "Deny rule")]
pub struct DenyEntry {
    /// The token's iss, compared to the last character.
    #[schemars(length(min = 1), regex(pattern = shapes::LINE))]
    #[schemars(example = &"https://token.actions.githubusercontent.com")]
    pub issuer: String,
    /// Claims that the token must have, all of them; at least one, written as a member's. Choose claims that the
    /// caller cannot change, such as repository_id and not sub.
    #[schemars(schema_with = "shapes::claims")]
    #[schemars(extend("examples" = [{ "repository_id": "123456789" }]))]
    pub claims: BTreeMap<String, String>,
    /// The reason, for people: at most 500 characters on one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 500), regex(pattern = shapes::LINE), extend("default" = ""))]
    #[schemars(example = &"their workflow leaked its token")]
    pub comment: String,
    /// When the rule ends: RFC 3339, as text or as a TOML date; a date alone is its beginning in UTC. Without it: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "shapes::until", extend("examples" = ["2026-12-31", "2026-12-31T18:00:00+01:00"]))]
    pub until: Option<Until>,
}

/// A moment in UTC, as exact as Postgres stores it; in the years 1 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Until(DateTime<Utc>);

impl Until {
    /// The moment; `None`: of a year that RFC 3339 cannot write.
    pub fn new(at: DateTime<Utc>) -> Option<Until> {
        // A leap second is the next one from here on, and nobody needs nanoseconds.
        let at = DateTime::from_timestamp_micros(at.timestamp_micros())?;
        (1..=9999).contains(&at.year()).then_some(Until(at))
    }

    /// The moment itself: the rule does not hold any more.
    pub fn at(self) -> DateTime<Utc> {
        self.0
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Until, String> {
        static SHAPE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(shapes::UNTIL).ok());
        let bad = || format!("'{text}' is no date such as 2026-12-31 or 2026-12-31T18:00:00Z");
        if !SHAPE.as_ref().is_some_and(|shape| shape.is_match(text)) {
            return Err(bad());
        }
        let at = match text.len() {
            10 => text.parse::<NaiveDate>().ok().map(|day| day.and_time(NaiveTime::MIN).and_utc()),
            _ => DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc()),
        };
        at.and_then(Until::new).ok_or_else(bad)
    }
}

impl Serialize for Until {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Until {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Until, D::Error> {
        let text = match toml::Value::deserialize(from)? {
            toml::Value::String(text) => text,
            toml::Value::Datetime(date) => date.to_string(),
            _ => return Err(D::Error::custom("until is a date")),
        };
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_in_every_form_of_rfc_3339_and_no_other() {
        for (text, read) in [
            ("2026-12-31", "2026-12-31T00:00:00Z"),
            ("2026-12-31T18:00:00+01:00", "2026-12-31T17:00:00Z"),
            ("2026-12-31 18:00:00z", "2026-12-31T18:00:00Z"),
            ("2026-12-31t18:00:00.1234567-00:30", "2026-12-31T18:30:00.123456Z"),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ] {
            assert_eq!(text.parse::<Until>().map(|until| until.to_string()), Ok(read.to_owned()), "{text}");
            assert_eq!(read.parse::<Until>(), text.parse(), "{text}");
        }
        for bad in [
            "",
            "2026",
            "2026-02-30",
            "2026-1-1",
            "31.12.2026",
            "2026-12-31T18:00:00",
            "2026-12-31T18:00Z",
            "2026-12-31T25:00:00Z",
            "0000-01-01",
            "9999-12-31T23:59:59-01:00",
            " 2026-12-31",
            "2026-12-31\n",
        ] {
            assert!(bad.parse::<Until>().is_err(), "{bad}");
        }
    }
}
