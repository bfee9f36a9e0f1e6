//! Creating a runner: the form, a check against the policy, then the page with the credential.
//!
//! The form has an idempotency key of its own, so a second click is a repeat. The credential is in the answer to the
//! POST and nowhere else. In containers and Kubernetes it goes through the environment, not through arguments.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpResponse, get, post};
use maud::{Markup, html};
use uuid::Uuid;

use super::new_runner_form::{Decision, Shown, render};
use super::recipes::recipes;
use crate::broker::Broker;
use crate::broker::people::caller::Caller;
use crate::broker::people::sessions::Session;
use crate::broker::provision::Provisioned;
use crate::http::State;
use crate::http::api::request::ExplainRequest;
use crate::http::console::frame::form::{Fields, SubmittedForm};
use crate::http::console::frame::page::{Page, PageError};
use crate::http::console::frame::session::SignedIn;
use crate::http::console::frame::{layout, ui};
use crate::http::idempotency::IdempotencyKey;
use crate::http::problem::{FieldError, Problem};
use crate::model::{Arch, Method, Os};

#[get("/runners/new")]
pub async fn form(SignedIn(session): SignedIn) -> Page {
    form_page(&session, &Fields::default(), None)
}

/// Checks the request against the policy; nothing is created.
#[post("/runners/new/check")]
pub async fn check(submitted: SubmittedForm, state: Data<State>) -> Result<Page, PageError> {
    let SubmittedForm { session, fields } = submitted;
    let decision = match request(&fields).and_then(|request| request.parse()) {
        Ok(ask) => Decision::Explained(state.broker.explain(&session.caller, &ask).await?),
        Err(problem) => Decision::Problem(problem),
    };
    Ok(form_page(&session, &fields, Some(decision)))
}

/// Creates the runner. The idempotency key in the form makes a second click a repeat of the first.
#[post("/runners/new")]
pub async fn create(submitted: SubmittedForm, state: Data<State>) -> HttpResponse {
    let SubmittedForm { session, fields } = submitted;
    match provision(&state, &session.caller, &fields).await {
        Ok((provisioned, os)) => {
            let content = credential(&state.broker, &provisioned, os);
            Page(layout::page(&session, "/runners", "Runner created", content))
                .with_status(StatusCode::CREATED)
        }
        Err(problem) => {
            let status = actix_web::ResponseError::status_code(&problem);
            form_page(&session, &fields, Some(Decision::Problem(problem))).with_status(status)
        }
    }
}

async fn provision(state: &State, caller: &Caller, fields: &Fields) -> Result<(Provisioned, Os), Problem> {
    let request = request(fields)?;
    let key = IdempotencyKey::given(fields.get("key")).for_request("console", &request);
    let provisioned = state.broker.provision(caller, request.parse()?, key).await?;
    Ok((provisioned, request.os))
}

fn form_page(session: &Session, fields: &Fields, decision: Option<Decision>) -> Page {
    if session.caller.memberships.teams.is_empty() {
        let content = html! {
            h1 { "New runner" }
            (ui::empty("You are in no team", html! {
                "Runners belong to teams, and a role is not a team. Ask an administrator to add you to one."
            }))
        };
        return Page(layout::page(session, "/runners", "New runner", content));
    }
    let key = key(fields, decision.as_ref());
    let content = render(session, &Shown { fields, key: &key, decision: decision.as_ref() });
    Page(layout::page(session, "/runners", "New runner", content))
}

/// The key of the form, or a new one if that was used for another request.
fn key(fields: &Fields, decision: Option<&Decision>) -> String {
    let is_spent = matches!(decision, Some(Decision::Problem(problem))
        if matches!(problem.error_code(), "IDEMPOTENCY_KEY_REUSED" | "IDEMPOTENCY_KEY_SPENT"));
    let kept = fields.get("key").filter(|_| !is_spent);
    kept.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// The form as a request of the API.
fn request(fields: &Fields) -> Result<ExplainRequest, Problem> {
    let mut errors = Vec::new();
    let text = |name: &str| fields.get(name).map(str::to_owned);
    let method = choice(fields, "method", Method::Jit, &mut errors);
    let (os, arch) =
        (choice(fields, "os", Os::Linux, &mut errors), choice(fields, "arch", Arch::X64, &mut errors));
    let name = text("name");
    if name.is_none() {
        errors.push(FieldError::new("name", "a name, or the beginning of a generated one"));
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
        // JIT runners are always ephemeral.
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

/// A choice of the form, or its default.
fn choice<T: std::str::FromStr<Err = crate::model::Invalid>>(
    fields: &Fields,
    name: &str,
    default: T,
    errors: &mut Vec<FieldError>,
) -> T {
    match fields.get(name).map(str::parse) {
        None => default,
        Some(Ok(word)) => word,
        Some(Err(err)) => {
            errors.push(FieldError::new(name, err));
            default
        }
    }
}

/// The page with the credential, which is shown once, and the ways to start the runner.
fn credential(broker: &Broker, provisioned: &Provisioned, os: Os) -> Markup {
    let (runner, grant) = (&provisioned.runner, &provisioned.grant);
    let until = match grant.method() {
        Method::Jit => "Must start before",
        Method::RegistrationToken => "Token expires",
    };
    html! {
        h1 { (runner.name) " is ready to start" }
        (ui::notice(ui::Notice::Warning, html! {
            p { "Copy the credential now: it is shown once and not stored. Reloading issues a new one." }
        }))
        section.card {
            (ui::facts([
                ("Runner", html! { a href={ "/runners/" (runner.id) } { (runner.name) } }),
                ("Team", html! { (grant.team()) }),
                ("Target", html! { (grant.target()) }),
                ("Labels", ui::labels(&runner.labels)),
                (until, ui::time(provisioned.expires_at, broker.clock().now())),
            ]))
        }
        @for recipe in recipes(provisioned, os, &broker.url_of(grant.target())) {
            section.card {
                h2 { (recipe.title) }
                p { (recipe.explanation) }
                (ui::copyable(recipe.id, &recipe.text))
            }
        }
        div.actions {
            a.button href={ "/runners/" (runner.id) } { "View runner" }
            a.button.quiet href="/runners/new" { "New runner" }
        }
    }
}
