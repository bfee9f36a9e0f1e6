//! The list of runners: filtered by the URL, a page after the other.

use actix_web::get;
use actix_web::web::Data;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use uuid::Uuid;

use super::removal;
use crate::broker::people::caller::Caller;
use crate::broker::people::sessions::Session;
use crate::broker::runners::list::{MOST_COUNTED, RunnerPage};
use crate::http::State;
use crate::http::api::query::ListQuery;
use crate::http::console::frame::form::{Asked, Fields};
use crate::http::console::frame::page::{Page, PageError};
use crate::http::console::frame::session::SignedIn;
use crate::http::console::frame::{layout, ui};
use crate::model::{Role, Status, is_system_label};
use crate::store::runners::Runner;

/// The filters, as the URL and the form name them.
const FILTERS: &[&str] = &["q", "status", "team", "label", "ephemeral"];

#[get("/runners")]
pub async fn list(
    SignedIn(session): SignedIn,
    Asked(fields): Asked,
    state: Data<State>,
) -> Result<Page, PageError> {
    let (filter, before, limit) = fields.parse::<ListQuery>()?.parse()?;
    let page = state.broker.runners(&session.caller, &filter, before, limit).await?;
    let teams = state.broker.teams_seen_by(&session.caller);
    let content = whole(&session, &fields, &teams, &page, state.broker.clock().now());
    Ok(Page(layout::page(&session, "/runners", "Runners", content)))
}

/// Rows that a page shows already, as they are now.
#[get("/runners/rows")]
pub async fn rows(
    SignedIn(session): SignedIn,
    Asked(fields): Asked,
    state: Data<State>,
) -> Result<Page, PageError> {
    let ids: Vec<Uuid> = removal::ids(&fields)?;
    let runners = state.broker.some_runners(&session.caller, &ids).await?;
    let now = state.broker.clock().now();
    Ok(Page(html! { table { tbody { @for one in &runners { (row(&session.caller, one, now)) } } } }))
}

/// Whether he may remove, refresh and so on. The broker asks again.
pub fn may_change(caller: &Caller, runner: &Runner) -> bool {
    caller.has(Role::Admin) || caller.teams().any(|team| team == runner.team)
}

fn whole(
    session: &Session,
    fields: &Fields,
    teams: &[String],
    page: &RunnerPage,
    now: DateTime<Utc>,
) -> Markup {
    let caller = &session.caller;
    let is_filtered = FILTERS.iter().any(|name| fields.get(name).is_some());
    let may_remove = caller.has(Role::Admin) || caller.teams().next().is_some();
    html! {
        div.title {
            h1 { "Runners" }
            div.actions {
                span.hint data-live-state hidden {}
                @if caller.teams().next().is_some() { a.button href="/runners/new" { "New runner" } }
            }
        }
        (filters(fields, teams))
        @if page.runners.is_empty() && page.next.is_none() {
            (nothing(caller, is_filtered))
        } @else {
            @if may_remove {
                form #remove method="post" action="/runners/remove/check" { (layout::csrf(session)) }
            }
            div data-events="/events?of=runners" data-rows-from="/runners/rows" {
                div.title {
                    p.soft { (total(page)) }
                    @if may_remove {
                        div.actions {
                            label.check data-tick-all hidden { input type="checkbox"; "Tick all that is shown" }
                            button.danger form="remove" { "Remove what is ticked …" }
                        }
                    }
                }
                div.table {
                    table {
                        caption.unseen { "Runners, the newest first" }
                        thead {
                            tr {
                                th.tick scope="col" { span.unseen { "Ticked" } }
                                @for name in ["Name", "State", "Team", "Target", "Labels", "Kind", "Made", "Last seen"] {
                                    th scope="col" { (name) }
                                }
                            }
                        }
                        tbody data-rows { @for one in &page.runners { (row(caller, one, now)) } }
                    }
                }
                (ui::older(page.next.map(|next| older(fields, next)).as_deref()))
            }
        }
    }
}

fn filters(fields: &Fields, teams: &[String]) -> Markup {
    let is = |name: &str| fields.get(name);
    html! {
        form.filters method="get" action="/runners" role="search" aria-label="Runners" {
            (ui::text("q", "Part of the name", is("q"), "ci-worker"))
            (ui::select("status", "State", "any", Status::ALL.iter().map(|status| status.as_str()), is("status")))
            label.field {
                span { "Team" }
                input type="text" name="team" value=(is("team").unwrap_or_default()) list="teams" autocomplete="off";
                datalist #teams { @for team in teams.iter().take(500) { option value=(team) {} } }
            }
            (ui::text("label", "Label", is("label"), "gpu"))
            (ui::choose("ephemeral", "Kind", Some("any"), [("true", "ephemeral"), ("false", "lasting")], is("ephemeral")))
            div.actions {
                button { "Filter" }
                a href="/runners" { "Show all" }
            }
        }
    }
}

fn nothing(caller: &Caller, is_filtered: bool) -> Markup {
    let may_make = caller.teams().next().is_some();
    match (is_filtered, may_make) {
        (true, _) => ui::empty(
            "No runner fits",
            html! { "Nothing that you may see matches all of these filters. " a href="/runners" { "Show all runners" } },
        ),
        (false, true) => ui::empty(
            "No runners yet",
            html! { "Nobody in your teams has asked for one. " a href="/runners/new" { "Make the first" } },
        ),
        (false, false) => ui::empty("No runners yet", html! { "No team has asked for one." }),
    }
}

fn total(page: &RunnerPage) -> String {
    match page.total {
        1 => "1 runner".to_owned(),
        total if total > MOST_COUNTED => format!("more than {} runners", ui::number(MOST_COUNTED)),
        total => format!("{} runners", ui::number(total)),
    }
}

/// The same list from there on.
fn older(fields: &Fields, next: Uuid) -> String {
    let next = next.to_string();
    let kept = FILTERS.iter().chain(&["limit"]).filter_map(|name| Some((*name, fields.get(name)?)));
    let query: Vec<_> = kept.chain([("cursor", next.as_str())]).collect();
    format!("/runners?{}", serde_urlencoded::to_string(query).unwrap_or_default())
}

/// One runner; scripts exchange its cells by its id.
fn row(caller: &Caller, runner: &Runner, now: DateTime<Utc>) -> Markup {
    let custom: Vec<String> = runner.labels.iter().filter(|label| !is_system_label(label)).cloned().collect();
    html! {
        tr id={ "r-" (runner.id) } {
            td.tick {
                @if may_change(caller, runner) && runner.status.is_live() {
                    input type="checkbox" name="id" value=(runner.id) form="remove" aria-label={ "Tick " (runner.name) };
                }
            }
            th scope="row" { a href={ "/runners/" (runner.id) } { (runner.name) } }
            td data-name="State" { (ui::status(runner.status, runner.busy)) }
            td data-name="Team" { (runner.team) }
            td data-name="Target" { (runner.target) }
            td data-name="Labels" { @if custom.is_empty() { span.none { "–" } } @else { (ui::labels(&custom)) } }
            td data-name="Kind" { (kind(runner)) }
            td data-name="Made" { (ui::time(runner.created_at, now)) }
            td data-name="Last seen" { (ui::maybe_time(runner.last_seen_at, now)) }
        }
    }
}

/// How it got its credential, and whether it lasts.
pub fn kind(runner: &Runner) -> &'static str {
    match (runner.method, runner.ephemeral) {
        (crate::model::Method::Jit, _) => "just in time",
        (_, true) => "token, ephemeral",
        (_, false) => "token, lasting",
    }
}
