//! The endpoints for deny rules.

use std::collections::BTreeMap;

use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, delete, get, post};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::teams::Answer;
use crate::broker::policy::denials::{DenyRules, denial_id};
use crate::http::State;
use crate::http::body::Body;
use crate::http::caller::{Admin, Auditor};
use crate::http::if_match::{Seen, etag};
use crate::http::problem::Problem;
use crate::policy::{DenyEntry, Until};

/// A rule that refuses tokens of this issuer whose claims all match.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DenialRequest {
    /// Compared to the last character.
    #[schema(example = "https://token.actions.githubusercontent.com")]
    issuer: String,
    /// Claim (or JSON Pointer, if it begins with `/`) to a regular expression for its whole value; at least one. Choose
    /// claims that the caller cannot change.
    #[schema(example = json!({ "repository_id": "123456789" }))]
    claims: BTreeMap<String, String>,
    /// The reason, on one line.
    #[serde(default)]
    #[schema(max_length = 500)]
    comment: String,
    /// When the rule ends; without it: never.
    #[serde(default)]
    #[schema(value_type = Option<DateTime<Utc>>)]
    until: Option<Until>,
}

impl From<DenialRequest> for DenyEntry {
    fn from(request: DenialRequest) -> DenyEntry {
        let DenialRequest { issuer, claims, comment, until } = request;
        DenyEntry { issuer, claims, comment, until }
    }
}

/// A rule that refuses callers.
#[derive(Serialize, ToSchema)]
pub struct Denial {
    /// Derived from the rule.
    #[schema(example = "0123456789abcdef")]
    id: String,
    issuer: String,
    claims: BTreeMap<String, String>,
    comment: String,
    /// When it ends, or has ended; `null`: never.
    #[schema(required)]
    until: Option<DateTime<Utc>>,
}

/// The rules that refuse callers, those that have ended too.
#[derive(Serialize, ToSchema)]
pub struct DenialList {
    denials: Vec<Denial>,
    /// Whether the policy is managed by `POLICY_FILE`: then it is read-only here.
    managed_by_file: bool,
}

fn shown(state: &State, found: DenyRules) -> HttpResponse {
    let version = found.version();
    let denial = |rule: DenyEntry| Denial {
        id: denial_id(&rule),
        issuer: rule.issuer,
        claims: rule.claims,
        comment: rule.comment,
        until: rule.until.map(Until::at),
    };
    let denials = found.rules.into_iter().map(denial).collect();
    let managed_by_file = state.broker.policy_is_managed_by_file();
    HttpResponse::Ok().insert_header(etag(&version)).json(DenialList { denials, managed_by_file })
}

/// List deny rules
///
/// Admins and auditors.
#[utoipa::path(tag = "admin", operation_id = "list_denials", responses(
    (status = OK, description = "The rules that refuse callers", body = DenialList, headers(("ETag" = String, description = "For `If-Match`"))),
    Problem))]
#[get("/admin/denials")]
pub async fn list(_: Auditor, state: Data<State>) -> Answer {
    Ok(shown(&state, state.broker.denials().await?))
}

/// Add a deny rule
///
/// Tokens of this issuer whose claims all match are refused on every replica within 5 seconds, whatever else matches
/// them, with 403 `ACCESS_DENIED`. A rule that matches you is refused: 409 `OWN_IDENTITY`. Repeating the call changes
/// nothing. Admins.
#[utoipa::path(tag = "admin", operation_id = "add_denial", params(Seen), request_body = DenialRequest, responses(
    (status = OK, description = "The rules as they are now", body = DenialList, headers(("ETag" = String, description = "For `If-Match`"))),
    Problem))]
#[post("/admin/denials")]
pub async fn add(
    Admin(admin): Admin,
    Seen { seen }: Seen,
    state: Data<State>,
    Body(denial): Body<DenialRequest>,
) -> Answer {
    Ok(shown(&state, state.broker.add_denial(&admin, &seen, denial.into()).await?))
}

/// Remove a deny rule
///
/// Admins.
#[utoipa::path(tag = "admin", operation_id = "remove_denial", params(("id" = String, Path, description = "The rule's id"), Seen), responses(
    (status = OK, description = "The rules as they are now", body = DenialList, headers(("ETag" = String, description = "For `If-Match`"))),
    Problem))]
#[delete("/admin/denials/{id}")]
pub async fn remove(
    Admin(admin): Admin,
    Seen { seen }: Seen,
    id: Path<String>,
    state: Data<State>,
) -> Answer {
    Ok(shown(&state, state.broker.remove_denial(&admin, &seen, &id).await?))
}
