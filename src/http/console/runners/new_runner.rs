//! Asking for a runner: a form, the policy's decision before anything is done, then the credential, once.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpResponse, get, post};
use maud::html;
use uuid::Uuid;

use super::new_runner_form::{Decision, Shown, whole};
use super::new_runner_ready::ready;
use crate::broker::people::caller::Caller;
use crate::broker::people::sessions::Session;
use crate::broker::provision::Provisioned;
use crate::http::State;
use crate::http::api::request::ExplainRequest;
use crate::http::console::frame::form::{Fields, Sent};
use crate::http::console::frame::page::{Page, PageError};
use crate::http::console::frame::session::SignedIn;
use crate::http::console::frame::{layout, ui};
use crate::http::idempotency::IdempotencyKey;
use crate::http::problem::{FieldError, Problem};
use crate::model::{Arch, Method, Os};

#[get("/runners/new")]
pub async fn form(SignedIn(session): SignedIn) -> Page {
    shown(&session, &Fields::default(), None)
}

/// What would be decided; nothing is done.
#[post("/runners/new/check")]
pub async fn check(sent: Sent, state: Data<State>) -> Result<Page, PageError> {
    let Sent { session, fields } = sent;
    let decision = match request(&fields).and_then(|request| request.parse()) {
        Ok(ask) => Decision::Explained(state.broker.explain(&session.caller, &ask).await?),
        Err(problem) => Decision::Problem(problem),
    };
    Ok(shown(&session, &fields, Some(decision)))
}

/// Makes it. The form's key makes a second click a repeat of the first.
#[post("/runners/new")]
pub async fn make(sent: Sent, state: Data<State>) -> HttpResponse {
    let Sent { session, fields } = sent;
    match provision(&state, &session.caller, &fields).await {
        Ok((made, os)) => {
            let content = ready(&state.broker, &made, os);
            Page(layout::page(&session, "/runners", "Runner ready", content)).with_status(StatusCode::CREATED)
        }
        Err(problem) => {
            let status = actix_web::ResponseError::status_code(&problem);
            shown(&session, &fields, Some(Decision::Problem(problem))).with_status(status)
        }
    }
}

async fn provision(state: &State, caller: &Caller, fields: &Fields) -> Result<(Provisioned, Os), Problem> {
    let request = request(fields)?;
    let key = IdempotencyKey::given(fields.get("key")).for_request("console", &request);
    let made = state.broker.provision(caller, request.parse()?, key).await?;
    Ok((made, request.os))
}

fn shown(session: &Session, fields: &Fields, decision: Option<Decision>) -> Page {
    if session.caller.memberships.teams.is_empty() {
        let content = html! {
            h1 { "New runner" }
            (ui::empty("You are in no team", html! {
                "Runners are made for teams, and your role is not a team. Add yourself to one, or ask who administers it."
            }))
        };
        return Page(layout::page(session, "/runners", "New runner", content));
    }
    let key = key(fields, decision.as_ref());
    let content = whole(session, &Shown { fields, key: &key, decision: decision.as_ref() });
    Page(layout::page(session, "/runners", "New runner", content))
}

/// The one that the form came with, unless it stands for something else already.
fn key(fields: &Fields, decision: Option<&Decision>) -> String {
    let is_spent = matches!(decision, Some(Decision::Problem(problem))
        if matches!(problem.error_code(), "IDEMPOTENCY_KEY_REUSED" | "IDEMPOTENCY_KEY_SPENT"));
    let kept = fields.get("key").filter(|_| !is_spent);
    kept.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// The form as the API has it.
fn request(fields: &Fields) -> Result<ExplainRequest, Problem> {
    let mut errors = Vec::new();
    let text = |name: &str| fields.get(name).map(str::to_owned);
    let method = word(fields, "method", Method::Jit, &mut errors);
    let (os, arch) =
        (word(fields, "os", Os::Linux, &mut errors), word(fields, "arch", Arch::X64, &mut errors));
    let name = text("name");
    if name.is_none() {
        errors.push(FieldError::new("name", "a name, or what a generated one begins with"));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let (runner_name, runner_name_prefix) = if fields.has("suffix") { (None, name) } else { (name, None) };
    let is_jit = method == Method::Jit;
    let (repository, organization) = match text("target") {
        Some(target) if target.contains('/') => (Some(target), None),
        organization => (None, organization),
    };
    let group = text("runner_group");
    let runner_group_id = group.as_ref().and_then(|group| group.parse().ok());
    let labels = fields.get("labels").unwrap_or_default().split(',').map(str::trim);
    Ok(ExplainRequest {
        method,
        // A JIT runner takes one job, whatever the form says.
        ephemeral: is_jit || fields.has("ephemeral"),
        disable_update: !is_jit && fields.has("disable_update"),
        runner_name,
        runner_name_prefix,
        labels: labels.filter(|label| !label.is_empty()).map(str::to_owned).collect(),
        runner_group: group.filter(|_| runner_group_id.is_none()),
        runner_group_id,
        team: text("team"),
        organization,
        repository,
        os,
        arch,
        work_folder: text("work_folder").unwrap_or_else(|| "_work".to_owned()),
    })
}

/// A choice of the form's; what is not chosen is as usual.
fn word<T: std::str::FromStr<Err = crate::model::Invalid>>(
    fields: &Fields,
    name: &str,
    usual: T,
    errors: &mut Vec<FieldError>,
) -> T {
    match fields.get(name).map(str::parse) {
        None => usual,
        Some(Ok(word)) => word,
        Some(Err(err)) => {
            errors.push(FieldError::new(name, err));
            usual
        }
    }
}
