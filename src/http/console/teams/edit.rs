//! Creating and editing a team: the form, the preview of its effects, and the save.
//!
//! The form carries the team as it was seen, and its version. Only changed fields are sent on, so two
//! administrators who change different fields lose nothing. If the version is old, nothing is written, and the form
//! shows both changes.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, ResponseError, get, post};
use maud::{Markup, html};

use super::form::{entry_of, fields_of, inputs, patch};
use super::list::{PATH, managed_by_file, visible_team};
use crate::broker::Error;
use crate::broker::people::sessions::Session;
use crate::broker::policy::if_match::IfMatch;
use crate::broker::policy::teams::{Preview, Team, TeamPatch, changes};
use crate::http::State;
use crate::http::console::frame::filter::{Form, segment};
use crate::http::console::frame::form::{Fields, SubmittedForm};
use crate::http::console::frame::page::{Page, PageError, see_other};
use crate::http::console::frame::session::SignedIn;
use crate::http::console::frame::ui::{self, Notice};
use crate::http::console::frame::{access, layout};
use crate::http::problem::Problem;
use crate::policy::TeamEntry;

#[get("/new-team")]
pub async fn show_new(SignedIn(session): SignedIn, state: Data<State>) -> Result<Page, PageError> {
    access::admin(&state, &session)?;
    let fields = fields_of(&TeamEntry::named(""));
    Ok(render(&state, &session, None, Form { fields: &fields, problem: None }, html! {}))
}

#[post("/new-team")]
pub async fn create(
    SubmittedForm { session, fields }: SubmittedForm,
    state: Data<State>,
) -> Result<HttpResponse, PageError> {
    access::admin(&state, &session)?;
    let shown = |problem: Option<&Problem>, above: Markup| {
        render(&state, &session, None, Form { fields: &fields, problem }, above)
    };
    let outcome = match entry_of(&fields) {
        Ok(entry) if fields.has("save") => {
            state.broker.create_team(&session.caller, entry).await.map(Outcome::Saved)
        }
        Ok(entry) => state.broker.preview_team(&session.caller, entry).await.map(Outcome::Previewed),
        Err(problem) => return refused(problem, shown),
    };
    answer(outcome, shown)
}

#[get("/teams/{name}/edit")]
pub async fn show_edit(
    SignedIn(session): SignedIn,
    name: Path<String>,
    state: Data<State>,
) -> Result<Page, PageError> {
    access::admin(&state, &session)?;
    let team = visible_team(&state, &session, &name).await?;
    let fields = fields_of(&team.entry);
    Ok(render(&state, &session, Some(&team), Form { fields: &fields, problem: None }, html! {}))
}

#[post("/teams/{name}/edit")]
pub async fn save(
    SubmittedForm { session, fields }: SubmittedForm,
    name: Path<String>,
    state: Data<State>,
) -> Result<HttpResponse, PageError> {
    access::admin(&state, &session)?;
    let team = visible_team(&state, &session, &name).await?;
    let shown = |problem: Option<&Problem>, above: Markup| {
        render(&state, &session, Some(&team), Form { fields: &fields, problem }, above)
    };
    let (patch, was) = match changes_of(&fields, &team) {
        Ok(changes) => changes,
        Err(problem) => return refused(problem, shown),
    };
    let (broker, caller, version) = (&state.broker, &session.caller, version(&fields));
    let outcome = match fields.has("save") {
        true => broker.change_team(caller, &team.entry.name, &version, &patch).await.map(Outcome::Saved),
        false => {
            broker.preview_change(caller, &team.entry.name, &version, &patch).await.map(Outcome::Previewed)
        }
    };
    match outcome {
        Err(Error::PreconditionFailed) => Ok(edit_conflict(&state, &session, &team, &was, &patch)),
        outcome => answer(outcome, shown),
    }
}

