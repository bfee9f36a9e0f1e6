//! The page of one runner: its details, jobs, history and actions.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, get, post};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::list;
use super::timeline::timeline;
use crate::broker;
use crate::broker::Broker;
use crate::broker::people::sessions::Session;
use crate::github::IssuedToken;
use crate::http::console::frame::form::{PageQuery, SubmittedForm};
use crate::http::console::frame::page::{Page, PageError, see_other};
use crate::http::console::frame::session::SignedIn;
use crate::http::console::frame::{access, layout, ui};
use crate::http::{State, command};
use crate::model::{Method, Os, RunnerName, Status};
use crate::store::audit::Event;
use crate::store::jobs::Job;
use crate::store::runners::Runner;

#[get("/runners/{id_or_name}")]
pub async fn page(
    SignedIn(session): SignedIn,
    named: Path<String>,
    PageQuery(fields): PageQuery,
    state: Data<State>,
) -> Result<Page, PageError> {
    let (runner, events) = state.broker.runner(&session.caller, id_or_name(&named)?).await?;
    let jobs = state.broker.jobs_of(&runner).await?;
    let content = render(&state.broker, &session, &runner, &jobs, &events, fields.has("refreshed"));
    Ok(Page(layout::page(&session, "/runners", &runner.name, content)))
}

/// Asks GitHub for the current state, and shows the page again.
#[post("/runners/{id_or_name}/refresh")]
pub async fn refresh(
    submitted: SubmittedForm,
    named: Path<String>,
    state: Data<State>,
) -> Result<HttpResponse, PageError> {
    let (runner, _) = state.broker.refresh(&submitted.session.caller, id_or_name(&named)?).await?;
    Ok(see_other(&format!("/runners/{}?refreshed", runner.id)))
}

/// Shows the token for `config.sh remove`, once.
#[post("/runners/{id_or_name}/remove-token")]
pub async fn remove_token(
    submitted: SubmittedForm,
    named: Path<String>,
    state: Data<State>,
) -> Result<HttpResponse, PageError> {
    let (runner, issued) = state.broker.remove_token(&submitted.session.caller, id_or_name(&named)?).await?;
    let content = token(&runner, &issued, state.broker.clock().now());
    Ok(Page(layout::page(&submitted.session, "/runners", "Remove token", content))
        .with_status(StatusCode::CREATED))
}

/// A text that can be neither is answered here with 404, since Postgres does not accept every text.
fn id_or_name(text: &str) -> Result<&str, broker::Error> {
    let fits = Uuid::try_parse(text).is_ok() || text.parse::<RunnerName>().is_ok();
    if fits { Ok(text) } else { Err(broker::Error::RunnerNotFound(text.to_owned())) }
}

fn render(
    broker: &Broker,
    session: &Session,
    runner: &Runner,
    jobs: &[Job],
    events: &[Event],
    refreshed: bool,
) -> Markup {
    let now = broker.clock().now();
    let may_change = access::may_change(&session.caller, runner) && runner.status.is_live();
    html! {
        div.title data-events="/events?of=runners" data-parts-from={ "/runners/" (runner.id) } {
            h1 { (runner.name) }
            div.actions {
                span.hint data-live-state hidden {}
                @if may_change { (actions(session, runner)) }
            }
        }
        @if refreshed { (ui::notice(ui::Notice::Done, html! { p { "Refreshed from GitHub." } })) }
        section.card aria-labelledby="about" {
            h2 #about { "Details" }
            div #facts data-part { (facts(broker, runner, now)) }
        }
        section.card aria-labelledby="job" {
            h2 #job { "Jobs" }
            div #jobs data-part { (jobs_taken(broker, runner, jobs, now)) }
        }
        section.card aria-labelledby="life" {
            h2 #life { "History" }
            div #events data-part {
                (timeline(events, now))
                p { a href={ "/audit?runner=" (runner.id) } { "All events of this runner in the audit log" } }
            }
        }
    }
}

fn actions(session: &Session, runner: &Runner) -> Markup {
    let act = |verb: &str, name: &str| {
        html! {
            form method="post" action={ "/runners/" (runner.id) "/" (verb) } {
                (layout::csrf(session))
                button.quiet { (name) }
            }
        }
    };
    html! {
        (act("refresh", "Refresh from GitHub"))
        @if runner.method == Method::RegistrationToken { (act("remove-token", "Get remove token")) }
        a.button.danger href={ "/runners/" (runner.id) "/remove" } { "Remove…" }
    }
}

