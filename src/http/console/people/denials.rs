//! The deny rules of this installation.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, ResponseError, get, post};
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use crate::broker::people::sessions::Session;
use crate::broker::policy::denials::{DenyRules, denial_id};
use crate::broker::policy::if_match::IfMatch;
use crate::http::State;
use crate::http::console::frame::filter::Form;
use crate::http::console::frame::form::{Fields, PageQuery, SubmittedForm};
use crate::http::console::frame::page::{Page, PageError, see_other};
use crate::http::console::frame::session::SignedIn;
use crate::http::console::frame::{access, layout, ui};
use crate::http::console::teams;
use crate::http::console::teams::form::{line_of, member_of};
use crate::http::console::teams::list::{managed_by_file, may_edit};
use crate::http::problem::{FieldError, Problem};
use crate::policy::{DenyEntry, Member};

pub(super) const PATH: &str = "/denials";

/// The form may be filled in by a link.
#[get("/denials")]
pub async fn show(
    SignedIn(session): SignedIn,
    state: Data<State>,
    PageQuery(fields): PageQuery,
) -> Result<HttpResponse, PageError> {
    if !access::sees_all(&session) {
        let instead = html! { "Administrators and auditors see who is denied access." };
        return Ok(access::not_for(&session, teams::list::PATH, "Deny rules", instead));
    }
    let form = Form { fields: &fields, problem: None };
    Ok(render(&state, &session, form).await?.with_status(StatusCode::OK))
}

#[post("/denials/{verb:add|remove}")]
pub async fn change(
    SubmittedForm { session, fields }: SubmittedForm,
    verb: Path<String>,
    state: Data<State>,
) -> Result<HttpResponse, PageError> {
    access::admin(&state, &session)?;
    let problem = match changed(&state, &session, &verb, &fields).await {
        Ok(()) => return Ok(see_other(PATH)),
        Err(problem) if problem.status_code().is_client_error() => problem,
        Err(problem) => return Err(problem.into()),
    };
    let page = render(&state, &session, Form { fields: &fields, problem: Some(&problem) }).await?;
    Ok(page.with_status(problem.status_code()))
}

async fn changed(state: &State, session: &Session, verb: &str, fields: &Fields) -> Result<(), Problem> {
    let (broker, admin) = (&state.broker, &session.caller);
    let seen = fields.get("version").map_or(IfMatch::Missing, IfMatch::tag);
    if verb == "remove" {
        let id = fields.get("id").unwrap_or_default();
        return Ok(broker.remove_denial(admin, &seen, id).await.map(drop)?);
    }
    Ok(broker.add_denial(admin, &seen, entry_of(fields)?).await.map(drop)?)
}

fn entry_of(fields: &Fields) -> Result<DenyEntry, Problem> {
    let mut faults = Vec::new();
    let member = member_of(fields.get("member").unwrap_or_default());
    let until = fields.get("until").map(str::parse).transpose();
    faults.extend(member.as_ref().err().map(|why| FieldError::new("member", why)));
    faults.extend(until.as_ref().err().map(|why| FieldError::new("until", why)));
    match (member, until) {
        (Ok(Member { issuer, claims }), Ok(until)) => {
            let comment = fields.get("comment").unwrap_or_default().to_owned();
            Ok(DenyEntry { issuer, claims, comment, until })
        }
        _ => Err(Problem::invalid(faults)),
    }
}

async fn render(state: &State, session: &Session, form: Form<'_>) -> Result<Page, PageError> {
    let found = state.broker.denials().await?;
    let (edits, now) = (may_edit(state, session), state.broker.clock().now());
    let content = html! {
        p { a href=(teams::list::PATH) { "Teams" } }
        div.title { h1 { "Deny rules" } }
        p { "Anybody whom a rule matches is refused, whatever teams and roles they have." }
        (managed_by_file(state))
        (form.notice())
        (table(session, &found, edits, now))
        @if edits { (adding(session, form, &found)) }
    };
    Ok(Page(layout::page(session, teams::list::PATH, "Deny rules", content)))
}

fn table(session: &Session, found: &DenyRules, edits: bool, now: DateTime<Utc>) -> Markup {
    html! {
        div.table {
            table {
                caption { "In the order of the policy" }
                thead { tr {
                    th scope="col" { "Issuer" } th scope="col" { "Claims" } th scope="col" { "Comment" }
                    th scope="col" { "Ends" }
                    @if edits { th scope="col" { "Action" } }
                } }
                tbody {
                    @for rule in &found.rules { (row(session, found, rule, edits, now)) }
                    @if found.rules.is_empty() { tr { td { span.none { "None." } } } }
                }
            }
        }
    }
}

fn row(session: &Session, found: &DenyRules, rule: &DenyEntry, edits: bool, now: DateTime<Utc>) -> Markup {
    let member = Member { issuer: rule.issuer.clone(), claims: rule.claims.clone() };
    html! {
        tr {
            th scope="row" { (rule.issuer) }
            td data-name="Claims" {
                @for (claim, pattern) in &rule.claims {
                    div { code.label { (claim) } " = " code.label { (pattern) } }
                }
            }
            td data-name="Comment" { (rule.comment) }
            td data-name="Ends" {
                @match rule.until {
                    None => { "never" },
                    Some(until) => {
                        (ui::time(until.at(), now))
                        @if until.at() <= now { " " span.badge { "ended" } }
                    },
                }
            }
            @if edits {
                td data-name="Action" {
                    form method="post" action={ (PATH) "/remove" } {
                        (layout::csrf(session))
                        input type="hidden" name="version" value=(found.version());
                        input type="hidden" name="id" value=(denial_id(rule));
                        button.danger aria-label={ "Remove " (line_of(&member)) } { "Remove" }
                    }
                }
            }
        }
    }
}

fn adding(session: &Session, form: Form<'_>, found: &DenyRules) -> Markup {
    html! {
        section.card aria-label="Add a deny rule" {
            form method="post" action={ (PATH) "/add" } {
                (layout::csrf(session))
                input type="hidden" name="version" value=(found.version());
                div.fields {
                    (form.text("member", "New rule: issuer, a space, claims as JSON",
                        "https://token.actions.githubusercontent.com {\"repository_id\": \"123456789\"}"))
                    (form.text("comment", "Comment", "its workflow leaked a token"))
                    (form.text("until", "Ends (empty: never)", "2026-12-31T18:00:00Z"))
                    button.danger { "Deny" }
                }
            }
        }
        p.hint {
            "Use claims that the caller cannot choose, such as " code { "repository_id" } ", "
            code { "repository_owner_id" } ", " code { "actor_id" } " or " code { "oid" } ". "
            "Changes apply on every replica within 5 seconds. A rule cannot match yourself."
        }
    }
}
