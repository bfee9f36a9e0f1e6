//! The system page: the checks of everything that the broker needs, and its configuration.

use actix_web::get;
use actix_web::web::Data;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::frame::page::{Page, PageError};
use super::frame::session::SignedIn;
use super::frame::ui::{self, Notice};
use super::frame::{access, layout};
use crate::broker::checks::{Area, Check, Health, System};
use crate::config::{Setting, Shown};
use crate::http::State;

const PATH: &str = "/system";

#[get("/system")]
pub async fn show(SignedIn(session): SignedIn, state: Data<State>) -> Result<Page, PageError> {
    let system = state.broker.system(&state.verifier.issuers()).await;
    let now = state.broker.clock().now();
    let content = html! {
        div.title { h1 { "System" } (badge(system.worst(None))) }
        (overall(&system))
        (about(&system, now))
        @if access::sees_all(&session) {
            @for area in areas() { (checks(area, system.of(area))) }
            (settings(state.broker.settings()))
        } @else { (summary(&system)) }
    };
    Ok(Page(layout::page(&session, PATH, "System", content)))
}

/// All areas but the configuration, which is valid in a service that has started.
fn areas() -> impl Iterator<Item = Area> {
    Area::ALL.into_iter().filter(|area| *area != Area::Configuration)
}

fn badge(state: Health) -> Markup {
    html! { span class={ "badge " (state.as_str()) } { (state.as_str()) } }
}

fn overall(system: &System) -> Markup {
    let count = |state| system.checks.iter().filter(|check| check.state == state).count();
    let (faults, warnings) = (count(Health::Fault), count(Health::Warning));
    match (faults, warnings) {
        (0, 0) => ui::notice(Notice::Done, html! { p { "Everything works." } }),
        (0, warnings) => ui::notice(
            Notice::Warning,
            html! { p { "Working, " (ui::counted(warnings as i64, "warning")) "." } },
        ),
        (faults, _) => ui::notice(Notice::Fault, html! { p { (ui::counted(faults as i64, "fault")) "." } }),
    }
}

fn about(system: &System, now: DateTime<Utc>) -> Markup {
    html! {
        section.card aria-label="About" {
            (ui::facts([
                ("Version", html! { (system.version) }),
                ("Replica started", ui::time(system.started_at, now)),
                ("Last check of GitHub", ui::maybe_time(system.github_asked_at, now)),
            ]))
        }
    }
}

fn checks<'a>(area: Area, checks: impl Iterator<Item = &'a Check>) -> Markup {
    html! {
        div.table {
            table {
                caption { (area.as_str()) }
                thead { tr { th scope="col" { "Check" } th scope="col" { "Status" } th scope="col" { "Details" } } }
                tbody {
                    @for check in checks {
                        tr {
                            th scope="row" { (check.what) }
                            td data-name="Status" { (badge(check.state)) }
                            td data-name="Details" {
                                (check.detail)
                                @if let Some(advice) = &check.advice { div { strong { "→ " } (advice) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The summary for callers without a role.
fn summary(system: &System) -> Markup {
    html! {
        div.table {
            table {
                caption { "Summary; administrators and auditors see details" }
                thead { tr { th scope="col" { "Area" } th scope="col" { "Status" } } }
                tbody {
                    @for area in areas() {
                        tr { th scope="row" { (area.as_str()) } td data-name="Status" { (badge(system.worst(Some(area)))) } }
                    }
                }
            }
        }
    }
}

fn settings(settings: &[Setting]) -> Markup {
    html! {
        div.table {
            table {
                caption { "Configuration of this replica (for secrets only whether they are set)" }
                thead { tr { th scope="col" { "Variable" } th scope="col" { "Value" } th scope="col" { "Meaning" } } }
                tbody {
                    @for setting in settings {
                        tr {
                            th scope="row" { code { (setting.name) } }
                            td data-name="Value" { (shown(&setting.shown)) }
                            td data-name="Meaning" { (setting.meaning) }
                        }
                    }
                }
            }
        }
    }
}

fn shown(of: &Shown) -> Markup {
    html! {
        @match of {
            Shown::Value(value) => code { (value) },
            Shown::Set => span.badge { "set" },
            Shown::NotSet => span.none { "not set" },
            Shown::Elsewhere => span.none { "see the environment of the process" },
        }
    }
}
