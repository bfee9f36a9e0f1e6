//! The endpoints for admins and auditors.

use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, delete, get, post};

use super::team_views::{MemberList, MemberRequest};
use super::teams::Answer;
use crate::broker::policy::roles::RoleMembers;
use crate::http::State;
use crate::http::body::Body;
use crate::http::caller::{Admin, Auditor};
use crate::http::if_match::{Seen, etag};
use crate::http::problem::Problem;
use crate::model::Role;

fn shown(state: &State, role: RoleMembers) -> HttpResponse {
    let version = role.version();
    let by_file = state.broker.policy_is_managed_by_file();
    HttpResponse::Ok().insert_header(etag(&version)).json(MemberList::of_role(role, by_file))
}

/// List admins
///
/// Admins and auditors.
#[utoipa::path(tag = "admin", operation_id = "list_admins", responses(
    (status = OK, description = "The rules that make admins", body = MemberList, headers(("ETag" = String, description = "For `If-Match`"))),
    Problem))]
#[get("/admin/admins")]
pub async fn admins(_: Auditor, state: Data<State>) -> Answer {
    Ok(shown(&state, state.broker.role_members(Role::Admin).await?))
}

/// Add an admin rule
///
/// It applies to tokens of this issuer whose claims all match. Repeating the call changes nothing. Admins.
#[utoipa::path(tag = "admin", operation_id = "add_admin", params(Seen), request_body = MemberRequest, responses(
    (status = OK, description = "The rules as they are now", body = MemberList, headers(("ETag" = String, description = "For `If-Match`"))),
    Problem))]
#[post("/admin/admins")]
pub async fn add_admin(
    Admin(admin): Admin,
    Seen { seen }: Seen,
    state: Data<State>,
    Body(member): Body<MemberRequest>,
) -> Answer {
    Ok(shown(&state, state.broker.add_role_member(&admin, Role::Admin, &seen, member.into()).await?))
}

/// Remove an admin rule
///
/// You cannot remove your own role: 409 `OWN_ADMIN_ROLE`. Admins.
#[utoipa::path(tag = "admin", operation_id = "remove_admin", params(("id" = String, Path, description = "The member's id"), Seen), responses(
    (status = OK, description = "The rules as they are now", body = MemberList, headers(("ETag" = String, description = "For `If-Match`"))),
    Problem))]
#[delete("/admin/admins/{id}")]
pub async fn remove_admin(
    Admin(admin): Admin,
    Seen { seen }: Seen,
    id: Path<String>,
    state: Data<State>,
) -> Answer {
    Ok(shown(&state, state.broker.remove_role_member(&admin, Role::Admin, &seen, &id).await?))
}

/// List auditors
///
/// Admins and auditors.
#[utoipa::path(tag = "admin", operation_id = "list_auditors", responses(
    (status = OK, description = "The rules that make auditors", body = MemberList, headers(("ETag" = String, description = "For `If-Match`"))),
    Problem))]
#[get("/admin/auditors")]
pub async fn auditors(_: Auditor, state: Data<State>) -> Answer {
    Ok(shown(&state, state.broker.role_members(Role::Auditor).await?))
}

/// Add an auditor rule
///
/// It applies to tokens of this issuer whose claims all match. Repeating the call changes nothing. Admins.
#[utoipa::path(tag = "admin", operation_id = "add_auditor", params(Seen), request_body = MemberRequest, responses(
    (status = OK, description = "The rules as they are now", body = MemberList, headers(("ETag" = String, description = "For `If-Match`"))),
    Problem))]
#[post("/admin/auditors")]
pub async fn add_auditor(
    Admin(admin): Admin,
    Seen { seen }: Seen,
    state: Data<State>,
    Body(member): Body<MemberRequest>,
) -> Answer {
    Ok(shown(&state, state.broker.add_role_member(&admin, Role::Auditor, &seen, member.into()).await?))
}

/// Remove an auditor rule
///
/// Admins.
#[utoipa::path(tag = "admin", operation_id = "remove_auditor", params(("id" = String, Path, description = "The member's id"), Seen), responses(
    (status = OK, description = "The rules as they are now", body = MemberList, headers(("ETag" = String, description = "For `If-Match`"))),
    Problem))]
#[delete("/admin/auditors/{id}")]
pub async fn remove_auditor(
    Admin(admin): Admin,
    Seen { seen }: Seen,
    id: Path<String>,
    state: Data<State>,
) -> Answer {
    Ok(shown(&state, state.broker.remove_role_member(&admin, Role::Auditor, &seen, &id).await?))
}
