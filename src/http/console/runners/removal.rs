//! Removing runners: a page that lists them and asks for confirmation, then the result for each.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, get, post};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use uuid::Uuid;

use crate::broker;
use crate::broker::people::sessions::Session;
use crate::broker::runners::batch::{BatchRequest, Choice, Item, ItemOutcome};
use crate::broker::runners::remove::Outcome;
use crate::http::State;
use crate::http::console::frame::form::{Fields, SubmittedForm};
use crate::http::console::frame::page::{Page, PageError};
use crate::http::console::frame::session::SignedIn;
use crate::http::console::frame::{access, layout, ui};
use crate::http::problem::{FieldError, Problem};
use crate::model::{Comment, Role};
use crate::store::runners::Runner;

/// Asks for confirmation.
#[post("/runners/remove/check")]
pub async fn check(submitted: SubmittedForm, state: Data<State>) -> Result<HttpResponse, PageError> {
    let SubmittedForm { session, fields } = submitted;
    let found = state.broker.some_runners(&session.caller, &fields.runner_ids()?).await?;
    Ok(confirm(&session, &found, &fields, None, state.broker.clock().now()))
}

/// As `check`, for the runner that a link names.
#[get("/runners/{id}/remove")]
pub async fn check_one(
    SignedIn(session): SignedIn,
    id: Path<String>,
    state: Data<State>,
) -> Result<HttpResponse, PageError> {
    let id = id.parse().map_err(|_| broker::Error::RunnerNotFound(id.into_inner()))?;
    let found = state.broker.some_runners(&session.caller, &[id]).await?;
    Ok(confirm(&session, &found, &Fields::default(), None, state.broker.clock().now()))
}

/// Removes them and shows the result for each.
#[post("/runners/remove")]
pub async fn remove(submitted: SubmittedForm, state: Data<State>) -> Result<HttpResponse, PageError> {
    let SubmittedForm { session, fields } = submitted;
    let (ids, when_idle) = (fields.runner_ids()?, fields.has("force_when_idle"));
    let caller = &session.caller;
    let names: Vec<String> = ids.iter().map(Uuid::to_string).collect();
    let items = match caller.has(Role::Admin) {
        false => state.broker.remove_own(caller, names, when_idle).await,
        true => match fields.get("comment").unwrap_or_default().parse::<Comment>() {
            Err(why) => {
                let found = state.broker.some_runners(caller, &ids).await?;
                let fault = FieldError::new("comment", why);
                return Ok(confirm(&session, &found, &fields, Some(fault), state.broker.clock().now()));
            }
            Ok(comment) => {
                let order = BatchRequest { comment, dry_run: false };
                state.broker.delete_runners(caller, Choice::These(names), when_idle, order).await?.items
            }
        },
    };
    let runners = state.broker.some_runners(caller, &ids).await?;
    Ok(Page(layout::page(&session, "/runners", "Runners removed", results(items, runners)))
        .with_status(StatusCode::OK))
}

fn confirm(
    session: &Session,
    found: &[Runner],
    fields: &Fields,
    fault: Option<FieldError>,
    now: DateTime<Utc>,
) -> HttpResponse {
    let status = if fault.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let content = question(session, found, fields, fault.as_ref(), now);
    Page(layout::page(session, "/runners", "Remove runners", content)).with_status(status)
}

fn question(
    session: &Session,
    found: &[Runner],
    fields: &Fields,
    fault: Option<&FieldError>,
    now: DateTime<Utc>,
) -> Markup {
    let going: Vec<&Runner> =
        found.iter().filter(|one| one.status.is_live() && access::may_change(&session.caller, one)).collect();
    let busy = going.iter().filter(|one| one.busy).count();
    if going.is_empty() {
        return html! {
            h1 { "Nothing to remove" }
            (ui::empty("Nothing to remove", html! {
                "These runners are already gone, or you may not remove them. " a href="/runners" { "Back to the runners" }
            }))
        };
    }
    html! {
        h1 { @if let [only] = going.as_slice() { "Remove " (only.name) "?" } @else { "Remove " (going.len()) " runners?" } }
        p { "They are removed from GitHub and cannot be restored. Their names can be used again afterwards." }
        (listed(&going, now))
        form method="post" action="/runners/remove" {
            (layout::csrf(session))
            @for one in &going { input type="hidden" name="id" value=(one.id); }
            @if session.caller.has(Role::Admin) { (comment(fields, fault)) }
            label.check {
                input type="checkbox" name="force_when_idle" value="true" checked[fields.has("force_when_idle") || busy > 0];
                "Remove busy runners once they are idle (otherwise they are kept)"
            }
            div.actions {
                button.danger { "Remove" }
                a href="/runners" { "Cancel" }
            }
        }
    }
}

