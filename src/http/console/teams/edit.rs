//! How an administrator changes a team: the form, what it would change for whom, and only then the change.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, ResponseError, get, post};
use maud::{Markup, html};

use super::form::{entry_of, fields_of, inputs, patch};
use super::list::{PATH, managed, seen};
use crate::broker::Error;
use crate::broker::people::sessions::Session;
use crate::broker::policy::if_match::IfMatch;
use crate::broker::policy::teams::{Preview, Team, TeamPatch, changes};
use crate::http::State;
use crate::http::console::frame::filter::{Form, segment};
use crate::http::console::frame::form::{Fields, Sent};
use crate::http::console::frame::page::{Page, PageError, see};
use crate::http::console::frame::session::SignedIn;
use crate::http::console::frame::ui::{self, Notice};
use crate::http::console::frame::{access, layout};
use crate::http::console::people::identities;
use crate::http::problem::Problem;
use crate::policy::TeamEntry;

#[get("/new-team")]
pub async fn ask_new(SignedIn(session): SignedIn, state: Data<State>) -> Result<Page, PageError> {
    access::admin(&state, &session)?;
    let fields = fields_of(&TeamEntry::named(""));
    Ok(whole(&state, &session, None, Form { fields: &fields, problem: None }, html! {}))
}

#[post("/new-team")]
pub async fn create(Sent { session, fields }: Sent, state: Data<State>) -> Result<HttpResponse, PageError> {
    access::admin(&state, &session)?;
    let shown = |problem: Option<&Problem>, above: Markup| {
        whole(&state, &session, None, Form { fields: &fields, problem }, above)
    };
    let done = match entry_of(&fields) {
        Ok(entry) if fields.has("save") => {
            state.broker.create_team(&session.caller, entry).await.map(Done::Saved)
        }
        Ok(entry) => state.broker.preview_team(&session.caller, entry).await.map(Done::Previewed),
        Err(problem) => return refused(problem, shown),
    };
    answer(done, shown)
}

#[get("/teams/{name}/edit")]
pub async fn ask(
    SignedIn(session): SignedIn,
    name: Path<String>,
    state: Data<State>,
) -> Result<Page, PageError> {
    access::admin(&state, &session)?;
    let team = seen(&state, &session, &name).await?;
    let fields = fields_of(&team.entry);
    Ok(whole(&state, &session, Some(&team), Form { fields: &fields, problem: None }, html! {}))
}

#[post("/teams/{name}/edit")]
pub async fn change(
    Sent { session, fields }: Sent,
    name: Path<String>,
    state: Data<State>,
) -> Result<HttpResponse, PageError> {
    access::admin(&state, &session)?;
    let team = seen(&state, &session, &name).await?;
    let shown = |problem: Option<&Problem>, above: Markup| {
        whole(&state, &session, Some(&team), Form { fields: &fields, problem }, above)
    };
    let (patch, was) = match wanted(&fields, &team) {
        Ok(wanted) => wanted,
        Err(problem) => return refused(problem, shown),
    };
    let (broker, caller, version) = (&state.broker, &session.caller, version(&fields));
    let done = match fields.has("save") {
        true => broker.change_team(caller, &team.entry.name, &version, &patch).await.map(Done::Saved),
        false => broker.preview_change(caller, &team.entry.name, &version, &patch).await.map(Done::Previewed),
    };
    match done {
        Err(Error::PreconditionFailed) => Ok(overtaken(&state, &session, &team, &was, &patch)),
        done => answer(done, shown),
    }
}

/// What he changed, and the team that he changed it of.
fn wanted(fields: &Fields, now: &Team) -> Result<(TeamPatch, TeamEntry), Problem> {
    // It says only which fields to leave alone; which version he saw is told by `version`.
    let was = fields.get("was").and_then(|text| serde_json::from_str(text).ok());
    let was: TeamEntry = was.unwrap_or_else(|| now.entry.clone());
    let entry = entry_of(fields)?;
    Ok((patch(&was, &entry), was))
}

fn version(fields: &Fields) -> IfMatch {
    fields.get("version").map_or(IfMatch::Missing, IfMatch::tag)
}

enum Done {
    Saved(Team),
    Previewed(Preview),
}

/// The team, or what would come of it, or the form with what is wrong.
fn answer(
    done: Result<Done, Error>,
    shown: impl Fn(Option<&Problem>, Markup) -> Page,
) -> Result<HttpResponse, PageError> {
    match done {
        Ok(Done::Saved(team)) => Ok(see(&format!("{PATH}/{}", segment(&team.entry.name)))),
        Ok(Done::Previewed(preview)) => Ok(shown(None, previewed(&preview)).with_status(StatusCode::OK)),
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

/// Somebody else was faster: his changes, with these here put on top, to be looked at again.
fn overtaken(
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
            p { "Somebody else changed this team while you did; nothing of yours is saved yet. What he changed:" }
            ul { @for line in &theirs { li { (line) } } @if theirs.is_empty() { li { "whether it is active" } } }
            p { "The form shows his changes and yours together. Look at it, then preview and save again." }
        },
    );
    let form = Form { fields: &fields, problem: None };
    whole(state, session, Some(now), form, above).with_status(StatusCode::PRECONDITION_FAILED)
}

