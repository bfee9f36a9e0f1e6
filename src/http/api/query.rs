//! Query strings: filters and cursors.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::http::problem::{FieldError, Problem};
use crate::model::Status;
use crate::store::{audit, jobs, runners};

/// How many rows a page has unless told otherwise, and at most.
const PAGE: i64 = 50;
const LARGEST_PAGE: i64 = 200;

/// Which runners to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    #[param(example = "active")]
    status: Option<String>,
    team: Option<String>,
    /// Runners that have this label.
    label: Option<String>,
    ephemeral: Option<bool>,
    /// Part of the name.
    q: Option<String>,
    /// 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl ListQuery {
    pub fn parse(self) -> Result<(runners::Filter, Option<Uuid>, i64), Problem> {
        let mut faults = Faults::default();
        let filter = runners::Filter {
            status: faults.parse("status", self.status.as_deref(), |text| text.parse::<Status>()),
            team: faults.text("team", self.team),
            label: faults.text("label", self.label),
            ephemeral: self.ephemeral,
            q: faults.text("q", self.q),
        };
        let before = faults.parse("cursor", self.cursor.as_deref(), |text| {
            text.parse().map_err(|_| "the next_cursor of another page")
        });
        let limit = faults.limit(self.limit);
        faults.or((filter, before, limit))
    }
}

/// Whether to wait for a busy runner.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RemoveQuery {
    /// A busy runner is removed once it is idle.
    #[serde(default)]
    pub force_when_idle: bool,
}

/// Which events to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    #[param(example = "provisioned")]
    event_type: Option<String>,
    /// Id or name.
    runner: Option<String>,
    team: Option<String>,
    /// Display name or subject.
    user: Option<String>,
    success: Option<bool>,
    /// A date, or a time (RFC 3339); from then on.
    #[param(example = "2026-11-01")]
    since: Option<String>,
    /// A date, or a time (RFC 3339); before then.
    until: Option<String>,
    /// 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl AuditQuery {
    /// As it is for one team's events.
    pub fn of_team(query: TeamAuditQuery, team: String) -> AuditQuery {
        AuditQuery {
            event_type: query.event_type,
            runner: query.runner,
            team: Some(team),
            user: query.user,
            success: query.success,
            since: query.since,
            until: query.until,
            limit: query.limit,
            cursor: query.cursor,
        }
    }

    pub fn parse(self) -> Result<(audit::Filter, Option<i64>, i64), Problem> {
        let mut faults = Faults::default();
        let filter = audit::Filter {
            event_type: faults.text("event_type", self.event_type),
            runner: faults.text("runner", self.runner),
            team: faults.text("team", self.team),
            user: faults.text("user", self.user),
            success: self.success,
            since: faults.parse("since", self.since.as_deref(), time),
            until: faults.parse("until", self.until.as_deref(), time),
        };
        let before = faults.parse("cursor", self.cursor.as_deref(), |text| {
            text.parse().map_err(|_| "the next_cursor of another page")
        });
        let limit = faults.limit(self.limit);
        faults.or((filter, before, limit))
    }
}

/// Which of a team's events to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct TeamAuditQuery {
    #[param(example = "provisioned")]
    event_type: Option<String>,
    /// Id or name.
    runner: Option<String>,
    /// Display name or subject.
    user: Option<String>,
    success: Option<bool>,
    /// A date, or a time (RFC 3339); from then on.
    #[param(example = "2026-11-01")]
    since: Option<String>,
    /// A date, or a time (RFC 3339); before then.
    until: Option<String>,
    /// 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Which jobs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct JobsQuery {
    /// waiting, queued, in_progress or completed.
    #[param(example = "queued")]
    state: Option<String>,
    #[param(example = "octo-org/octo-repo")]
    repository: Option<String>,
    /// Jobs that ask for this label.
    label: Option<String>,
    /// 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl JobsQuery {
    pub fn parse(self) -> Result<(jobs::Filter, Option<i64>, i64), Problem> {
        const STATES: [&str; 4] = ["waiting", "queued", "in_progress", "completed"];
        let mut faults = Faults::default();
        let lower = |text: Option<String>| text.map(|text| text.to_lowercase());
        let filter = jobs::Filter {
            state: faults.parse("state", self.state.as_deref(), |text| {
                let known = STATES.contains(&text).then(|| text.to_owned());
                known.ok_or("one of waiting, queued, in_progress, completed")
            }),
            repository: lower(faults.text("repository", self.repository)),
            label: lower(faults.text("label", self.label)),
        };
        let before = faults.parse("cursor", self.cursor.as_deref(), |text| {
            text.parse().map_err(|_| "the next_cursor of another page")
        });
        let limit = faults.limit(self.limit);
        faults.or((filter, before, limit))
    }
}

/// A date (its first moment in UTC) or a time.
pub fn time(text: &str) -> Result<DateTime<Utc>, &'static str> {
    let time = match text.parse::<NaiveDate>() {
        Ok(date) => Ok(date.and_time(chrono::NaiveTime::MIN).and_utc()),
        // In a query string a plus sign is a space.
        Err(_) => DateTime::parse_from_rfc3339(&text.replace(' ', "+")).map(|time| time.to_utc()),
    };
    // Postgres reaches less far than chrono.
    time.ok()
        .filter(|time| (0..=9999).contains(&chrono::Datelike::year(time)))
        .ok_or("a date such as 2026-11-01, or a time such as 2026-11-01T12:00:00Z")
}

/// Gathers what is wrong with a query.
#[derive(Default)]
pub(in crate::http) struct Faults(Vec<FieldError>);

impl Faults {
    pub fn parse<T, E: std::fmt::Display>(
        &mut self,
        field: &'static str,
        text: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        parse(text?).map_err(|err| self.0.push(FieldError::new(field, err))).ok()
    }

    /// Postgres knows no NUL in a text.
    pub fn text(&mut self, field: &'static str, text: Option<String>) -> Option<String> {
        let is_plain =
            text.as_ref().is_none_or(|text| !text.chars().any(char::is_control) && text.len() <= 1_024);
        if !is_plain {
            self.0.push(FieldError::new(field, "at most 1,024 characters, none of them a control character"));
        }
        text.filter(|_| is_plain)
    }

    pub fn limit(&mut self, limit: Option<i64>) -> i64 {
        let limit = limit.unwrap_or(PAGE);
        if !(1..=LARGEST_PAGE).contains(&limit) {
            self.0.push(FieldError::new("limit", format!("1 to {LARGEST_PAGE}")));
        }
        limit
    }

    pub fn or<T>(self, value: T) -> Result<T, Problem> {
        match self.0.is_empty() {
            true => Ok(value),
            false => Err(Problem::invalid(self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_and_a_time_are_within_the_years_that_postgres_knows() {
        for text in
            ["2026-11-01", "0000-01-01", "9999-12-31", "2026-11-01T12:00:00Z", "2026-11-01T12:00:00 02:00"]
        {
            assert!(time(text).is_ok(), "{text}");
        }
        for text in [
            "-0001-12-31",
            "-262143-01-01",
            "+10000-01-01",
            "+262142-12-31",
            "9999-12-31T23:59:59-01:00",
            "today",
            "",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
