//! The administrators and auditors of this installation.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, ResponseError, get, post};
use maud::{Markup, html};

use crate::broker::people::sessions::Session;
use crate::broker::policy::if_match::IfMatch;
use crate::broker::policy::roles::RoleMembers;
use crate::broker::policy::teams::member_id;
use crate::http::State;
use crate::http::console::frame::filter::Form;
use crate::http::console::frame::form::{Fields, SubmittedForm};
use crate::http::console::frame::page::{Page, PageError, see_other};
use crate::http::console::frame::session::SignedIn;
use crate::http::console::frame::{access, layout};
use crate::http::console::teams;
use crate::http::console::teams::form::{line_of, member_of};
use crate::http::console::teams::list::{managed_by_file, may_edit};
use crate::http::problem::{FieldError, Problem};
use crate::model::Role;

const PATH: &str = "/roles";

#[get("/roles")]
pub async fn show(SignedIn(session): SignedIn, state: Data<State>) -> Result<HttpResponse, PageError> {
    if !access::sees_all(&session) {
        let instead = html! { "Administrators and auditors see who has which role." };
        return Ok(access::not_for(&session, teams::list::PATH, "Administrators and auditors", instead));
    }
    let form = Form { fields: &Fields::default(), problem: None };
    Ok(render(&state, &session, form).await?.with_status(StatusCode::OK))
}

#[post("/roles/{role}/{verb:add|remove}")]
pub async fn change(
    SubmittedForm { session, fields }: SubmittedForm,
    path: Path<(String, String)>,
    state: Data<State>,
) -> Result<HttpResponse, PageError> {
    access::admin(&state, &session)?;
    let (role, verb) = path.into_inner();
    let role: Role = role.parse().map_err(|_| Problem::not_found(&role))?;
    let problem = match changed(&state, &session, role, &verb, &fields).await {
        Ok(()) => return Ok(see_other(PATH)),
        Err(problem) if problem.status_code().is_client_error() => problem,
        Err(problem) => return Err(problem.into()),
    };
    let fields = fields.keep("member");
    let page = render(&state, &session, Form { fields: &fields, problem: Some(&problem) }).await?;
    Ok(page.with_status(problem.status_code()))
}

async fn changed(
    state: &State,
    session: &Session,
    role: Role,
    verb: &str,
    fields: &Fields,
) -> Result<(), Problem> {
    let (broker, admin) = (&state.broker, &session.caller);
    let seen = fields.get("version").map_or(IfMatch::Missing, IfMatch::tag);
    if verb == "remove" {
        let id = fields.get("id").unwrap_or_default();
        return Ok(broker.remove_role_member(admin, role, &seen, id).await.map(drop)?);
    }
    let faulty = |why| Problem::invalid(vec![FieldError::new("member", why)]);
    let member = member_of(fields.get("member").unwrap_or_default()).map_err(faulty)?;
    Ok(broker.add_role_member(admin, role, &seen, member).await.map(drop)?)
}

async fn render(state: &State, session: &Session, form: Form<'_>) -> Result<Page, PageError> {
    let admins = state.broker.role_members(Role::Admin).await?;
    let auditors = state.broker.role_members(Role::Auditor).await?;
    let edits = may_edit(state, session);
    let content = html! {
        p { a href=(teams::list::PATH) { "Teams" } }
        div.title { h1 { "Administrators and auditors" } }
        (managed_by_file(state))
        (form.notice())
        (section(session, "Administrators", "can change everything here", &admins, edits))
        (section(session, "Auditors", "can see everything and change nothing", &auditors, edits))
        @if edits { (adding(session, form, &[&admins, &auditors])) }
    };
    Ok(Page(layout::page(session, teams::list::PATH, "Administrators and auditors", content)))
}

fn section(session: &Session, title: &str, what: &str, of: &RoleMembers, edits: bool) -> Markup {
    html! {
        div.table {
            table {
                caption { strong { (title) } " " (what) }
                thead { tr {
                    th scope="col" { "Issuer" } th scope="col" { "Claims" }
                    @if edits { th scope="col" { "Action" } }
                } }
                tbody {
                    @for member in &of.members {
                        tr {
                            th scope="row" { (member.issuer) }
                            td data-name="Claims" {
                                @for (claim, pattern) in &member.claims {
                                    div { code.label { (claim) } " = " code.label { (pattern) } }
                                }
                            }
                            @if edits {
                                td data-name="Action" {
                                    form method="post" action={ (PATH) "/" (of.role) "/remove" } {
                                        (layout::csrf(session))
                                        input type="hidden" name="version" value=(of.version());
                                        input type="hidden" name="id" value=(member_id(member));
                                        button.danger aria-label={ "Remove " (line_of(member)) } { "Remove" }
                                    }
                                }
                            }
                        }
                    }
                    @if of.members.is_empty() { tr { td { span.none { "None." } } } }
                }
            }
        }
    }
}

fn adding(session: &Session, form: Form<'_>, of: &[&RoleMembers]) -> Markup {
    html! {
        @for role in of {
            section.card aria-label={ "Add to the role " (role.role) } {
                form method="post" action={ (PATH) "/" (role.role) "/add" } {
                    (layout::csrf(session))
                    input type="hidden" name="version" value=(role.version());
                    div.fields {
                        (form.text("member", &format!("New {} rule: issuer, a space, claims as JSON", role.role),
                            "https://issuer.example.com {\"email\": \"ann@example\\.com\"}"))
                        button { "Add" }
                    }
                }
            }
        }
        p.hint { "Changes apply on every replica within 5 seconds. You cannot remove your own administrator role." }
    }
}
