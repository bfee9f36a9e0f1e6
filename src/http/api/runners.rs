//! The endpoints for runners: provision, list, get, refresh, delete, remove-token.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::web::{Data, Path};
use actix_web::{FromRequest, HttpRequest, HttpResponse, HttpResponseBuilder, delete, get, post};
use uuid::Uuid;

use super::query::{ListQuery, RemoveQuery};
use super::request::{JitRequest, ProvisionRequest};
use super::views::{JitRunner, RegistrationRunner, RemoveToken, Removed, RunnerDetail, RunnerList};
use crate::broker;
use crate::broker::runners::remove::Outcome;
use crate::http::State;
use crate::http::body::{Body, Query};
use crate::http::caller::Caller;
use crate::http::idempotency::IdempotencyKey;
use crate::http::problem::Problem;
use crate::model::RunnerName;

/// The id or name of a runner in a path. A text that can be neither is answered here with 404, since Postgres does not
/// accept every text.
pub struct IdOrName(pub String);

impl FromRequest for IdOrName {
    type Error = Problem;
    type Future = Ready<Result<IdOrName, Problem>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let text = Path::<String>::from_request(req, payload).into_inner().map(Path::into_inner);
        ready(match text {
            Ok(text) if Uuid::try_parse(&text).is_ok() || text.parse::<RunnerName>().is_ok() => {
                Ok(IdOrName(text))
            }
            Ok(text) => Err(broker::Error::RunnerNotFound(text).into()),
            Err(_) => Err(Problem::not_found(req.path())),
        })
    }
}

type Answer = Result<HttpResponse, Problem>;

/// Provision a runner with a registration token
///
/// Answers with a token for `config.sh`. GitHub binds that token neither to the name nor to the labels;
/// prefer `/runners/jit`, which does both.
#[utoipa::path(tag = "runners", operation_id = "provision_runner", params(IdempotencyKey), request_body(content = ProvisionRequest, example = json!({ "runner_name": "ci-worker-001", "labels": ["gpu"] })), responses(
    (status = CREATED, description = "The token, shown once", body = RegistrationRunner),
    Problem))]
#[post("/runners/provision")]
pub async fn provision(
    caller: Caller,
    key: IdempotencyKey,
    state: Data<State>,
    body: Body<ProvisionRequest>,
) -> Answer {
    register(caller, key, state, body).await
}

/// Provision a runner with a registration token (the same as `/runners/provision`)
#[utoipa::path(tag = "runners", operation_id = "create_runner", params(IdempotencyKey), request_body(content = ProvisionRequest, example = json!({ "runner_name": "ci-worker-001", "labels": ["gpu"] })), responses(
    (status = CREATED, description = "The token, shown once", body = RegistrationRunner),
    Problem))]
#[post("/runners")]
pub async fn create(
    caller: Caller,
    key: IdempotencyKey,
    state: Data<State>,
    body: Body<ProvisionRequest>,
) -> Answer {
    register(caller, key, state, body).await
}

/// Both routes of a registration; utoipa documents one route per handler.
async fn register(
    caller: Caller,
    key: IdempotencyKey,
    state: Data<State>,
    Body(request): Body<ProvisionRequest>,
) -> Answer {
    let key = key.for_request("registration_token", &request);
    let (ask, os) = (request.parse()?, request.os);
    let provisioned = state.broker.provision(&caller, ask, key).await?;
    let url = state.broker.url_of(provisioned.grant.target());
    Ok(created(provisioned.runner.id).json(RegistrationRunner::new(provisioned, url, os)))
}

/// Provision a just-in-time runner
///
/// Labels, group and ephemeral mode are fixed by GitHub before the runner starts. The runner must connect
/// before `expires_at`; one that has not is removed from GitHub.
#[utoipa::path(tag = "runners", operation_id = "provision_jit_runner", params(IdempotencyKey), request_body(content = JitRequest, example = json!({ "runner_name_prefix": "ci-worker", "labels": ["gpu"] })), responses(
    (status = CREATED, description = "The configuration, shown once", body = JitRunner),
    Problem))]
