//! The endpoints for identities: list, deactivate, activate.

use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, get, post};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::broker::people::identities::IdentityPage;
use crate::http::State;
use crate::http::api::query::Faults;
use crate::http::body::{Body, Query};
use crate::http::caller::{Admin, Auditor};
use crate::http::problem::{FieldError, Problem};
use crate::model::Comment;
use crate::store::identities;

type Answer = Result<HttpResponse, Problem>;

/// Which identities to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct IdentityQuery {
    /// Part of the subject or of the display name.
    q: Option<String>,
    active: Option<bool>,
    /// 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl IdentityQuery {
    pub fn parse(self) -> Result<(identities::Filter, Option<Uuid>, i64), Problem> {
        let mut faults = Faults::default();
        let filter = identities::Filter {
            q: faults.text("q", self.q),
            active: self.active,
            ..identities::Filter::default()
        };
        let before = faults.parse("cursor", self.cursor.as_deref(), |text| {
            text.parse().map_err(|_| "the next_cursor of another page")
        });
        let limit = faults.limit(self.limit);
        faults.or((filter, before, limit))
    }
}

/// The comment for the audit log.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    #[schema(min_length = 10, max_length = 500, example = "left the company on 2026-11-20")]
    comment: String,
}

impl Reason {
    pub fn parse(self) -> Result<Comment, Problem> {
        self.comment.parse().map_err(|err| Problem::invalid(vec![FieldError::new("comment", err)]))
    }
}

/// List identities, newest first
///
/// All callers with a team or a role that have made a request. Admins and auditors.
#[utoipa::path(tag = "admin", operation_id = "list_identities", params(IdentityQuery), responses(
    (status = OK, description = "One page", body = IdentityList),
    Problem))]
#[get("/admin/identities")]
pub async fn list(_: Auditor, state: Data<State>, Query(query): Query<IdentityQuery>) -> Answer {
    let (filter, before, limit) = query.parse()?;
    let page = state.broker.identities(&filter, before, limit).await?;
    Ok(HttpResponse::Ok().json(IdentityList::from(page)))
}

/// Deactivate an identity
///
/// It is refused on every replica within 5 seconds (`IDENTITY_DEACTIVATED`). Its runners are kept. Repeating the call
/// changes nothing. Admins.
#[utoipa::path(tag = "admin", operation_id = "deactivate_identity", params(("id" = Uuid, Path)), responses(
    (status = OK, description = "The identity as it is now", body = Identity),
    Problem))]
#[post("/admin/identities/{id}/deactivate")]
pub async fn deactivate(
    Admin(admin): Admin,
    id: Path<String>,
    state: Data<State>,
    Body(reason): Body<Reason>,
) -> Answer {
    let identity = state.broker.deactivate(&admin, known(&id)?, reason.parse()?.as_str()).await?;
    Ok(HttpResponse::Ok().json(Identity::from(identity)))
}

/// Reactivate an identity
///
/// Undoes a deactivation. Repeating the call changes nothing. Admins.
#[utoipa::path(tag = "admin", operation_id = "activate_identity", params(("id" = Uuid, Path)), responses(
    (status = OK, description = "The identity as it is now", body = Identity),
    Problem))]
#[post("/admin/identities/{id}/activate")]
pub async fn activate(
    Admin(admin): Admin,
    id: Path<String>,
    state: Data<State>,
    Body(reason): Body<Reason>,
) -> Answer {
    let identity = state.broker.activate(&admin, known(&id)?, reason.parse()?.as_str()).await?;
    Ok(HttpResponse::Ok().json(Identity::from(identity)))
}

/// A text that is not an id is the id of nobody: 404.
fn known(id: &str) -> Result<Uuid, Problem> {
    id.parse().map_err(|_| Problem::not_found("this id"))
}

/// A caller, with the display name of the latest request.
#[derive(Serialize, ToSchema)]
pub struct Identity {
    id: Uuid,
    issuer: String,
    subject: String,
    display_name: String,
    /// Whether requests are accepted; only an admin changes this.
    active: bool,
    first_seen_at: DateTime<Utc>,
    /// To within 5 minutes.
    last_seen_at: DateTime<Utc>,
    #[schema(required)]
    deactivated_at: Option<DateTime<Utc>>,
    /// The comment of the latest deactivation or reactivation.
    #[schema(required)]
    comment: Option<String>,
}

impl From<identities::Identity> for Identity {
    fn from(row: identities::Identity) -> Identity {
        Identity {
            id: row.id,
            issuer: row.issuer,
            subject: row.subject,
            display_name: row.display_name,
            active: row.active,
            first_seen_at: row.first_seen_at,
            last_seen_at: row.last_seen_at,
            deactivated_at: row.deactivated_at,
            comment: row.comment,
        }
    }
}

/// One page of identities.
#[derive(Serialize, ToSchema)]
pub struct IdentityList {
    identities: Vec<Identity>,
    /// Give it back as `cursor` for the next page; `null` on the last.
    #[schema(required)]
    next_cursor: Option<Uuid>,
}

impl From<IdentityPage> for IdentityList {
    fn from(page: IdentityPage) -> IdentityList {
        IdentityList {
            identities: page.identities.into_iter().map(Identity::from).collect(),
            next_cursor: page.next,
        }
    }
}
