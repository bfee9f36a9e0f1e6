//! The endpoints for the members of a team.

use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, delete, get, post};

use super::team_views::{MemberList, MemberRequest};
use super::teams::{Answer, TeamName};
use crate::broker::policy::teams::Team;
use crate::http::State;
use crate::http::body::Body;
use crate::http::caller::{Admin, Auditor};
use crate::http::if_match::{Seen, etag};
use crate::http::problem::Problem;

fn shown(state: &State, team: Team) -> HttpResponse {
    let version = team.version();
    let by_file = state.broker.policy_is_managed_by_file();
    HttpResponse::Ok().insert_header(etag(&version)).json(MemberList::new(team.entry.member, by_file))
}

/// List the members of a team
///
/// Admins and auditors.
#[utoipa::path(tag = "admin", operation_id = "list_team_members", params(("name" = String, Path, description = "The team's name")), responses(
    (status = OK, description = "The rules that let callers in", body = MemberList, headers(("ETag" = String, description = "The team's, for `If-Match`"))),
    Problem))]
#[get("/admin/teams/{name}/members")]
pub async fn list(_: Auditor, TeamName(name): TeamName, state: Data<State>) -> Answer {
    Ok(shown(&state, state.broker.team(&name).await?))
}

/// Add a member rule
///
/// It applies to tokens of this issuer whose claims all match. Repeating the call changes nothing. Admins.
#[utoipa::path(tag = "admin", operation_id = "add_team_member", params(("name" = String, Path, description = "The team's name"), Seen), request_body = MemberRequest, responses(
    (status = OK, description = "The rules as they are now", body = MemberList, headers(("ETag" = String, description = "The team's, for `If-Match`"))),
    Problem))]
#[post("/admin/teams/{name}/members")]
pub async fn add(
    Admin(admin): Admin,
    TeamName(name): TeamName,
    Seen { seen }: Seen,
    state: Data<State>,
    Body(member): Body<MemberRequest>,
) -> Answer {
    Ok(shown(&state, state.broker.add_member(&admin, &name, &seen, member.into()).await?))
}

/// Remove a member rule
///
/// The runners of these callers are kept and still belong to the team. Admins.
#[utoipa::path(tag = "admin", operation_id = "remove_team_member", params(("name" = String, Path, description = "The team's name"), ("id" = String, Path, description = "The member's id"), Seen), responses(
    (status = OK, description = "The rules as they are now", body = MemberList, headers(("ETag" = String, description = "The team's, for `If-Match`"))),
    Problem))]
#[delete("/admin/teams/{name}/members/{id}")]
pub async fn remove(
    Admin(admin): Admin,
    TeamName(name): TeamName,
    Seen { seen }: Seen,
    path: Path<(String, String)>,
    state: Data<State>,
) -> Answer {
    let (_, id) = path.into_inner();
    Ok(shown(&state, state.broker.remove_member(&admin, &name, &seen, &id).await?))
}
