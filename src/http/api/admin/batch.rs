//! The calls that do one thing to many.

use actix_web::web::Data;
use actix_web::{HttpResponse, post};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::teams::Answer;
use crate::broker::runners::batch::{BatchRequest, Choice, Item, ItemOutcome, MOST, Report};
use crate::broker::runners::remove::Outcome;
use crate::http::State;
use crate::http::api::query::{Faults, time};
use crate::http::body::Body;
use crate::http::caller::Admin;
use crate::http::problem::{FieldError, Problem};
use crate::model::Status;
use crate::store::policies::TeamFilter;
use crate::store::{identities, runners};

/// Which runners to remove, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteRunners {
    /// Ids or names. Either this or `filter`.
    #[schema(min_items = 1, max_items = 500)]
    ids: Option<Vec<String>>,
    filter: Option<RunnersFilter>,
    /// A busy runner is removed once it is idle; otherwise it is left alone.
    #[serde(default)]
    force_when_idle: bool,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
    #[schema(min_length = 10, max_length = 500, example = "the pool moves to new machines")]
    comment: String,
}

/// Live runners that match all of it; at least one field.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunnersFilter {
    /// Pending, active and offline ones unless given.
    #[schema(example = "offline")]
    status: Option<String>,
    team: Option<String>,
    /// Runners that have this label.
    label: Option<String>,
    ephemeral: Option<bool>,
    /// Part of the name.
    q: Option<String>,
}

impl RunnersFilter {
    fn parse(self) -> Result<Option<runners::Filter>, Problem> {
        let mut faults = Faults::default();
        let filter = runners::Filter {
            status: faults.parse("filter.status", self.status.as_deref(), |text| {
                text.parse::<Status>().ok().filter(|status| status.is_live()).ok_or("a live state")
            }),
            team: faults.text("filter.team", some(self.team)),
            label: faults.text("filter.label", some(self.label)),
            ephemeral: self.ephemeral,
            q: faults.text("filter.q", some(self.q)),
        };
        let filters = filter.status.is_some()
            || filter.team.is_some()
            || filter.label.is_some()
            || filter.ephemeral.is_some()
            || filter.q.is_some();
        faults.or(filters.then_some(filter))
    }
}

/// Which identities to deactivate, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeactivateIdentities {
    /// Either this or `filter`.
    #[schema(min_items = 1, max_items = 500)]
    ids: Option<Vec<String>>,
    filter: Option<IdentitiesFilter>,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
    #[schema(min_length = 10, max_length = 500, example = "not seen for half a year")]
    comment: String,
}

/// Active identities that match all of it; at least one field.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentitiesFilter {
    /// Part of the subject or of the display name.
    q: Option<String>,
    issuer: Option<String>,
    /// Not seen since then: a date, or a time (RFC 3339).
    #[schema(example = "2026-05-01")]
    unseen_since: Option<String>,
}

impl IdentitiesFilter {
    fn parse(self) -> Result<Option<identities::Filter>, Problem> {
        let mut faults = Faults::default();
        let filter = identities::Filter {
            q: faults.text("filter.q", some(self.q)),
            issuer: faults.text("filter.issuer", some(self.issuer)),
            unseen_since: faults.parse("filter.unseen_since", self.unseen_since.as_deref(), time),
            active: None,
        };
        let filters = filter.q.is_some() || filter.issuer.is_some() || filter.unseen_since.is_some();
        faults.or(filters.then_some(filter))
    }
}

/// Which teams to deactivate, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeactivateTeams {
    /// Either this or `filter`.
    #[schema(min_items = 1, max_items = 500)]
    names: Option<Vec<String>>,
    filter: Option<TeamsFilter>,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
    #[schema(min_length = 10, max_length = 500, example = "the project has ended")]
    comment: String,
}

/// Active teams that match.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamsFilter {
    /// Part of the name or of the description.
    q: Option<String>,
}

impl TeamsFilter {
    fn parse(self) -> Result<Option<TeamFilter>, Problem> {
        let mut faults = Faults::default();
        let q = faults.text("filter.q", some(self.q));
        let filters = q.is_some();
        faults.or(filters.then_some(TeamFilter { q, active: None }))
    }
}

/// An empty text filters nothing.
fn some(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Either some that are named or a filter that filters something. `filter`: whether there was one, and what
/// it came to.
fn choice<F>(
    field: &str,
    named: Option<Vec<String>>,
    filter: Option<Option<F>>,
) -> Result<Choice<F>, Problem> {
    let fault = |field: &str, why: String| Err(Problem::invalid(vec![FieldError::new(field, why)]));
    match (named, filter) {
        (Some(named), None) if (1..=MOST).contains(&named.len()) => Ok(Choice::These(named)),
        (Some(_), None) => fault(field, format!("1 to {MOST} of them")),
        (None, Some(Some(filter))) => Ok(Choice::Matching(filter)),
        (None, Some(None)) => fault("filter", "it filters nothing: that would be everything".into()),
        (None, None) | (Some(_), Some(_)) => fault(field, format!("either {field} or filter")),
    }
}

fn order(comment: &str, dry_run: bool) -> Result<BatchRequest, Problem> {
    let comment = comment.parse().map_err(|err| Problem::invalid(vec![FieldError::new("comment", err)]))?;
    Ok(BatchRequest { comment, dry_run })
}

/// Remove many runners
///
/// At most 500, a few at a time; it goes on if the caller hangs up. Once GitHub wants no more calls, the rest is left
/// alone (`GITHUB_RATE_LIMITED`). Admins.
#[utoipa::path(tag = "admin", operation_id = "delete_runners", request_body = DeleteRunners, responses(
    (status = OK, description = "What came of each", body = BatchReport),
    Problem))]
