//! Identities: the list, and the form that deactivates or reactivates one.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, get, post};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use uuid::Uuid;

use crate::broker::people::identities::IdentityPage;
use crate::broker::people::sessions::Session;
use crate::http::State;
use crate::http::api::admin::identities::IdentityQuery;
use crate::http::console::frame::filter::Form;
use crate::http::console::frame::form::{Fields, PageQuery, SubmittedForm};
use crate::http::console::frame::page::{Page, PageError, see_other};
use crate::http::console::frame::session::SignedIn;
use crate::http::console::frame::{access, layout, ui};
use crate::http::console::people::denials;
use crate::http::console::teams::form::line_of;
use crate::http::problem::Problem;
use crate::policy::Member;
use crate::store::identities::Identity;

const PATH: &str = "/identities";
const HERE: &str = "/security";

#[get("/identities")]
pub async fn identities(
    SignedIn(session): SignedIn,
    state: Data<State>,
    PageQuery(fields): PageQuery,
) -> Result<HttpResponse, PageError> {
    if !access::sees_all(&session) {
        let instead = html! { "Administrators and auditors see all identities that have made requests." };
        return Ok(access::not_for(&session, HERE, "Identities", instead));
    }
    let asked = fields.parse::<IdentityQuery>().and_then(IdentityQuery::parse);
    let (filter, before, limit) = match asked {
        Ok(asked) => asked,
        Err(problem) => {
            let form = Form { fields: &fields, problem: Some(&problem) };
            return Ok(render(&session, form, html! {}).with_status(StatusCode::UNPROCESSABLE_ENTITY));
        }
    };
    let page = state.broker.identities(&filter, before, limit).await?;
    let list = list(&session, &fields, &page, state.broker.clock().now());
    Ok(render(&session, Form { fields: &fields, problem: None }, list).with_status(StatusCode::OK))
}

fn render(session: &Session, form: Form<'_>, list: Markup) -> Page {
    let content = html! {
        p { a href=(HERE) { "Security" } }
        div.title { h1 { "Identities" } }
        (form.get(PATH, html! {
            (form.text("q", "Name or subject", ""))
            (form.choice("active", "State", "any", [("true", "active"), ("false", "deactivated")]))
        }))
        (list)
    };
    Page(layout::page(session, HERE, "Identities", content))
}

fn list(session: &Session, fields: &Fields, page: &IdentityPage, now: DateTime<Utc>) -> Markup {
    let next = page.next.map(|id| fields.link(PATH, &[], ("cursor", &id.to_string())));
    html! {
        @if page.identities.is_empty() {
            (ui::empty("No matching identities", html! { "An identity appears a few seconds after its first request." }))
        } @else {
            div.table {
                table {
                    caption { "Newest first" }
                    thead { tr {
                        th scope="col" { "Identity" } th scope="col" { "Issuer" } th scope="col" { "State" }
                        th scope="col" { "First seen" } th scope="col" { "Last seen" }
                        @if access::is_admin(session) { th scope="col" { "Action" } }
                    } }
                    tbody data-rows { @for one in &page.identities { (row(session, one, now)) } }
                }
            }
        }
        (ui::older(next.as_deref()))
    }
}

fn row(session: &Session, one: &Identity, now: DateTime<Utc>) -> Markup {
    let verb = if one.active { "deactivate" } else { "activate" };
    let own =
        (&one.issuer, &one.subject) == (&session.caller.identity.issuer, &session.caller.identity.subject);
    let log = serde_urlencoded::to_string([("user", &one.subject)]).unwrap_or_default();
    html! {
        tr {
            th scope="row" { a href={ "/audit?" (log) } { (one.display_name) } div.soft { (one.subject) } }
            td data-name="Issuer" { (one.issuer) }
            td data-name="State" {
                (state_of(one))
                @if let Some(comment) = &one.comment { div.soft { (comment) } }
            }
            td data-name="First seen" { (ui::time(one.first_seen_at, now)) }
            td data-name="Last seen" { (ui::time(one.last_seen_at, now)) }
            @if access::is_admin(session) {
                td data-name="Action" {
                    @if own { span.none { "you" } }
                    @else { a href={ (PATH) "/" (one.id) "/" (verb) } { (title(verb)) "…" } }
                }
            }
        }
    }
}

