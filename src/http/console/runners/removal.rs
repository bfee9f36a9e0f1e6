//! Removing runners, one or many: first a page that lists what goes, then it goes.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, get, post};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use uuid::Uuid;

use super::list;
use crate::broker;
use crate::broker::people::sessions::Session;
use crate::broker::runners::batch::{BatchRequest, Choice, Item, ItemOutcome};
use crate::broker::runners::remove::Outcome;
use crate::http::State;
use crate::http::console::frame::form::{Fields, Sent};
use crate::http::console::frame::page::{Page, PageError};
use crate::http::console::frame::session::SignedIn;
use crate::http::console::frame::{layout, ui};
use crate::http::problem::{FieldError, Problem};
use crate::model::{Comment, Role};
use crate::store::runners::Runner;

/// How many at once; a page of the list has no more.
const MOST: usize = 200;

/// Lists what would go.
#[post("/runners/remove/check")]
pub async fn check(sent: Sent, state: Data<State>) -> Result<HttpResponse, PageError> {
    let Sent { session, fields } = sent;
    let found = state.broker.some_runners(&session.caller, &ids(&fields)?).await?;
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

/// Removes them, and says what came of each.
#[post("/runners/remove")]
pub async fn remove(sent: Sent, state: Data<State>) -> Result<HttpResponse, PageError> {
    let Sent { session, fields } = sent;
    let (ids, when_idle) = (ids(&fields)?, fields.has("force_when_idle"));
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
    let now_there = state.broker.some_runners(caller, &ids).await?;
    Ok(Page(layout::page(&session, "/runners", "Removed", done(items, now_there)))
        .with_status(StatusCode::OK))
}

/// The runners that a form or a query names.
pub fn ids(fields: &Fields) -> Result<Vec<Uuid>, PageError> {
    let ids: Result<Vec<Uuid>, _> = fields.all("id").map(str::parse).collect();
    match ids {
        Ok(ids) if (1..=MOST).contains(&ids.len()) => Ok(ids),
        _ => {
            let message = format!("tick 1 to {MOST} runners");
            Err(Problem::invalid(vec![FieldError::new("id", message)]).into())
        }
    }
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
        found.iter().filter(|one| one.status.is_live() && list::may_change(&session.caller, one)).collect();
    let busy = going.iter().filter(|one| one.busy).count();
    if going.is_empty() {
        return html! {
            h1 { "Nothing to remove" }
            (ui::empty("Nothing to remove", html! {
                "These runners are gone already, or are not yours to remove. " a href="/runners" { "Back to the runners" }
            }))
        };
    }
    html! {
        h1 { @if let [only] = going.as_slice() { "Remove " (only.name) "?" } @else { "Remove " (going.len()) " runners?" } }
        p { "They are taken off GitHub and cannot come back; their names are free again afterwards." }
        (listed(&going, now))
        form method="post" action="/runners/remove" {
            (layout::csrf(session))
            @for one in &going { input type="hidden" name="id" value=(one.id); }
            @if session.caller.has(Role::Admin) { (comment(fields, fault)) }
            label.check {
                input type="checkbox" name="force_when_idle" value="true" checked[fields.has("force_when_idle") || busy > 0];
                "Remove busy ones once they are idle; otherwise they are left alone"
            }
            div.actions {
                button.danger { "Remove" }
                a href="/runners" { "Keep them" }
            }
        }
    }
}

fn listed(going: &[&Runner], now: DateTime<Utc>) -> Markup {
    html! {
        div.table {
            table {
                caption { "What goes" }
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
            label for="comment" { "Why? This goes into the audit log." }
            textarea #comment name="comment" required minlength="10" maxlength="500"
                aria-describedby="comment-hint" aria-invalid=[fault.map(|_| "true")] {
                (fields.get("comment").unwrap_or_default())
            }
            @if let Some(fault) = fault { span.faulty role="alert" { (fault.message) } }
            span.hint #comment-hint { "10 to 500 characters." }
        }
    }
}

fn done(items: Vec<Item>, now_there: Vec<Runner>) -> Markup {
    let named: HashMap<String, Runner> = now_there.into_iter().map(|one| (one.id.to_string(), one)).collect();
    let refused = items.iter().filter(|item| item.result.is_err()).count();
    let rest = items.len() - refused;
    html! {
        h1 { "Runners removed" }
        @if refused == 0 {
            (ui::notice(ui::Notice::Done, html! { p { "All " (rest) " are dealt with." } }))
        } @else {
            (ui::notice(ui::Notice::Warning, html! { p { (rest) " are dealt with, " (refused) " are not: see why below." } }))
        }
        div.table {
            table {
                caption { "What came of each" }
                thead { tr { @for name in ["Name", "What came of it", "State now"] { th scope="col" { (name) } } } }
                tbody {
                    @for item in items {
                        @let runner = named.get(&item.id);
                        tr {
                            th scope="row" {
                                a href={ "/runners/" (ui::segment(&item.id)) } { (runner.map_or(item.id.as_str(), |one| &one.name)) }
                            }
                            td data-name="What came of it" { (outcome(item.result)) }
                            td data-name="State now" { @if let Some(one) = runner { (ui::status(one.status, one.busy)) } }
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
        Ok(ItemOutcome::Removed(Outcome::AlreadyGone) | ItemOutcome::Unchanged) => "it was gone already",
        Ok(ItemOutcome::Removed(Outcome::NeverRegistered)) => {
            "GitHub never had it; its registration token stays good until it ends, and counts in the quota until then"
        }
        Ok(ItemOutcome::Removed(Outcome::WhenIdle)) => "busy with a job; it goes once it is idle",
        Ok(ItemOutcome::Would | ItemOutcome::Deactivated) => "nothing was done",
        // What the API would say, with a failure of ours in the log.
        Err(err) => {
            let problem = Problem::from(err);
            return html! { span.faulty { (problem.detail()) } " (" code { (problem.error_code()) } ")" };
        }
    };
    html! { (text) }
}