#[post("/admin/batch/delete-runners")]
pub async fn delete_runners(
    Admin(admin): Admin,
    state: Data<State>,
    Body(ask): Body<DeleteRunners>,
) -> Answer {
    let order = order(&ask.comment, ask.dry_run)?;
    let chosen = choice("ids", ask.ids, ask.filter.map(RunnersFilter::parse).transpose()?)?;
    let report = state.broker.delete_runners(&admin, chosen, ask.force_when_idle, order).await?;
    Ok(HttpResponse::Ok().json(BatchReport::from(report)))
}

/// Deactivate many identities
///
/// At most 500; one's own is refused, for that item alone. Admins.
#[utoipa::path(tag = "admin", operation_id = "deactivate_identities", request_body = DeactivateIdentities, responses(
    (status = OK, description = "What came of each", body = BatchReport),
    Problem))]
#[post("/admin/batch/deactivate-identities")]
pub async fn deactivate_identities(
    Admin(admin): Admin,
    state: Data<State>,
    Body(ask): Body<DeactivateIdentities>,
) -> Answer {
    let order = order(&ask.comment, ask.dry_run)?;
    let chosen = choice("ids", ask.ids, ask.filter.map(IdentitiesFilter::parse).transpose()?)?;
    let report = state.broker.deactivate_identities(&admin, chosen, order).await?;
    Ok(HttpResponse::Ok().json(BatchReport::from(report)))
}

/// Deactivate many teams
///
/// At most 500. Admins.
#[utoipa::path(tag = "admin", operation_id = "deactivate_teams", request_body = DeactivateTeams, responses(
    (status = OK, description = "What came of each", body = BatchReport),
    Problem))]
#[post("/admin/batch/deactivate-teams")]
pub async fn deactivate_teams(
    Admin(admin): Admin,
    state: Data<State>,
    Body(ask): Body<DeactivateTeams>,
) -> Answer {
    let order = order(&ask.comment, ask.dry_run)?;
    let chosen = choice("names", ask.names, ask.filter.map(TeamsFilter::parse).transpose()?)?;
    let report = state.broker.deactivate_teams(&admin, chosen, order).await?;
    Ok(HttpResponse::Ok().json(BatchReport::from(report)))
}

/// What came of a batch.
#[derive(Serialize, ToSchema)]
pub struct BatchReport {
    /// Every event of it carries this; `null`: a dry run.
    #[schema(required)]
    batch_id: Option<Uuid>,
    dry_run: bool,
    items: Vec<BatchItem>,
    succeeded: usize,
    failed: usize,
    /// More match than one batch may be about.
    more: bool,
}

/// What came of one thing.
#[derive(Serialize, ToSchema)]
pub struct BatchItem {
    /// As it was named, or the id that was found.
    id: String,
    #[schema(required)]
    name: Option<String>,
    /// `removed`, `when_idle` (busy, and will be removed once idle), `deactivated`, `unchanged` (it was so before),
    /// `would` (a dry run) or `refused`.
    #[schema(example = "removed")]
    outcome: &'static str,
    #[schema(required)]
    error_code: Option<&'static str>,
    #[schema(required)]
    detail: Option<String>,
}

impl From<Item> for BatchItem {
    fn from(item: Item) -> BatchItem {
        let (outcome, problem) = match item.result {
            Ok(ItemOutcome::Removed(Outcome::Deleted | Outcome::NeverRegistered)) => ("removed", None),
            Ok(ItemOutcome::Removed(Outcome::WhenIdle)) => ("when_idle", None),
            Ok(ItemOutcome::Removed(Outcome::AlreadyGone) | ItemOutcome::Unchanged) => ("unchanged", None),
            Ok(ItemOutcome::Deactivated) => ("deactivated", None),
            Ok(ItemOutcome::Would) => ("would", None),
            Err(err) => ("refused", Some(Problem::from(err).into_parts())),
        };
        let (error_code, detail) = problem.unzip();
        BatchItem { id: item.id, name: item.name, outcome, error_code, detail }
    }
}

impl From<Report> for BatchReport {
    fn from(report: Report) -> BatchReport {
        let failed = report.items.iter().filter(|item| item.result.is_err()).count();
        BatchReport {
            batch_id: report.batch_id,
            dry_run: report.batch_id.is_none(),
            succeeded: report.items.len() - failed,
            failed,
            more: report.more,
            items: report.items.into_iter().map(BatchItem::from).collect(),
        }
    }
}
