//! The overview: runners, provisions, security events and teams, for everything or for the teams of the visitor. The
//! parts that change while the page is open are sent again by [`live`](super::live).

use actix_web::get;
use actix_web::web::Data;
use chrono::{DateTime, SecondsFormat, Utc};
use maud::{Markup, html};

use super::frame::page::{Page, PageError};
use super::frame::session::SignedIn;
use super::frame::{assets, layout, ui};
use crate::broker::numbers::Outcomes;
use crate::broker::numbers::live::{Pulse, Share};
use crate::broker::people::caller::Caller;
use crate::broker::sweep::status::SyncStatus;
use crate::github::BudgetStatus;
use crate::http::State;
use crate::model::Role;

#[get("/")]
pub async fn overview(SignedIn(session): SignedIn, state: Data<State>) -> Result<Page, PageError> {
    let pulse = state.broker.pulse().await?;
    let caller = &session.caller;
    let content = html! {
        link rel="stylesheet" href=(assets::url("uPlot.min.css"));
        div.title {
            h1 { "Overview" }
            div.actions {
                span.hint data-live-state hidden {}
                @if caller.teams().next().is_some() { a.button href="/runners/new" { "New runner" } }
            }
        }
        div data-events="/events?of=overview" { (parts(caller, &pulse, state.broker.clock().now())) }
    };
    Ok(Page(layout::page(&session, "/", "Overview", content)))
}

/// All parts that change; the script replaces them by id.
pub fn parts(caller: &Caller, pulse: &Pulse, now: DateTime<Utc>) -> Markup {
    let share = Share::of(caller);
    let reads_all = matches!(share, Share::All);
    html! {
        section aria-labelledby="runners-now" {
            h2 #runners-now { @if reads_all { "Runners" } @else { "Runners of your teams" } }
            ul.tiles #tiles data-part { (tiles(&pulse.runners(&share))) }
        }
        (provisions(&pulse.provisions(&share), reads_all))
        div.cards {
            section.card {
                h2 { "Security events, last 24 hours" }
                div #security data-part { (security(pulse, &share, reads_all)) }
            }
            @if !caller.memberships.teams.is_empty() {
                section.card {
                    h2 { "Your teams" }
                    div #teams data-part { (teams(caller, pulse)) }
                }
            }
            @if reads_all {
                section.card {
                    h2 { "GitHub rate limit" }
                    div #github data-part { (github(&pulse.slow.stats.github, now)) }
                }
                section.card {
                    h2 { "Sweep" }
                    div #sweep data-part { (sweep(&pulse.slow.sync, now)) }
                }
            }
        }
        @if caller.has(Role::Auditor) && !caller.has(Role::Admin) {
            p.hint { "You are an auditor: you can see everything, but change nothing outside your own teams." }
        }
    }
}

fn tiles(runners: &[(crate::model::Status, i64)]) -> Markup {
    let live: i64 = runners.iter().map(|(_, count)| count).sum();
    html! {
        li { div.tile { strong { (ui::number(live)) } span { "live" } } }
        @for (status, count) in runners {
            li {
                a.tile href={ "/runners?status=" (status) } {
                    strong { (ui::number(*count)) }
                    span { (status) }
                }
            }
        }
    }
}

/// The numbers as a chart, where scripts run, and as a table.
fn provisions(hours: &[(DateTime<Utc>, Outcomes)], reads_all: bool) -> Markup {
    let sum = |of: fn(&Outcomes) -> i64| ui::number(hours.iter().map(|(_, outcomes)| of(outcomes)).sum());
    html! {
        section.card {
            h2 { "Provisions, last 24 hours" }
            p #provisions-summary data-part {
                strong { (sum(|of| of.provisioned)) } " provisioned, "
                strong { (sum(|of| of.refused)) } " refused, "
                strong { (sum(|of| of.failed)) } " failed"
                @if !reads_all { " in your teams" } "."
            }
            div.chart data-chart="provisions" role="img" aria-label="Provisions per hour; the table below has the same numbers" hidden {}
            p.hint.legend data-chart-legend hidden {}
            details {
                summary { "Table" }
                div.table {
                    table #provisions {
                        caption { "Hours by their start (UTC), newest first" }
                        thead {
                            tr {
                                th scope="col" { "Hour" }
                                th.number scope="col" data-colour="good" { "Provisioned" }
                                th.number scope="col" data-colour="warn" { "Refused" }
                                th.number scope="col" data-colour="bad" { "Failed" }
                            }
                        }
                        tbody #provisions-hours data-part { @for (hour, of) in hours.iter().rev() { (row(*hour, of)) } }
                    }
                }
            }
        }
    }
}

