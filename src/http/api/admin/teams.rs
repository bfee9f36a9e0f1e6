//! The endpoints for teams: list, create, get, change, deactivate, reactivate.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::LOCATION;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest, HttpResponse, get, patch, post};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use utoipa::IntoParams;

use super::identities::Reason;
use super::team_views::{Changed, Team, TeamChange, TeamList, TeamPreview, TeamRequest};
use crate::broker::Error;
use crate::broker::policy::teams;
use crate::http::State;
use crate::http::api::query::Faults;
use crate::http::body::{Body, Query};
use crate::http::caller::{Admin, Auditor};
use crate::http::if_match::{Seen, etag};
use crate::http::problem::Problem;
use crate::policy::{TeamEntry, is_team_name};
use crate::store::policies::TeamFilter;

pub type Answer = Result<HttpResponse, Problem>;

/// Which teams to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct TeamQuery {
    /// Part of the name or the description.
    q: Option<String>,
    active: Option<bool>,
    /// 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl TeamQuery {
    pub fn parse(self) -> Result<(TeamFilter, Option<String>, i64), Problem> {
        let mut faults = Faults::default();
        let filter = TeamFilter { q: faults.text("q", self.q), active: self.active };
        let after = faults.parse("cursor", self.cursor.as_deref(), |text| {
            is_team_name(text).then(|| text.to_owned()).ok_or("the next_cursor of another page")
        });
        let limit = faults.limit(self.limit);
        faults.or((filter, after, limit))
    }
}

/// Whether to do it.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DryRun {
    /// Only say what would change, and for which runners.
    #[serde(default)]
    dry_run: bool,
}

/// The name of a team in a path. A text that cannot be one is answered here with 404, since Postgres does not accept
/// every text.
pub struct TeamName(pub String);

impl FromRequest for TeamName {
    type Error = Problem;
    type Future = Ready<Result<TeamName, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        // By name: another part of the path may be a member's id.
        let encoded = req.match_info().get("name").unwrap_or_default();
        let name = percent_encoding::percent_decode_str(encoded).decode_utf8_lossy().into_owned();
        ready(match is_team_name(&name) {
            true => Ok(TeamName(name)),
            false => Err(Error::TeamNotFound(name).into()),
        })
    }
}

/// A team with its version.
fn shown(state: &State, team: teams::Team) -> HttpResponse {
    let version = team.version();
    let by_file = state.broker.policy_is_managed_by_file();
    HttpResponse::Ok().insert_header(etag(&version)).json(Team::new(team, by_file))
}

/// List teams by name
///
/// Deactivated ones too. Admins and auditors.
#[utoipa::path(tag = "admin", operation_id = "list_teams", params(TeamQuery), responses(
    (status = OK, description = "One page", body = TeamList),
    Problem))]
#[get("/admin/teams")]
pub async fn list(_: Auditor, state: Data<State>, Query(query): Query<TeamQuery>) -> Answer {
    let (filter, after, limit) = query.parse()?;
    let page = state.broker.team_list(&filter, after.as_deref(), limit).await?;
    Ok(HttpResponse::Ok().json(TeamList::new(page, state.broker.policy_is_managed_by_file())))
}

/// Create a team
///
/// It applies on every replica within 5 seconds. With `dry_run` the answer says what would change. Admins.
#[utoipa::path(tag = "admin", operation_id = "create_team", params(DryRun), request_body = TeamRequest, responses(
    (status = CREATED, description = "The team", body = Team, headers(("ETag" = String, description = "For `If-Match`"), ("Location" = String))),
    (status = OK, description = "A dry run: what would change", body = TeamPreview),
    Problem))]
#[post("/admin/teams")]
pub async fn create(
    Admin(admin): Admin,
    state: Data<State>,
    Query(query): Query<DryRun>,
    Body(request): Body<TeamRequest>,
) -> Answer {
    let entry = TeamEntry::from(request);
    if query.dry_run {
        let preview = state.broker.preview_team(&admin, entry).await?;
        return Ok(HttpResponse::Ok().json(TeamPreview::from(preview)));
    }
    let team = state.broker.create_team(&admin, entry).await?;
    let name = utf8_percent_encode(&team.entry.name, NON_ALPHANUMERIC).to_string();
    let (version, by_file) = (team.version(), state.broker.policy_is_managed_by_file());
    let mut answer = HttpResponse::Created();
    answer.insert_header(etag(&version)).insert_header((LOCATION, format!("/api/v1/admin/teams/{name}")));
    Ok(answer.json(Team::new(team, by_file)))
}