#[post("/runners/jit")]
pub async fn provision_jit(
    caller: Caller,
    key: IdempotencyKey,
    state: Data<State>,
    Body(request): Body<JitRequest>,
) -> Answer {
    let key = key.for_request("jit", &request);
    let (ask, os) = (request.parse()?, request.os);
    let provisioned = state.broker.provision(&caller, ask, key).await?;
    Ok(created(provisioned.runner.id).json(JitRunner::new(provisioned, os)))
}

/// An answer with a credential: never stored by anything between us and the caller.
fn created(id: Uuid) -> HttpResponseBuilder {
    let mut answer = HttpResponse::Created();
    answer.insert_header((CACHE_CONTROL, "no-store"));
    answer.insert_header((LOCATION, format!("/api/v1/runners/{id}")));
    answer
}

/// List runners, newest first
#[utoipa::path(tag = "runners", operation_id = "list_runners", params(ListQuery), responses(
    (status = OK, description = "One page", body = RunnerList),
    Problem))]
#[get("/runners")]
pub async fn list(caller: Caller, state: Data<State>, Query(query): Query<ListQuery>) -> Answer {
    let (filter, before, limit) = query.parse()?;
    let page = state.broker.runners(&caller, &filter, before, limit).await?;
    Ok(HttpResponse::Ok().json(RunnerList::from(page)))
}

/// Get a runner with its latest events
#[utoipa::path(tag = "runners", operation_id = "get_runner", params(("id_or_name" = String, Path, description = "Id, or name: the live runner of that name, else the newest")), responses(
    (status = OK, description = "The runner", body = RunnerDetail),
    Problem))]
#[get("/runners/{id_or_name}")]
pub async fn get(caller: Caller, state: Data<State>, IdOrName(id_or_name): IdOrName) -> Answer {
    let (runner, events) = state.broker.runner(&caller, &id_or_name).await?;
    Ok(HttpResponse::Ok().json(RunnerDetail::new(runner, events)))
}

/// Refresh a runner from GitHub
#[utoipa::path(tag = "runners", operation_id = "refresh_runner", params(("id_or_name" = String, Path, description = "Id or name")), responses(
    (status = OK, description = "The runner as GitHub has it now", body = RunnerDetail),
    Problem))]
#[post("/runners/{id_or_name}/refresh")]
pub async fn refresh(caller: Caller, state: Data<State>, IdOrName(id_or_name): IdOrName) -> Answer {
    let (runner, events) = state.broker.refresh(&caller, &id_or_name).await?;
    Ok(HttpResponse::Ok().json(RunnerDetail::new(runner, events)))
}

/// Remove a runner from GitHub
///
/// A busy runner is left alone (409), or removed once it is idle (202) with `force_when_idle=true`.
#[utoipa::path(tag = "runners", operation_id = "remove_runner", params(("id_or_name" = String, Path, description = "Id or name"), RemoveQuery), responses(
    (status = OK, description = "The runner is removed", body = Removed),
    (status = ACCEPTED, description = "The runner is busy, and will be removed once idle", body = Removed),
    Problem))]
#[delete("/runners/{id_or_name}")]
pub async fn remove(
    caller: Caller,
    state: Data<State>,
    IdOrName(id_or_name): IdOrName,
    Query(query): Query<RemoveQuery>,
) -> Answer {
    let (runner, outcome) = state.broker.remove(&caller, &id_or_name, query.force_when_idle).await?;
    let mut answer = match outcome {
        Outcome::Deleted | Outcome::AlreadyGone | Outcome::NeverRegistered => HttpResponse::Ok(),
        Outcome::WhenIdle => HttpResponse::Accepted(),
    };
    Ok(answer.json(Removed::new(runner, &outcome)))
}

/// Create a token for `config.sh remove`
///
/// Only for runners of the registration flow. The token is good for any runner of the target: use it on the
/// machine that the runner is on.
#[utoipa::path(tag = "runners", operation_id = "create_remove_token", params(("id_or_name" = String, Path, description = "Id or name")), responses(
    (status = CREATED, description = "The token, shown once", body = RemoveToken),
    Problem))]
#[post("/runners/{id_or_name}/remove-token")]
pub async fn remove_token(caller: Caller, state: Data<State>, IdOrName(id_or_name): IdOrName) -> Answer {
    let (runner, issued) = state.broker.remove_token(&caller, &id_or_name).await?;
    Ok(created(runner.id).json(RemoveToken::from(issued)))
}
