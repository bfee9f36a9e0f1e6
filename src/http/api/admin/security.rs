//! The endpoint for security events.

use actix_web::web::Data;
use actix_web::{HttpResponse, get};
use chrono::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::broker::security::{SecurityPage, Wanted};
use crate::http::State;
use crate::http::api::audit::Event;
use crate::http::api::query::{Faults, WithoutTeam, refuse_team, time};
use crate::http::body::Query;
use crate::http::caller::Auditor;
use crate::http::problem::Problem;
use crate::store::security::Cursor;

/// Which security events to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SecurityQuery {
    #[serde(rename = "type")]
    #[param(example = "label_policy_violation")]
    kind: Option<String>,
    /// `info`, `warning` or `high`.
    #[param(example = "high")]
    severity: Option<String>,
    team: Option<String>,
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

/// [`SecurityQuery`] for one team.
pub type TeamSecurityParams = WithoutTeam<SecurityQuery>;

impl SecurityQuery {
    /// The query with the team of the path; `team` in the query is refused.
    pub fn of_team(self, team: String) -> Result<SecurityQuery, Problem> {
        refuse_team(self.team.as_deref())?;
        Ok(SecurityQuery { team: Some(team), ..self })
    }

    pub fn parse(self) -> Result<(Wanted, Option<Cursor>, i64), Problem> {
        let mut faults = Faults::default();
        let wanted = Wanted {
            kind: faults.parse("type", self.kind.as_deref(), str::parse),
            severity: faults.parse("severity", self.severity.as_deref(), str::parse),
            team: faults.text("team", self.team),
            since: faults.parse("since", self.since.as_deref(), time),
            until: faults.parse("until", self.until.as_deref(), time),
        };
        let after = faults.parse("cursor", self.cursor.as_deref(), |text| {
            from_cursor(text).ok_or("the next_cursor of another page")
        });
        let limit = faults.limit(self.limit);
        faults.or((wanted, after, limit))
    }
}

pub fn to_cursor((at, id): Cursor) -> String {
    format!("{}-{id}", at.timestamp_micros())
}

fn from_cursor(text: &str) -> Option<Cursor> {
    let (micros, id) = text.split_once('-')?;
    // Postgres reaches less far than chrono.
    let micros = micros.parse().ok().filter(|micros| (0..=253_402_300_799_999_999).contains(micros))?;
    Some((DateTime::from_timestamp_micros(micros)?, id.parse().ok()?))
}

/// List security events, newest first
///
/// Events of the audit log that may need attention. Admins and auditors.
#[utoipa::path(tag = "admin", operation_id = "list_security_events", params(SecurityQuery), responses(
    (status = OK, description = "One page", body = SecurityEventList),
    Problem))]
#[get("/admin/security-events")]
pub async fn list(
    _: Auditor,
    state: Data<State>,
    Query(query): Query<SecurityQuery>,
) -> Result<HttpResponse, Problem> {
    let (wanted, after, limit) = query.parse()?;
    let page = state.broker.security_events(wanted, after, limit).await?;
    Ok(HttpResponse::Ok().json(SecurityEventList::from(page)))
}

/// An event of the audit log, with what it means.
#[derive(Serialize, ToSchema)]
pub struct SecurityEvent {
    #[serde(rename = "type")]
    #[schema(example = "label_policy_violation")]
    kind: &'static str,
    /// What was done about it by itself, where that is known.
    #[schema(required, example = "refused")]
    action_taken: Option<String>,
    #[serde(flatten)]
    event: Event,
}

/// One page of security events, newest first.
#[derive(Serialize, ToSchema)]
pub struct SecurityEventList {
    events: Vec<SecurityEvent>,
    /// Give it back as `cursor` for the next page; `null` on the last.
    #[schema(required)]
    next_cursor: Option<String>,
}

impl From<SecurityPage> for SecurityEventList {
    fn from(page: SecurityPage) -> SecurityEventList {
        let events = page.events.into_iter().map(|one| SecurityEvent {
            kind: one.kind.as_str(),
            action_taken: one.kind.action_taken(&one.event.event_data),
            event: Event::from(one.event),
        });
        SecurityEventList { events: events.collect(), next_cursor: page.next.map(to_cursor) }
    }
}
