//! The audit log: the list of events with its filters, the export and the last checkpoint.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpResponse, get};
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use crate::broker::audit::checkpoint::Published;
use crate::broker::audit::export::MOST_EXPORTED;
use crate::broker::audit::list::EventPage;
use crate::broker::people::sessions::Session;
use crate::http::State;
use crate::http::api::query::AuditQuery;
use crate::http::console::frame::filter::{Form, segment};
use crate::http::console::frame::form::{Fields, PageQuery};
use crate::http::console::frame::layout;
use crate::http::console::frame::page::{Page, PageError};
use crate::http::console::frame::session::SignedIn;
use crate::http::console::frame::ui::{self, Notice};
use crate::model::Role;
use crate::store::audit::Event;

pub const PATH: &str = "/audit";

#[get("/audit")]
pub async fn audit(
    SignedIn(session): SignedIn,
    state: Data<State>,
    PageQuery(fields): PageQuery,
) -> Result<HttpResponse, PageError> {
    let asked = fields.parse::<AuditQuery>().and_then(AuditQuery::parse);
    let (filter, before, limit) = match asked {
        Ok(asked) => asked,
        Err(problem) => {
            let form = Form { fields: &fields, problem: Some(&problem) };
            return Ok(whole(&session, form, html! {}).with_status(StatusCode::UNPROCESSABLE_ENTITY));
        }
    };
    let page = state.broker.events(&session.caller, &filter, before, limit).await?;
    let published = state.broker.published().await?;
    let now = state.broker.clock().now();
    let content = html! {
        (list(&session, &fields, &page, now))
        @if !page.events.is_empty() { (export(&session, &fields)) }
        (checkpoint(published.as_ref(), state.broker.verifier_key().as_deref(), now))
    };
    Ok(whole(&session, Form { fields: &fields, problem: None }, content).with_status(StatusCode::OK))
}

fn whole(session: &Session, form: Form<'_>, content: Markup) -> Page {
    let content = html! {
        div.title { h1 { "Audit log" } }
        (form.get(PATH, html! {
            (form.text("event_type", "Event type", "provisioned"))
            (form.text("user", "Who", "name or subject"))
            (form.text("team", "Team", ""))
            (form.text("runner", "Runner", "name or id"))
            (form.choice("success", "Result", "any", [("true", "success"), ("false", "failed")]))
            (form.text("since", "From", "2026-11-01"))
            (form.text("until", "Until", "2026-11-02T12:00:00Z"))
        }))
        (content)
    };
    Page(layout::page(session, PATH, "Audit log", content))
}

fn list(session: &Session, fields: &Fields, page: &EventPage, now: DateTime<Utc>) -> Markup {
    let next = page.next.map(|id| fields.link(PATH, &[], ("cursor", &id.to_string())));
    html! {
        @if page.events.is_empty() { (none(session)) }
        @else {
            div.table {
                table {
                    caption { "Newest first" }
                    thead { tr {
                        th scope="col" { "Event" } th scope="col" { "When" } th scope="col" { "Who" }
                        th scope="col" { "Team" } th scope="col" { "Runner" } th scope="col" { "Result" }
                    } }
                    tbody data-rows { @for event in &page.events { (row(event, now)) } }
                }
            }
        }
        (ui::older(next.as_deref()))
    }
}

/// A line of the log; the page on a team shows them too.
pub fn row(event: &Event, now: DateTime<Utc>) -> Markup {
    html! {
        tr {
            th scope="row" {
                a href={ (PATH) "/" (event.id) } { (ui::event_type(&event.event_type)) }
                @if event.severity != "info" { " " (ui::severity(&event.severity)) }
            }
            td data-name="When" { (ui::time(event.timestamp, now)) }
            td data-name="Who" { (event.user_identity) }
            td data-name="Team" { @if let Some(team) = &event.team { (team_link(team)) } }
            td data-name="Runner" { (runner_link(event)) }
            td data-name="Result" {
                @if event.success { span.badge.ok { "success" } } @else { span.badge.failure { "failed" } }
                @if let Some(code) = &event.error_code { " " code { (code) } }
                @if let Some(why) = &event.error_message { div.soft { (why) } }
            }
        }
    }
}

pub fn team_link(team: &str) -> Markup {
    html! { a href={ "/teams/" (segment(team)) } { (team) } }
}

pub fn runner_link(event: &Event) -> Markup {
    html! {
        @match (&event.runner_name, event.runner_id) {
            (name, Some(id)) => a href={ "/runners/" (id) } {
                @if let Some(name) = name { (name) } @else { (id) }
            },
            (Some(name), None) => (name),
            (None, None) => {},
        }
    }
}

fn none(session: &Session) -> Markup {
    match session.caller.is_stranger() {
        true => ui::empty(
            "No events for you to see",
            html! { "You are in no team, so only your own events would appear here." },
        ),
        false => ui::empty("No matching events", html! { a href=(PATH) { "Clear the filters" } }),
    }
}

fn export(session: &Session, fields: &Fields) -> Markup {
    let sees_all = session.caller.has(Role::Admin) || session.caller.has(Role::Auditor);
    let link = |format| fields.link("/audit/export", &["cursor", "limit"], ("format", format));
    html! {
        section.card aria-labelledby="export" {
            h2 #export { "Export" }
            p { "The events selected above, newest first, at most " (ui::number(MOST_EXPORTED as i64)) "." }
            p.actions {
                a.button.quiet href=(link("jsonl")) download { "JSON lines" }
                a.button.quiet href=(link("csv")) download { "CSV" }
            }
            @if sees_all {
                p.hint {
                    "JSON lines contain the leaf hash of each event. For an export that can be verified offline, use "
                    code { "runner-broker export-audit-log" } "."
                }
            }
        }
    }
}

fn checkpoint(published: Option<&Published>, vkey: Option<&str>, now: DateTime<Utc>) -> Markup {
    let Some(published) = published else {
        return ui::notice(Notice::Warning, html! { p { "No events are sealed yet." } });
    };
    let signers = html! {
        @if published.signers.is_empty() { "not signed" }
        @for signer in &published.signers { code { (signer) } " " }
        @if published.by_our_key { span.badge.ok { "this broker's key" } }
    };
    html! {
        section.card aria-labelledby="checkpoint" {
            h2 #checkpoint { "Last checkpoint" }
            (ui::facts([
                ("Sealed events", html! { (ui::number(published.head.size as i64)) }),
                ("Root hash", html! { code { (published.head.root) } }),
                ("Signed by", signers),
                ("Published", ui::time(published.signed_at, now)),
            ]))
            p.hint {
                "Keep checkpoints where database administrators cannot change them: they prove later that no event "
                "was changed, removed or added."
            }
            (ui::copyable("note", &published.note))
            @if let Some(vkey) = vkey { h3 { "Verifier key" } (ui::copyable("key", vkey)) }
        }
    }
}