fn state_of(one: &Identity) -> Markup {
    match one.active {
        true => html! { span.badge.ok { "active" } },
        false => html! { span.badge.failed { "deactivated" } },
    }
}

fn title(verb: &str) -> &'static str {
    if verb == "deactivate" { "Deactivate" } else { "Reactivate" }
}

#[get("/identities/{id}/{verb:deactivate|activate}")]
pub async fn confirm(
    SignedIn(session): SignedIn,
    path: Path<(String, String)>,
    state: Data<State>,
) -> Result<Page, PageError> {
    access::admin(&state, &session)?;
    let (id, verb) = path.into_inner();
    let identity = state.broker.identity(known(&id)?).await?;
    Ok(confirmation(&session, &verb, &identity, Form { fields: &Fields::default(), problem: None }))
}

#[post("/identities/{id}/{verb:deactivate|activate}")]
pub async fn change(
    SubmittedForm { session, fields }: SubmittedForm,
    path: Path<(String, String)>,
    state: Data<State>,
) -> Result<HttpResponse, PageError> {
    access::admin(&state, &session)?;
    let (id, verb) = path.into_inner();
    let identity = state.broker.identity(known(&id)?).await?;
    let comment = match fields.comment() {
        Ok(comment) => comment,
        Err(problem) => {
            let form = Form { fields: &fields, problem: Some(&problem) };
            return Ok(
                confirmation(&session, &verb, &identity, form).with_status(StatusCode::UNPROCESSABLE_ENTITY)
            );
        }
    };
    match verb.as_str() {
        "deactivate" => state.broker.deactivate(&session.caller, identity.id, comment.as_str()).await?,
        _ => state.broker.activate(&session.caller, identity.id, comment.as_str()).await?,
    };
    let query = serde_urlencoded::to_string([("q", identity.subject)]).unwrap_or_default();
    Ok(see_other(&format!("{PATH}?{query}")))
}

/// A text that is not an id is the id of nobody: 404.
fn known(id: &str) -> Result<Uuid, Problem> {
    id.parse().map_err(|_| Problem::not_found("this id"))
}

/// The form for a deny rule, with the issuer of this identity.
fn prefilled(one: &Identity) -> String {
    let rule = line_of(&Member { issuer: one.issuer.clone(), claims: [].into() });
    serde_urlencoded::to_string([("member", rule)]).unwrap_or_default()
}

fn confirmation(session: &Session, verb: &str, one: &Identity, form: Form<'_>) -> Page {
    let title = title(verb);
    let content = html! {
        p { a href=(PATH) { "Identities" } }
        div.title { h1 { (title) ": " (one.display_name) } (state_of(one)) }
        (ui::facts([
            ("Subject", html! { code { (one.subject) } }),
            ("Issuer", html! { code { (one.issuer) } }),
        ]))
        p {
            @if verb == "deactivate" {
                "This identity will be refused on every replica within 5 seconds. Its runners are kept. "
                "Some callers can choose their subject, such as a workflow by its branch or environment: shut them out by a "
                a href={ (denials::PATH) "?" (prefilled(one)) } { "deny rule" }
                " about claims that they cannot choose."
            } @else { "This identity will be accepted again, as far as the policy allows." }
        }
        (form.notice())
        form method="post" action={ (PATH) "/" (one.id) "/" (verb) } {
            (layout::csrf(session))
            div.fields { (form.text("comment", "Comment for the audit log (10 to 500 characters)", "")) }
            button.danger[verb == "deactivate"] { (title) }
            " " a.button.quiet href=(PATH) { "Cancel" }
        }
    };
    Page(layout::page(session, HERE, title, content))
}