fn row(hour: DateTime<Utc>, of: &Outcomes) -> Markup {
    html! {
        tr {
            th scope="row" data-at=(hour.timestamp()) {
                time datetime=(hour.to_rfc3339_opts(SecondsFormat::Secs, true)) { (hour.format("%d %b, %H:%M")) }
            }
            td.number data-name="Provisioned" { (of.provisioned) }
            td.number data-name="Refused" { (of.refused) }
            td.number data-name="Failed" { (of.failed) }
        }
    }
}

fn security(pulse: &Pulse, share: &Share, reads_all: bool) -> Markup {
    let counts = pulse.security(share);
    html! {
        @if counts.is_empty() {
            p.soft { "None." }
        } @else {
            ul.plain {
                @for (kind, count, more) in &counts {
                    li {
                        (ui::severity(kind.severity().as_str())) " "
                        @let words = ui::event_type(kind.as_str());
                        @if reads_all { a href={ "/security?type=" (kind) } { (words) } } @else { (words) }
                        ": " (ui::number(*count)) @if *more { " or more" }
                    }
                }
            }
        }
        p { @if reads_all { a href="/security" { "All security events" } } @else { a href="/audit?success=false" { "Refused and failed requests" } } }
    }
}

fn teams(caller: &Caller, pulse: &Pulse) -> Markup {
    html! {
        ul.plain {
            @for membership in &caller.memberships.teams {
                @let (name, live) = (membership.team.name(), pulse.runners_of(membership.team.name()));
                li {
                    a href={ "/teams/" (ui::segment(name)) } { (name) } ": " (ui::number(live))
                    @match membership.team.max_runners() {
                        Some(most) => {
                            " of " (ui::number(most)) " runners "
                            meter min="0" max=(most.max(1)) value=(live) aria-label={ "Runners of " (name) } {}
                        }
                        None => " runners",
                    }
                }
            }
        }
    }
}

fn github(budgets: &[BudgetStatus], now: DateTime<Utc>) -> Markup {
    html! {
        @if budgets.is_empty() {
            p.soft { "No requests to GitHub yet, so its rate limit is unknown." }
        } @else {
            ul.plain {
                @for budget in budgets {
                    li {
                        code { (budget.resource) } @if budget.installation == "app" { " (App)" } @else { " (installation " (budget.installation) ")" }
                        ": " strong { (ui::number(count(budget.remaining))) } " of " (ui::number(count(budget.limit))) " calls left"
                        @if budget.resets_at > now { ", resets " (ui::time(budget.resets_at, now)) }
                        " " meter min="0" max=(budget.limit.max(1)) value=(budget.remaining) low=(budget.limit / 4)
                            aria-label={ "Calls left of " (budget.resource) } {}
                        @if let Some(until) = budget.paused_until.filter(|until| *until > now) {
                            " " span.badge.warning { "paused" } " until " (ui::time(until, now))
                        }
                    }
                }
            }
        }
        p.hint { "As seen by this replica." }
    }
}

fn count(of: u64) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

fn sweep(sync: &SyncStatus, now: DateTime<Utc>) -> Markup {
    let leader = sync.lease.as_ref().filter(|lease| lease.stands);
    let newest = sync.targets.iter().filter_map(|target| target.completed_at).max();
    let waiting = [
        (sync.backlog.interrupted, "interrupted provision"),
        (sync.backlog.deleting, "removal in progress"),
        (sync.backlog.unstarted, "missed start deadline"),
    ];
    html! {
        ul.plain {
            li {
                @match leader {
                    Some(lease) => { span.badge.ok { "leader" } " replica " code { (lease.holder) } }
                    None => { span.badge.fault { "no leader" } " No replica is sweeping." }
                }
            }
            li { "Last complete sweep: " (ui::maybe_time(newest, now)) ", " (ui::counted(sync.targets.len() as i64, "target")) }
            @if !sync.unswept.is_empty() {
                li {
                    span.badge.fault { "overdue" } " "
                    @for target in sync.unswept.iter().take(10) { code.label { (target) } " " }
                    @if sync.unswept.len() > 10 { "and " (sync.unswept.len() - 10) " more" }
                }
            }
            @for (number, what) in waiting { @if number > 0 { li { (ui::counted(number, what)) } } }
        }
        p { a href="/system" { "System status" } }
    }
}