fn facts(broker: &Broker, runner: &Runner, now: DateTime<Utc>) -> Markup {
    let target = html! { a href=(broker.url_of(&runner.target)) rel="noreferrer" { (runner.target) } };
    let on_github = html! {
        a href=(broker.settings_url_of(runner)) rel="noreferrer" {
            @match runner.github_runner_id { Some(id) => { "Runner " (id) } None => "Runners of this target" }
        }
    };
    let deadline = match runner.method {
        Method::Jit => "Must start before",
        Method::RegistrationToken => "Token expires",
    };
    let mut facts = vec![
        ("State", ui::status(runner.status, runner.busy)),
        ("Team", html! { a href={ "/teams/" (ui::segment(&runner.team)) } { (runner.team) } }),
        ("Target", target),
        ("On GitHub", on_github),
        ("Runner group", html! { (runner.runner_group_id) }),
        ("Kind", html! { (list::kind(runner)) }),
        ("Labels", ui::labels(&runner.labels)),
        (
            "Requested by",
            html! { span title={ (runner.subject) " at " (runner.issuer) } { (runner.provisioned_by) } },
        ),
        ("Created", ui::time(runner.created_at, now)),
        ("Registered", ui::maybe_time(runner.registered_at, now)),
        ("Last seen", ui::maybe_time(runner.last_seen_at, now)),
    ];
    if runner.status == Status::Pending {
        facts.push((deadline, ui::maybe_time(runner.expires_at, now)));
    }
    if runner.status == Status::Deleting && runner.wait_until_idle {
        facts
            .push(("Removal", html! { "once idle; next check " (ui::maybe_time(runner.delete_after, now)) }));
    }
    if runner.deleted_at.is_some() {
        facts.push(("Deleted", ui::maybe_time(runner.deleted_at, now)));
    }
    facts.push(("Id", html! { code { (runner.id) } }));
    html! {
        (ui::facts(facts))
        @if let Some(drifted) = &runner.drifted_labels {
            (ui::notice(ui::Notice::Warning, html! {
                p { "The labels were changed on GitHub to: " (ui::labels(drifted)) }
            }))
        }
    }
}

fn jobs_taken(broker: &Broker, runner: &Runner, jobs: &[Job], now: DateTime<Utc>) -> Markup {
    html! {
        @if jobs.is_empty() {
            p.soft {
                @if runner.busy { "Busy; no job details from GitHub yet." }
                @else { "No jobs yet." }
            }
        } @else {
            ul.plain {
                @for job in jobs {
                    li {
                        span class={ "badge " (job.conclusion.as_deref().unwrap_or(&job.state)) } {
                            (ui::words(job.conclusion.as_deref().unwrap_or(&job.state)))
                        }
                        " " a href=(broker.url_of_job(job)) rel="noreferrer" { (job.name) }
                        @if let Some(workflow) = &job.workflow { " of " (workflow) }
                        " in " a href={ "/jobs?repository=" (ui::segment(&job.repository)) } { (job.repository) }
                        @if let Some(at) = job.started_at { ", started " (ui::time(at, now)) }
                        @if let Some(at) = job.completed_at { ", completed " (ui::time(at, now)) }
                    }
                }
            }
        }
    }
}

fn token(runner: &Runner, issued: &IssuedToken, now: DateTime<Utc>) -> Markup {
    let is = |os: Os| runner.labels.iter().any(|label| label == os.as_str());
    let os = if is(Os::Windows) { Os::Windows } else { Os::Linux };
    html! {
        h1 { "Remove token for " (runner.name) }
        (ui::notice(ui::Notice::Warning, html! {
            p { "Copy the command now: its token is shown once and expires " (ui::time(issued.expires_at, now)) ". The token can "
                "remove any runner of " (runner.target) ": use it only on the machine of this runner." }
        }))
        (ui::copyable("command", &command::unregister(os, issued.token.expose_secret())))
        p { a.button.quiet href={ "/runners/" (runner.id) } { "Back to the runner" } }
    }
}