fn listed(going: &[&Runner], now: DateTime<Utc>) -> Markup {
    html! {
        div.table {
            table {
                caption { "Selected runners" }
                thead { tr { @for name in ["Name", "State", "Team", "Target", "Last seen"] { th scope="col" { (name) } } } }
                tbody {
                    @for one in going {
                        tr {
                            th scope="row" { a href={ "/runners/" (one.id) } { (one.name) } }
                            td data-name="State" { (ui::status(one.status, one.busy)) }
                            td data-name="Team" { (one.team) }
                            td data-name="Target" { (one.target) }
                            td data-name="Last seen" { (ui::maybe_time(one.last_seen_at, now)) }
                        }
                    }
                }
            }
        }
    }
}

fn comment(fields: &Fields, fault: Option<&FieldError>) -> Markup {
    html! {
        div.field.long {
            label for="comment" { "Comment for the audit log" }
            textarea #comment name="comment" required minlength="10" maxlength="500"
                aria-describedby="comment-hint" aria-invalid=[fault.map(|_| "true")] {
                (fields.get("comment").unwrap_or_default())
            }
            @if let Some(fault) = fault { span.faulty role="alert" { (fault.message) } }
            span.hint #comment-hint { "10 to 500 characters." }
        }
    }
}

fn results(items: Vec<Item>, runners: Vec<Runner>) -> Markup {
    let named: HashMap<String, Runner> = runners.into_iter().map(|one| (one.id.to_string(), one)).collect();
    let refused = items.iter().filter(|item| item.result.is_err()).count();
    let removed = items.len() - refused;
    html! {
        h1 { "Runners removed" }
        @if refused == 0 {
            (ui::notice(ui::Notice::Done, html! { p { (ui::counted(removed as i64, "runner")) " removed." } }))
        } @else {
            (ui::notice(ui::Notice::Warning, html! { p { (removed) " removed, " (refused) " could not be removed (see below)." } }))
        }
        div.table {
            table {
                caption { "Result for each runner" }
                thead { tr { @for name in ["Name", "Result", "State"] { th scope="col" { (name) } } } }
                tbody {
                    @for item in items {
                        @let runner = named.get(&item.id);
                        tr {
                            th scope="row" {
                                a href={ "/runners/" (ui::segment(&item.id)) } { (runner.map_or(item.id.as_str(), |one| &one.name)) }
                            }
                            td data-name="Result" { (outcome(item.result)) }
                            td data-name="State" { @if let Some(one) = runner { (ui::status(one.status, one.busy)) } }
                        }
                    }
                }
            }
        }
        p { a.button href="/runners" { "Back to the runners" } }
    }
}

fn outcome(result: Result<ItemOutcome, broker::Error>) -> Markup {
    let text = match result {
        Ok(ItemOutcome::Removed(Outcome::Deleted)) => "removed from GitHub",
        Ok(ItemOutcome::Removed(Outcome::AlreadyGone) | ItemOutcome::Unchanged) => "was already gone",
        Ok(ItemOutcome::Removed(Outcome::NeverRegistered)) => {
            "never registered with GitHub; its registration token stays valid and counts towards the quota until it expires"
        }
        Ok(ItemOutcome::Removed(Outcome::WhenIdle)) => "busy with a job; will be removed once idle",
        Ok(ItemOutcome::Would | ItemOutcome::Deactivated) => "nothing to do",
        // As the API answers it, with failures of the broker in the log.
        Err(err) => {
            let problem = Problem::from(err);
            return html! { span.faulty { (problem.detail()) } " (" code { (problem.error_code()) } ")" };
        }
    };
    html! { (text) }
}
