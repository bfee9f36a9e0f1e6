//! The endpoints for the events of one team: the queries of the audit log with the team of the path.

use actix_web::web::Data;
use actix_web::{HttpResponse, get};

use super::security::{SecurityEventList, SecurityQuery, TeamSecurityParams};
use super::teams::{Answer, TeamName};
use crate::http::State;
use crate::http::api::audit::EventList;
use crate::http::api::query::{AuditQuery, TeamAuditParams};
use crate::http::body::Query;
use crate::http::caller::Auditor;
use crate::http::problem::Problem;

/// A team's part of the audit log, newest first
///
/// Admins and auditors.
#[utoipa::path(tag = "admin", operation_id = "list_team_audit_events", params(("name" = String, Path, description = "The team's name"), TeamAuditParams), responses(
    (status = OK, description = "One page", body = EventList),
    Problem))]
#[get("/admin/teams/{name}/audit")]
pub async fn audit(
    Auditor(caller): Auditor,
    TeamName(name): TeamName,
    state: Data<State>,
    Query(query): Query<AuditQuery>,
) -> Answer {
    let name = state.broker.team_name(&name).await?;
    let (filter, before, limit) = query.of_team(name)?.parse()?;
    let page = state.broker.events(&caller, &filter, before, limit).await?;
    Ok(HttpResponse::Ok().json(EventList::from(page)))
}

/// A team's security events, newest first
///
/// Admins and auditors.
#[utoipa::path(tag = "admin", operation_id = "list_team_security_events", params(("name" = String, Path, description = "The team's name"), TeamSecurityParams), responses(
    (status = OK, description = "One page", body = SecurityEventList),
    Problem))]
#[get("/admin/teams/{name}/security-events")]
pub async fn security_events(
    _: Auditor,
    TeamName(name): TeamName,
    state: Data<State>,
    Query(query): Query<SecurityQuery>,
) -> Answer {
    let name = state.broker.team_name(&name).await?;
    let (wanted, after, limit) = query.of_team(name)?.parse()?;
    let page = state.broker.security_events(wanted, after, limit).await?;
    Ok(HttpResponse::Ok().json(SecurityEventList::from(page)))
}