/// The changes of the form, and the team as it was when the form was opened.
fn changes_of(fields: &Fields, now: &Team) -> Result<(TeamPatch, TeamEntry), Problem> {
    // `was` only says which fields were left alone; `version` says which version the form was opened with.
    let was = fields.get("was").and_then(|text| serde_json::from_str(text).ok());
    let was: TeamEntry = was.unwrap_or_else(|| now.entry.clone());
    let entry = entry_of(fields)?;
    Ok((patch(&was, &entry), was))
}

fn version(fields: &Fields) -> IfMatch {
    fields.get("version").map_or(IfMatch::Missing, IfMatch::tag)
}

/// The result of a form that was sent.
enum Outcome {
    Saved(Team),
    Previewed(Preview),
}

/// Leads to the team, or shows the preview, or shows the form again with its faults.
fn answer(
    outcome: Result<Outcome, Error>,
    shown: impl Fn(Option<&Problem>, Markup) -> Page,
) -> Result<HttpResponse, PageError> {
    match outcome {
        Ok(Outcome::Saved(team)) => Ok(see_other(&format!("{PATH}/{}", segment(&team.entry.name)))),
        Ok(Outcome::Previewed(preview)) => Ok(shown(None, previewed(&preview)).with_status(StatusCode::OK)),
        Err(err) => refused(err.into(), shown),
    }
}

fn refused(
    problem: Problem,
    shown: impl Fn(Option<&Problem>, Markup) -> Page,
) -> Result<HttpResponse, PageError> {
    match problem.status_code() {
        status if status.is_client_error() => Ok(shown(Some(&problem), html! {}).with_status(status)),
        _ => Err(problem.into()),
    }
}

/// Somebody else saved first: shows their changes, and the form with both.
fn edit_conflict(
    state: &State,
    session: &Session,
    now: &Team,
    was: &TeamEntry,
    patch: &TeamPatch,
) -> HttpResponse {
    let mut both = now.entry.clone();
    patch.apply(&mut both);
    let (fields, theirs) = (fields_of(&both), changes(was, &now.entry));
    let above = ui::notice(
        Notice::Warning,
        html! {
            p { "Somebody else changed this team in the meantime. Your changes are not saved yet. Their changes:" }
            ul { @for line in &theirs { li { (line) } } @if theirs.is_empty() { li { "active or deactivated" } } }
            p { "The form now contains their changes and yours. Check it, then preview and save again." }
        },
    );
    let form = Form { fields: &fields, problem: None };
    render(state, session, Some(now), form, above).with_status(StatusCode::PRECONDITION_FAILED)
}

fn previewed(preview: &Preview) -> Markup {
    html! {
        section.card aria-labelledby="preview" {
            h2 #preview { "Changes" }
            @if preview.changes.is_empty() { p { "No changes." } }
            @else { ul { @for line in &preview.changes { li { (line) } } } }
            h3 { "Affected runners" }
            ul {
                li { (ui::counted(preview.live_runners, "live runner")) " of this team count towards its limit." }
                @if preview.quota_used_up { li { strong { "The limit would be reached: no new runners until it has fewer." } } }
                @if preview.outside > 0 {
                    li {
                        strong { (ui::counted(preview.outside, "live runner")) " would no longer be allowed" }
                        ". They are kept: "
                        @for name in &preview.outside_names { code { (name) } " " }
                        @if preview.outside > preview.outside_names.len() as i64 { "…" }
                    }
                }
            }
            @if !preview.warnings.is_empty() {
                (ui::notice(Notice::Warning, html! {
                    p { "Please check:" }
                    ul { @for warning in &preview.warnings { li { (warning) } } }
                }))
            }
            @if !preview.changes.is_empty() { p { button name="save" form="team" { "Save" } } }
        }
    }
}

