//! The calls on the audit log, and what they show.

use actix_web::web::Data;
use actix_web::{HttpResponse, get};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::query::AuditQuery;
use crate::broker::audit::list::EventPage;
use crate::http::State;
use crate::http::body::Query;
use crate::http::caller::Caller;
use crate::http::problem::Problem;
use crate::store::audit;

/// Read the audit log, newest first
///
/// One's own events and one's teams'; all for admins and auditors.
#[utoipa::path(tag = "audit", operation_id = "list_audit_events", params(AuditQuery), responses(
    (status = OK, description = "One page", body = EventList),
    Problem))]
#[get("/audit")]
pub async fn list(
    caller: Caller,
    state: Data<State>,
    Query(query): Query<AuditQuery>,
) -> Result<HttpResponse, Problem> {
    let (filter, before, limit) = query.parse()?;
    let page = state.broker.events(&caller, &filter, before, limit).await?;
    Ok(HttpResponse::Ok().json(EventList::from(page)))
}

/// Something that happened; nobody can change it.
#[derive(Serialize, ToSchema)]
pub struct Event {
    id: i64,
    timestamp: DateTime<Utc>,
    #[schema(example = "provisioned")]
    event_type: String,
    #[schema(example = "info")]
    severity: String,
    success: bool,
    user_identity: String,
    #[schema(required)]
    issuer: Option<String>,
    #[schema(required)]
    subject: Option<String>,
    #[schema(required)]
    team: Option<String>,
    #[schema(required)]
    runner_id: Option<Uuid>,
    #[schema(required)]
    runner_name: Option<String>,
    #[schema(required)]
    target: Option<String>,
    #[schema(required)]
    request_id: Option<String>,
    #[schema(required)]
    request_ip: Option<String>,
    #[schema(required)]
    user_agent: Option<String>,
    #[schema(required)]
    policy_rule: Option<String>,
    #[schema(value_type = Object)]
    event_data: Value,
    #[schema(required)]
    error_code: Option<String>,
    #[schema(required)]
    error_message: Option<String>,
}

impl From<audit::Event> for Event {
    fn from(row: audit::Event) -> Event {
        Event {
            id: row.id,
            timestamp: row.timestamp,
            event_type: row.event_type,
            severity: row.severity,
            success: row.success,
            user_identity: row.user_identity,
            issuer: row.issuer,
            subject: row.subject,
            team: row.team,
            runner_id: row.runner_id,
            runner_name: row.runner_name,
            target: row.target,
            request_id: row.request_id,
            request_ip: row.request_ip,
            user_agent: row.user_agent,
            policy_rule: row.policy_rule,
            event_data: row.event_data,
            error_code: row.error_code,
            error_message: row.error_message,
        }
    }
}

/// One page of the log, newest first.
#[derive(Serialize, ToSchema)]
pub struct EventList {
    logs: Vec<Event>,
    /// Give it back as `cursor` for the next page; `null` on the last, and only there: a page may be short, or empty.
    #[schema(required)]
    next_cursor: Option<String>,
}

impl From<EventPage> for EventList {
    fn from(page: EventPage) -> EventList {
        EventList {
            logs: page.events.into_iter().map(Event::from).collect(),
            next_cursor: page.next.map(|id| id.to_string()),
        }
    }
}
