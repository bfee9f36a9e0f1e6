//! The list of security events.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpResponse, get};
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::audit::list::{runner_link, team_link};
use super::frame::filter::Form;
use super::frame::form::{Fields, PageQuery};
use super::frame::page::{Page, PageError};
use super::frame::session::SignedIn;
use super::frame::{access, layout, ui};
use crate::broker::people::sessions::Session;
use crate::broker::security::{SecurityEvent, SecurityPage, Severity, Type};
use crate::http::State;
use crate::http::api::admin::security::{SecurityQuery, to_cursor};

const PATH: &str = "/security";

#[get("/security")]
pub async fn security(
    SignedIn(session): SignedIn,
    state: Data<State>,
    PageQuery(fields): PageQuery,
) -> Result<HttpResponse, PageError> {
    if !access::sees_all(&session) {
        let instead = html! { "The events of your teams are in " a href="/audit" { "the audit log" } "." };
        return Ok(access::not_for(&session, PATH, "Security", instead));
    }
    let asked = fields.parse::<SecurityQuery>().and_then(SecurityQuery::parse);
    let (wanted, after, limit) = match asked {
        Ok(asked) => asked,
        Err(problem) => {
            let form = Form { fields: &fields, problem: Some(&problem) };
            return Ok(render(&session, form, html! {}).with_status(StatusCode::UNPROCESSABLE_ENTITY));
        }
    };
    let page = state.broker.security_events(wanted, after, limit).await?;
    let list = list(&fields, &page, state.broker.clock().now());
    Ok(render(&session, Form { fields: &fields, problem: None }, list).with_status(StatusCode::OK))
}

fn render(session: &Session, form: Form<'_>, list: Markup) -> Page {
    let types = Type::ALL.map(|one| (one.as_str(), ui::words(one.as_str())));
    let severities = Severity::ALL.map(|one| (one.as_str(), one.as_str()));
    let content = html! {
        div.title {
            h1 { "Security" }
            span.actions { a.button.quiet href="/identities" { "Identities" } }
        }
        (form.get(PATH, html! {
            (form.choice("type", "Event type", "any", types.iter().map(|(value, shown)| (*value, shown.as_str()))))
            (form.choice("severity", "Severity", "any", severities))
            (form.text("team", "Team", ""))
            (form.text("since", "From", "2026-11-01"))
            (form.text("until", "Until", "2026-11-02T12:00:00Z"))
        }))
        (list)
    };
    Page(layout::page(session, PATH, "Security", content))
}

fn list(fields: &Fields, page: &SecurityPage, now: DateTime<Utc>) -> Markup {
    let next = page.next.map(|place| fields.link(PATH, &[], ("cursor", &to_cursor(place))));
    html! {
        @if page.events.is_empty() {
            (ui::empty("No matching events", html! { a href=(PATH) { "Clear the filters" } }))
        } @else {
            (table(&page.events, now))
        }
        (ui::older(next.as_deref()))
    }
}

/// Security events, newest first; the page on a team shows them too.
pub fn table(events: &[SecurityEvent], now: DateTime<Utc>) -> Markup {
    html! {
        div.table {
            table {
                caption { "Security events, newest first" }
                thead { tr {
                    th scope="col" { "Event" } th scope="col" { "When" } th scope="col" { "Who" }
                    th scope="col" { "Team" } th scope="col" { "Runner" } th scope="col" { "Action taken" }
                } }
                tbody data-rows { @for event in events { (row(event, now)) } }
            }
        }
    }
}

fn row(event: &SecurityEvent, now: DateTime<Utc>) -> Markup {
    let SecurityEvent { kind, event } = event;
    let action = kind.action_taken(&event.event_data);
    html! {
        tr {
            th scope="row" {
                a href={ "/audit/" (event.id) } { (ui::event_type(kind.as_str())) }
                " " (ui::severity(&event.severity))
                @if let Some(why) = &event.error_message { div.soft { (why) } }
            }
            td data-name="When" { (ui::time(event.timestamp, now)) }
            td data-name="Who" { (who(event)) }
            td data-name="Team" { @if let Some(team) = &event.team { (team_link(team)) } }
            td data-name="Runner" { (runner_link(event)) }
            td data-name="Action taken" { (action.as_deref().map_or("–".to_owned(), ui::words)) }
        }
    }
}

/// A caller with a subject is linked to the identities.
fn who(event: &crate::store::audit::Event) -> Markup {
    let query = event.subject.as_ref().map(|subject| serde_urlencoded::to_string([("q", subject)]));
    html! {
        @match query {
            Some(Ok(query)) => a href={ "/identities?" (query) } { (event.user_identity) },
            _ => (event.user_identity),
        }
        @if let Some(address) = &event.request_ip { div.soft { "from " (address) } }
    }
}
