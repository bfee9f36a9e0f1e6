//! The list of runners with its filters, in pages.

use actix_web::get;
use actix_web::web::Data;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use uuid::Uuid;

use crate::broker::people::caller::Caller;
use crate::broker::people::sessions::Session;
use crate::broker::runners::list::{MOST_COUNTED, RunnerPage};
use crate::http::State;
use crate::http::api::query::ListQuery;
use crate::http::console::frame::form::{Fields, PageQuery};
use crate::http::console::frame::page::{Page, PageError};
use crate::http::console::frame::session::SignedIn;
use crate::http::console::frame::{access, layout, ui};
use crate::model::{Role, Status, is_system_label};
use crate::store::runners::Runner;

/// The names of the filters in the URL and the form.
const FILTERS: &[&str] = &["q", "status", "team", "label", "ephemeral"];

#[get("/runners")]
pub async fn list(
    SignedIn(session): SignedIn,
    PageQuery(fields): PageQuery,
    state: Data<State>,
) -> Result<Page, PageError> {
    let (filter, before, limit) = fields.parse::<ListQuery>()?.parse()?;
    let page = state.broker.runners(&session.caller, &filter, before, limit).await?;
    let teams = state.broker.teams_seen_by(&session.caller);
    let content = render(&session, &fields, &teams, &page, state.broker.clock().now());
    Ok(Page(layout::page(&session, "/runners", "Runners", content)))
}

/// The current rows of runners that a page shows already.
#[get("/runners/rows")]
pub async fn rows(
    SignedIn(session): SignedIn,
    PageQuery(fields): PageQuery,
    state: Data<State>,
) -> Result<Page, PageError> {
    let ids: Vec<Uuid> = fields.runner_ids()?;
    let runners = state.broker.some_runners(&session.caller, &ids).await?;
    let now = state.broker.clock().now();
    Ok(Page(html! { table { tbody { @for one in &runners { (row(&session.caller, one, now)) } } } }))
}

fn render(
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
            (empty(caller, is_filtered))
        } @else {
            @if may_remove {
                form #remove method="post" action="/runners/remove/check" { (layout::csrf(session)) }
            }
            div data-events="/events?of=runners" data-rows-from="/runners/rows" {
                div.title {
                    p.soft { (total(page)) }
                    @if may_remove {
                        div.actions {
                            label.check data-tick-all hidden { input type="checkbox"; "Select all on this page" }
                            button.danger form="remove" { "Remove selected…" }
                        }
                    }
                }
                div.table {
                    table {
                        caption.unseen { "Runners, newest first" }
                        thead {
                            tr {
                                th.tick scope="col" { span.unseen { "Selected" } }
                                @for name in ["Name", "State", "Team", "Target", "Labels", "Kind", "Created", "Last seen"] {
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
            (ui::text("q", "Name contains", is("q"), "ci-worker"))
            (ui::select("status", "State", "any", Status::ALL.iter().map(|status| status.as_str()), is("status")))
            label.field {
                span { "Team" }
                input type="text" name="team" value=(is("team").unwrap_or_default()) list="teams" autocomplete="off";
                datalist #teams { @for team in teams.iter().take(500) { option value=(team) {} } }
            }
            (ui::text("label", "Label", is("label"), "gpu"))
            (ui::choose("ephemeral", "Kind", Some("any"), [("true", "ephemeral"), ("false", "persistent")], is("ephemeral")))
            div.actions {
                button { "Show" }
                a.button.quiet href="/runners" { "Clear" }
            }
        }
    }
}

fn empty(caller: &Caller, is_filtered: bool) -> Markup {
    let may_create = caller.teams().next().is_some();
    match (is_filtered, may_create) {
        (true, _) => ui::empty("No matching runners", html! { a href="/runners" { "Clear the filters" } }),
        (false, true) => ui::empty(
            "No runners yet",
            html! { "Your teams have not requested any runners. " a href="/runners/new" { "Create the first" } },
        ),
        (false, false) => ui::empty("No runners yet", html! { "No team has requested a runner." }),
    }
}

fn total(page: &RunnerPage) -> String {
    match page.total {
        total if total > MOST_COUNTED => format!("more than {} runners", ui::number(MOST_COUNTED)),
        total => ui::counted(total, "runner"),
    }
}

/// The address of the next page.
fn older(fields: &Fields, next: Uuid) -> String {
    let next = next.to_string();
    let kept = FILTERS.iter().chain(&["limit"]).filter_map(|name| Some((*name, fields.get(name)?)));
    let query: Vec<_> = kept.chain([("cursor", next.as_str())]).collect();
    format!("/runners?{}", serde_urlencoded::to_string(query).unwrap_or_default())
}

/// One runner; the script replaces its cells, by the id of the row.
fn row(caller: &Caller, runner: &Runner, now: DateTime<Utc>) -> Markup {
    let custom: Vec<String> = runner.labels.iter().filter(|label| !is_system_label(label)).cloned().collect();
    html! {
        tr id={ "r-" (runner.id) } {
            td.tick {
                @if access::may_change(caller, runner) && runner.status.is_live() {
                    input type="checkbox" name="id" value=(runner.id) form="remove" aria-label={ "Select " (runner.name) };
                }
            }
            th scope="row" { a href={ "/runners/" (runner.id) } { (runner.name) } }
            td data-name="State" { (ui::status(runner.status, runner.busy)) }
            td data-name="Team" { (runner.team) }
            td data-name="Target" { (runner.target) }
            td data-name="Labels" { @if custom.is_empty() { span.none { "–" } } @else { (ui::labels(&custom)) } }
            td data-name="Kind" { (kind(runner)) }
            td data-name="Created" { (ui::time(runner.created_at, now)) }
            td data-name="Last seen" { (ui::maybe_time(runner.last_seen_at, now)) }
        }
    }
}

/// The registration method, and whether the runner is ephemeral.
pub fn kind(runner: &Runner) -> &'static str {
    match (runner.method, runner.ephemeral) {
        (crate::model::Method::Jit, _) => "just in time",
        (_, true) => "registration token, ephemeral",
        (_, false) => "registration token, persistent",
    }
}