/// One team
///
/// Admins and auditors.
#[utoipa::path(tag = "admin", operation_id = "get_team", params(("name" = String, Path, description = "Its name")), responses(
    (status = OK, description = "The team", body = Team, headers(("ETag" = String, description = "For `If-Match`"))),
    Problem))]
#[get("/admin/teams/{name}")]
pub async fn get(_: Auditor, TeamName(name): TeamName, state: Data<State>) -> Answer {
    Ok(shown(&state, state.broker.team(&name).await?))
}

/// Change a team
///
/// A JSON merge patch (RFC 7396): what is absent stays, `null` is the default or no limit. The name of a team cannot be changed. With
/// `dry_run` the answer says what would change, and for which runners. Admins.
#[utoipa::path(tag = "admin", operation_id = "change_team", params(("name" = String, Path, description = "Its name"), Seen, DryRun),
    request_body(content = TeamChange, content_type = "application/merge-patch+json", example = json!({ "max_runners": 50, "requests_per_minute": null })), responses(
    (status = OK, description = "The team as it is now; of a dry run, what would change", body = Changed, headers(("ETag" = String, description = "For `If-Match`"))),
    Problem))]
#[patch("/admin/teams/{name}")]
pub async fn change(
    Admin(admin): Admin,
    TeamName(name): TeamName,
    Seen { seen }: Seen,
    state: Data<State>,
    Query(query): Query<DryRun>,
    Body(change): Body<TeamChange>,
) -> Answer {
    let patch = change.into();
    if query.dry_run {
        let preview = state.broker.preview_change(&admin, &name, &seen, &patch).await?;
        return Ok(HttpResponse::Ok().json(Changed::Preview(preview.into())));
    }
    let team = state.broker.change_team(&admin, &name, &seen, &patch).await?;
    let (version, by_file) = (team.version(), state.broker.policy_is_managed_by_file());
    Ok(HttpResponse::Ok().insert_header(etag(&version)).json(Changed::Team(Team::new(team, by_file))))
}

/// Deactivate a team
///
/// Members get no new runners, on every replica within 5 seconds. Its runners, rules and members are kept. Repeating the
/// call changes nothing. Admins.
#[utoipa::path(tag = "admin", operation_id = "deactivate_team", params(("name" = String, Path, description = "Its name"), Seen), request_body = Reason, responses(
    (status = OK, description = "The team as it is now", body = Team, headers(("ETag" = String, description = "For `If-Match`"))),
    Problem))]
#[post("/admin/teams/{name}/deactivate")]
pub async fn deactivate(
    Admin(admin): Admin,
    TeamName(name): TeamName,
    Seen { seen }: Seen,
    state: Data<State>,
    Body(reason): Body<Reason>,
) -> Answer {
    Ok(shown(&state, state.broker.deactivate_team(&admin, &name, &seen, &reason.parse()?).await?))
}

/// Reactivate a team
///
/// Its rules and members are as before. Repeating the call changes nothing. Admins.
#[utoipa::path(tag = "admin", operation_id = "reactivate_team", params(("name" = String, Path, description = "Its name"), Seen), request_body = Reason, responses(
    (status = OK, description = "The team as it is now", body = Team, headers(("ETag" = String, description = "For `If-Match`"))),
    Problem))]
#[post("/admin/teams/{name}/reactivate")]
pub async fn reactivate(
    Admin(admin): Admin,
    TeamName(name): TeamName,
    Seen { seen }: Seen,
    state: Data<State>,
    Body(reason): Body<Reason>,
) -> Answer {
    Ok(shown(&state, state.broker.reactivate_team(&admin, &name, &seen, &reason.parse()?).await?))
}