fn previewed(preview: &Preview) -> Markup {
    html! {
        section.card aria-labelledby="preview" {
            h2 #preview { "What would change" }
            @if preview.changes.is_empty() { p { "Nothing." } }
            @else { ul { @for line in &preview.changes { li { (line) } } } }
            h3 { "For whom" }
            ul {
                li { (ui::number(preview.live_runners)) " live runners count in its quota." }
                @if preview.quota_used_up { li { strong { "Its quota would be used up: no new runner until it has fewer." } } }
                @if preview.outside > 0 {
                    li {
                        strong { (ui::number(preview.outside)) " live runners could not be asked for any more" }
                        ". They stay: "
                        @for name in &preview.outside_names { code { (name) } " " }
                        @if preview.outside > preview.outside_names.len() as i64 { "…" }
                    }
                }
            }
            @if !preview.changes.is_empty() { p { button name="save" form="team" { "Save this" } } }
        }
    }
}

fn whole(state: &State, session: &Session, team: Option<&Team>, form: Form<'_>, above: Markup) -> Page {
    let (title, back) = match team {
        None => ("New team".to_owned(), PATH.to_owned()),
        Some(team) => (format!("Edit {}", team.entry.name), format!("{PATH}/{}", segment(&team.entry.name))),
    };
    let action = team.map_or("/new-team".to_owned(), |_| format!("{back}/edit"));
    let content = html! {
        p { a href=(back) { "Back" } }
        div.title { h1 { (title) } }
        (managed(state))
        (form.notice())
        (above)
        form #team method="post" action=(action) {
            (layout::csrf(session))
            @if let Some(team) = team { (remembered(team, form.fields)) }
            (inputs(form, team.is_none()))
            div.actions {
                button name="preview" disabled[state.broker.policy_is_managed_by_file()] { "Preview what changes" }
                a.button.quiet href=(back) { "Cancel" }
            }
        }
    };
    Page(layout::page(session, PATH, &title, content))
}

/// Which version of the team this form is about, so that nobody overwrites what he has not seen. A form that comes back
/// with a fault or a preview stays about the version that was seen first.
fn remembered(team: &Team, fields: &Fields) -> Markup {
    let was = serde_json::to_string(&team.entry).unwrap_or_default();
    html! {
        input type="hidden" name="version" value=(fields.get("version").unwrap_or(&team.version()));
        input type="hidden" name="was" value=(fields.get("was").unwrap_or(&was));
    }
}

#[get("/teams/{name}/{verb:deactivate|reactivate}")]
pub async fn ask_state(
    SignedIn(session): SignedIn,
    path: Path<(String, String)>,
    state: Data<State>,
) -> Result<Page, PageError> {
    access::admin(&state, &session)?;
    let (name, verb) = path.into_inner();
    let team = seen(&state, &session, &name).await?;
    Ok(state_form(&session, &team, &verb, Form { fields: &Fields::default(), problem: None }))
}

#[post("/teams/{name}/{verb:deactivate|reactivate}")]
pub async fn change_state(
    Sent { session, fields }: Sent,
    path: Path<(String, String)>,
    state: Data<State>,
) -> Result<HttpResponse, PageError> {
    access::admin(&state, &session)?;
    let (name, verb) = path.into_inner();
    let team = seen(&state, &session, &name).await?;
    let shown = |problem: Option<&Problem>, _: Markup| {
        // The comment stays; the version is that of what is shown now.
        let fields = fields.keep("comment");
        state_form(&session, &team, &verb, Form { fields: &fields, problem })
    };
    let comment = match identities::comment(&fields) {
        Ok(comment) => comment,
        Err(problem) => return refused(problem, shown),
    };
    let (broker, caller, name, version) =
        (&state.broker, &session.caller, &team.entry.name, version(&fields));
    let done = match verb.as_str() {
        "deactivate" => broker.deactivate_team(caller, name, &version, &comment).await,
        _ => broker.reactivate_team(caller, name, &version, &comment).await,
    };
    answer(done.map(Done::Saved), shown)
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
                "Its members get no more runners, on every replica within 5 seconds. The "
                (ui::number(team.live_runners)) " runners that it has stay and are managed; its rules and members are kept."
            } @else { "With the rules and the members that it had." }
        }
        (form.notice())
        form method="post" action={ (back) "/" (verb) } {
            (layout::csrf(session))
            input type="hidden" name="version" value=(team.version());
            div.fields { (form.text("comment", "Why: 10 to 500 characters, for the audit log", "")) }
            button.danger[verb == "deactivate"] { (word) }
            " " a.button.quiet href=(back) { "Cancel" }
        }
    };
    Page(layout::page(session, PATH, &title, content))
}
