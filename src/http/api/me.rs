//! The endpoints about the caller: identity, permissions, and the decision about a request.

use actix_web::web::Data;
use actix_web::{HttpResponse, get, post};

use super::request::ExplainRequest;
use super::views::{Explained, Me, MyLabelPolicy, MyTeam, TeamPolicy};
use crate::http::State;
use crate::http::body::Body;
use crate::http::caller::Caller;
use crate::http::problem::Problem;

type Answer = Result<HttpResponse, Problem>;

/// Get the caller
#[utoipa::path(tag = "me", operation_id = "get_me", responses(
    (status = OK, description = "The caller", body = Me),
    Problem))]
#[get("/auth/me")]
pub async fn me(caller: Caller, state: Data<State>) -> Answer {
    let teams = state.broker.teams_of(&caller).await?;
    Ok(HttpResponse::Ok().json(Me {
        issuer: caller.identity.issuer,
        subject: caller.identity.subject,
        display_name: caller.identity.display_name,
        roles: caller.memberships.roles.keys().map(|role| role.as_str()).collect(),
        teams: teams.into_iter().map(MyTeam::from).collect(),
    }))
}

/// Get the permissions of the caller
#[utoipa::path(tag = "me", operation_id = "get_my_label_policy", responses(
    (status = OK, description = "The rules of the caller's teams", body = MyLabelPolicy),
    Problem))]
#[get("/auth/my-label-policy")]
pub async fn my_label_policy(caller: Caller) -> HttpResponse {
    let teams =
        caller.memberships.teams.iter().map(|membership| TeamPolicy::from(&*membership.team)).collect();
    HttpResponse::Ok().json(MyLabelPolicy { teams })
}

/// Check a request against the policy without creating a runner
#[utoipa::path(tag = "me", operation_id = "explain_policy", request_body(content = ExplainRequest, example = json!({ "method": "jit", "runner_name": "ci-worker-001", "labels": ["gpu"] })), responses(
    (status = OK, description = "The decision", body = Explained),
    Problem))]
#[post("/policy/explain")]
pub async fn explain(caller: Caller, state: Data<State>, Body(request): Body<ExplainRequest>) -> Answer {
    let ask = request.parse()?;
    Ok(HttpResponse::Ok().json(Explained::from(state.broker.explain(&caller, &ask).await?)))
}
