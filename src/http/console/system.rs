//! The system: whether all that the broker needs is there, and how it is configured.

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
        } @else { (in_short(&system)) }
    };
    Ok(Page(layout::page(&session, PATH, "System", content)))
}

/// A service that runs has a configuration that it can run with.
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
        (0, 0) => ui::notice(Notice::Done, html! { p { "All is well." } }),
        (0, warnings) => ui::notice(Notice::Warning, html! { p { "It works; " (warnings) " to look at." } }),
        (faults, _) => ui::notice(Notice::Fault, html! { p { (faults) " not working." } }),
    }
}

fn about(system: &System, now: DateTime<Utc>) -> Markup {
    html! {
        section.card aria-label="About" {
            (ui::facts([
                ("Version", html! { (system.version) }),
                ("This replica started", ui::time(system.started_at, now)),
                ("GitHub was asked", ui::maybe_time(system.github_asked_at, now)),
            ]))
        }
    }
}

fn checks<'a>(area: Area, checks: impl Iterator<Item = &'a Check>) -> Markup {
    html! {
        div.table {
            table {
                caption { (area.as_str()) }
                thead { tr { th scope="col" { "What" } th scope="col" { "State" } th scope="col" { "How it is" } } }
                tbody {
                    @for check in checks {
                        tr {
                            th scope="row" { (check.what) }
                            td data-name="State" { (badge(check.state)) }
                            td data-name="How it is" {
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

/// For those whom only concerns whether it works.
fn in_short(system: &System) -> Markup {
    html! {
        div.table {
            table {
                caption { "What runners depend on; administrators and auditors see more" }
                thead { tr { th scope="col" { "What" } th scope="col" { "State" } } }
                tbody {
                    @for area in areas() {
                        tr { th scope="row" { (area.as_str()) } td data-name="State" { (badge(system.worst(Some(area)))) } }
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
                caption { "Configuration of this replica. Of secrets it says only whether they are set" }
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
            Shown::Elsewhere => span.none { "see the process's environment" },
        }
    }
}