fn render(state: &State, session: &Session, team: Option<&Team>, form: Form<'_>, above: Markup) -> Page {
    let (title, back) = match team {
        None => ("New team".to_owned(), PATH.to_owned()),
        Some(team) => (format!("Edit {}", team.entry.name), format!("{PATH}/{}", segment(&team.entry.name))),
    };
    let action = team.map_or("/new-team".to_owned(), |_| format!("{back}/edit"));
    let content = html! {
        p { a href=(back) { "Back" } }
        div.title { h1 { (title) } }
        (managed_by_file(state))
        (form.notice())
        (above)
        form #team method="post" action=(action) {
            (layout::csrf(session))
            @if let Some(team) = team { (opened_version(team, form.fields)) }
            (inputs(form, team.is_none()))
            div.actions {
                button name="preview" disabled[state.broker.policy_is_managed_by_file()] { "Preview" }
                a.button.quiet href=(back) { "Cancel" }
            }
        }
    };
    Page(layout::page(session, PATH, &title, content))
}

/// The version with which the form was opened, so that nobody overwrites changes that they have not seen. A form that is
/// shown again, with a fault or a preview, keeps it.
fn opened_version(team: &Team, fields: &Fields) -> Markup {
    let was = serde_json::to_string(&team.entry).unwrap_or_default();
    html! {
        input type="hidden" name="version" value=(fields.get("version").unwrap_or(&team.version()));
        input type="hidden" name="was" value=(fields.get("was").unwrap_or(&was));
    }
}

#[get("/teams/{name}/{verb:deactivate|reactivate}")]
pub async fn confirm_state(
    SignedIn(session): SignedIn,
    path: Path<(String, String)>,
    state: Data<State>,
) -> Result<Page, PageError> {
    access::admin(&state, &session)?;
    let (name, verb) = path.into_inner();
    let team = visible_team(&state, &session, &name).await?;
    Ok(state_form(&session, &team, &verb, Form { fields: &Fields::default(), problem: None }))
}

#[post("/teams/{name}/{verb:deactivate|reactivate}")]
pub async fn change_state(
    SubmittedForm { session, fields }: SubmittedForm,
    path: Path<(String, String)>,
    state: Data<State>,
) -> Result<HttpResponse, PageError> {
    access::admin(&state, &session)?;
    let (name, verb) = path.into_inner();
    let team = visible_team(&state, &session, &name).await?;
    let shown = |problem: Option<&Problem>, _: Markup| {
        // The comment is kept; the version is the one that is shown now.
        let fields = fields.keep("comment");
        state_form(&session, &team, &verb, Form { fields: &fields, problem })
    };
    let comment = match fields.comment() {
        Ok(comment) => comment,
        Err(problem) => return refused(problem, shown),
    };
    let (broker, caller, name, version) =
        (&state.broker, &session.caller, &team.entry.name, version(&fields));
    let outcome = match verb.as_str() {
        "deactivate" => broker.deactivate_team(caller, name, &version, &comment).await,
        _ => broker.reactivate_team(caller, name, &version, &comment).await,
    };
    answer(outcome.map(Outcome::Saved), shown)
}

fn state_form(session: &Session, team: &Team, verb: &str, form: Form<'_>) -> Page {
    let back = format!("{PATH}/{}", segment(&team.entry.name));
    let word = if verb == "deactivate" { "Deactivate" } else { "Reactivate" };
    let title = format!("{word} {}", team.entry.name);
    let content = html! {
        p { a href=(back) { "Back" } }
        div.title { h1 { (title) } }
        p {
            @if verb == "deactivate" {
                "Members of this team get no new runners, on every replica within 5 seconds. "
                "Its " (ui::counted(team.live_runners, "live runner")) " and its rules and members are kept."
            } @else { "Members of this team get runners again. Its rules and members are as before." }
        }
        (form.notice())
        form method="post" action={ (back) "/" (verb) } {
            (layout::csrf(session))
            input type="hidden" name="version" value=(team.version());
            div.fields { (form.text("comment", "Comment for the audit log (10 to 500 characters)", "")) }
            button.danger[verb == "deactivate"] { (word) }
            " " a.button.quiet href=(back) { "Cancel" }
        }
    };
    Page(layout::page(session, PATH, &title, content))
}
