//! The list of jobs, with the reason why a queued job matches no runner.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpResponse, get};
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::frame::filter::{Form, segment};
use super::frame::form::{Fields, PageQuery};
use super::frame::layout;
use super::frame::page::{Page, PageError};
use super::frame::session::SignedIn;
use super::frame::ui;
use crate::broker::jobs::JobPage;
use crate::broker::jobs::fit::Fit;
use crate::broker::people::sessions::Session;
use crate::http::State;
use crate::http::api::query::JobsQuery;
use crate::model::Role;
use crate::store::jobs::Job;

const PATH: &str = "/jobs";

/// The states of jobs, as the table `jobs` has them and as the page shows them.
const STATES: [(&str, &str); 4] =
    [("queued", "Queued"), ("waiting", "Waiting"), ("in_progress", "Running"), ("completed", "Completed")];

#[get("/jobs")]
pub async fn jobs(
    SignedIn(session): SignedIn,
    state: Data<State>,
    PageQuery(fields): PageQuery,
) -> Result<HttpResponse, PageError> {
    let asked = fields.parse::<JobsQuery>().and_then(JobsQuery::parse);
    let (filter, before, limit) = match asked {
        Ok(asked) => asked,
        Err(problem) => {
            let form = Form { fields: &fields, problem: Some(&problem) };
            return Ok(render(&session, form, html! {}).with_status(StatusCode::UNPROCESSABLE_ENTITY));
        }
    };
    let page = state.broker.jobs(&session.caller, &filter, before, limit).await?;
    let fits = state.broker.fits(&session.caller, &page.jobs).await?;
    let form = Form { fields: &fields, problem: None };
    let list = list(&state, &session, &fields, &page, &fits);
    Ok(render(&session, form, list).with_status(StatusCode::OK))
}

fn render(session: &Session, form: Form<'_>, list: Markup) -> Page {
    let state = form.fields.get("state");
    let content = html! {
        div.title { h1 { "Jobs" } }
        nav.actions aria-label="States" {
            a.button.quiet href=(form.fields.link(PATH, &["cursor"], ("state", "")))
                aria-current=[state.is_none().then_some("true")] { "All" }
            @for (name, shown) in STATES {
                a.button.quiet href=(form.fields.link(PATH, &["cursor"], ("state", name)))
                    aria-current=[(state == Some(name)).then_some("true")] { (shown) }
            }
        }
        (form.get(PATH, html! {
            (form.choice("state", "State", "any", STATES))
            (form.text("repository", "Repository", "owner/name"))
            (form.text("label", "Label", "gpu"))
        }))
        (list)
    };
    Page(layout::page(session, PATH, "Jobs", content))
}

fn list(state: &State, session: &Session, fields: &Fields, page: &JobPage, fits: &[Option<Fit>]) -> Markup {
    let now = state.broker.clock().now();
    let sees_all = session.caller.has(Role::Admin) || session.caller.has(Role::Auditor);
    let next = page.next.map(|id| fields.link(PATH, &[], ("cursor", &id.to_string())));
    html! {
        @if page.jobs.is_empty() { (none(session, fields)) }
        @else {
            div.table {
                table {
                    caption { "Newest first" }
                    thead { tr {
                        th scope="col" { "Job" } th scope="col" { "State" } th scope="col" { "Labels" }
                        th scope="col" { "Runner" } th scope="col" { "Queued" } th scope="col" { "Duration" }
                    } }
                    tbody data-rows {
                        @for (job, fit) in page.jobs.iter().zip(fits) {
                            (row(state, sees_all, job, fit.as_ref(), now))
                        }
                    }
                }
            }
        }
        (ui::older(next.as_deref()))
    }
}

fn none(session: &Session, fields: &Fields) -> Markup {
    let narrowed = ["state", "repository", "label"].iter().any(|name| fields.get(name).is_some());
    match (session.caller.is_stranger(), narrowed) {
        (true, _) => ui::empty(
            "You are in no team",
            html! { "Send the details on " a href="/" { "the overview" } " to an administrator." },
        ),
        (false, true) => ui::empty("No matching jobs", html! { a href=(PATH) { "Clear the filters" } }),
        (false, false) => ui::empty(
            "No jobs yet",
            html! {
                "A job appears when GitHub sends a webhook for a workflow with "
                code { "runs-on: self-hosted" } " in a repository that you may see."
            },
        ),
    }
}

fn row(state: &State, sees_all: bool, job: &Job, fit: Option<&Fit>, now: DateTime<Utc>) -> Markup {
    let ended = job.completed_at.or((job.state == "in_progress").then_some(now));
    let took = job.started_at.zip(ended).map(|(from, until)| until - from);
    html! {
        tr {
            th scope="row" {
                @match state.broker.url_of_run(&job.repository, job.run_id, Some(job.id)) {
                    Some(url) => a href=(url) rel="noreferrer" { (job.name) },
                    None => (job.name),
                }
                div.soft { (job.repository) @if let Some(workflow) = &job.workflow { " · " (workflow) } }
            }
            td data-name="State" { (badge(job)) @if let Some(fit) = fit { (misfit(fit, sees_all)) } }
            td data-name="Labels" { (ui::labels(&job.labels)) }
            td data-name="Runner" { (runner(job)) }
            td data-name="Queued" { (ui::maybe_time(job.queued_at, now)) }
            td.number data-name="Duration" {
                @if let Some(took) = took { (ui::duration(took)) }
                @else { span.none { "–" } }
            }
        }
    }
}

fn badge(job: &Job) -> Markup {
    let shown =
        STATES.iter().find(|(name, _)| *name == job.state).map_or(job.state.as_str(), |(_, shown)| shown);
    match job.conclusion.as_deref() {
        Some(end) => html! { span class={ "badge " (end) } { (ui::words(end)) } },
        None if job.state == "in_progress" => html! { span.badge.busy { (shown) } },
        None => html! { span.badge { (shown) } },
    }
}

/// The runner; only runners of teams have a page.
fn runner(job: &Job) -> Markup {
    match (&job.runner_name, &job.team) {
        (Some(name), Some(_)) => html! { a href={ "/runners/" (segment(name)) } { (name) } },
        (Some(name), None) => html! { (name) },
        (None, _) => html! { span.none { "–" } },
    }
}

/// Why no runner takes the job.
fn misfit(fit: &Fit, sees_all: bool) -> Markup {
    let runners = if sees_all { "live runner" } else { "live runner of your teams" };
    let newest = |looked: &usize| html! { "among the " (ui::number(*looked as i64)) " newest" };
    html! {
        @match fit {
            Fit::Some => {},
            Fit::NoRunners => p.hint { "no " (runners) " serves this repository" },
            Fit::Lacking { labels, looked } => p.hint {
                "no " (runners) " has "
                @for (place, label) in labels.iter().enumerate() {
                    @if place > 0 { " or " } code.label { (label) }
                }
                @if let Some(looked) = looked { " " (newest(looked)) }
            },
            Fit::NotTogether { looked } => p.hint {
                "no " (runners) " has all of these labels together"
                @if let Some(looked) = looked { " " (newest(looked)) }
            },
        }
    }
}
