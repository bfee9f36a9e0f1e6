//! The calls on the audit log.

use actix_web::web::Data;
use actix_web::{HttpResponse, get};

use super::State;
use super::body::Query;
use super::caller::Caller;
use super::problem::Problem;
use super::query::AuditQuery;
use super::views::EventList;

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
