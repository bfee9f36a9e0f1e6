//! The list of teams, and the page of one team: its permissions, members and latest events.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, get};
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use crate::broker::Error;
use crate::broker::audit::list::EventPage;
use crate::broker::people::own_teams::TeamUse;
use crate::broker::people::sessions::Session;
use crate::broker::policy::teams::{Team, TeamPage};
use crate::broker::security::{SecurityPage, Wanted};
use crate::http::State;
use crate::http::api::admin::teams::TeamQuery;
use crate::http::console::audit;
use crate::http::console::frame::filter::{Form, segment};
use crate::http::console::frame::form::{Fields, PageQuery};
use crate::http::console::frame::page::{Page, PageError};
use crate::http::console::frame::session::SignedIn;
use crate::http::console::frame::ui::{self, Notice};
use crate::http::console::frame::{access, layout};
use crate::http::console::security;
use crate::policy::{Member, is_team_name};
use crate::store::audit::Filter;

pub const PATH: &str = "/teams";

/// How many events the page of a team shows.
const EVENTS_SHOWN: i64 = 10;

#[get("/teams")]
pub async fn list(
    SignedIn(session): SignedIn,
    state: Data<State>,
    PageQuery(fields): PageQuery,
) -> Result<HttpResponse, PageError> {
    if !access::sees_all(&session) {
        let used = state.broker.teams_of(&session.caller).await?;
        return Ok(render(&state, &session, own(&used)).with_status(StatusCode::OK));
    }
    let asked = fields.parse::<TeamQuery>().and_then(TeamQuery::parse);
    let (filter, after, limit) = match asked {
        Ok(asked) => asked,
        Err(problem) => {
            let form = filters(Form { fields: &fields, problem: Some(&problem) });
            return Ok(render(&state, &session, form).with_status(StatusCode::UNPROCESSABLE_ENTITY));
        }
    };
    let page = state.broker.team_list(&filter, after.as_deref(), limit).await?;
    let content = html! { (filters(Form { fields: &fields, problem: None })) (all(&fields, &page)) };
    Ok(render(&state, &session, content).with_status(StatusCode::OK))
}

fn render(state: &State, session: &Session, content: Markup) -> Page {
    let content = html! {
        div.title {
            h1 { "Teams" }
            @if access::sees_all(session) {
                span.actions {
                    @if may_edit(state, session) { a.button href="/new-team" { "New team" } }
                    a.button.quiet href="/roles" { "Administrators and auditors" }
                    a.button.quiet href="/denials" { "Deny rules" }
                }
            }
        }
        @if access::sees_all(session) { (managed_by_file(state)) }
        (content)
    };
    Page(layout::page(session, PATH, "Teams", content))
}

/// Whether to show the buttons that edit; the broker checks again.
pub fn may_edit(state: &State, session: &Session) -> bool {
    access::is_admin(session) && !state.broker.policy_is_managed_by_file()
}

/// The notice that the policy is read-only, if a file manages it.
pub fn managed_by_file(state: &State) -> Markup {
    html! {
        @if state.broker.policy_is_managed_by_file() {
            (ui::notice(Notice::Warning, html! {
                p { "The policy is managed by " code { "POLICY_FILE" } " and is read-only here." }
            }))
        }
    }
}

fn filters(form: Form<'_>) -> Markup {
    form.get(
        PATH,
        html! {
            (form.text("q", "Name or description", ""))
            (form.choice("active", "State", "any", [("true", "active"), ("false", "deactivated")]))
        },
    )
}

fn all(fields: &Fields, page: &TeamPage) -> Markup {
    let next = page.next.as_ref().map(|name| fields.link(PATH, &[], ("cursor", name)));
    html! {
        @if page.teams.is_empty() {
            (ui::empty("No matching teams", html! { a href=(PATH) { "Clear the filters" } }))
        } @else {
            div.table {
                table {
                    caption { "Teams by name" }
                    thead { tr {
                        th scope="col" { "Team" } th scope="col" { "State" } th scope="col" { "Methods" }
                        th scope="col" { "Members" } th scope="col" { "Runners" }
                    } }
                    tbody data-rows {
                        @for team in &page.teams {
                            tr {
                                th scope="row" { (audit::list::team_link(&team.entry.name)) div.soft { (team.entry.description) } }
                                td data-name="State" { (state_of(team)) }
                                td data-name="Methods" {
                                    @for method in &team.entry.methods { span.badge { (method) } " " }
                                }
                                td data-name="Members" { (ui::counted(team.entry.member.len() as i64, "rule")) }
                                td data-name="Runners" { (used(team.live_runners, team.entry.max_runners)) }
                            }
                        }
                    }
                }
            }
        }
        (ui::older(next.as_deref()))
    }
}

/// The teams of a caller who does not see all.
fn own(teams: &[TeamUse]) -> Markup {
    html! {
        @if teams.is_empty() {
            (ui::empty("You are in no team", html! {
                "Send the details on " a href="/" { "the overview" } " to an administrator."
            }))
        } @else {
            div.table {
                table {
                    caption { "Your teams" }
                    thead { tr { th scope="col" { "Team" } th scope="col" { "Methods" } th scope="col" { "Runners" } } }
                    tbody {
                        @for of in teams {
                            tr {
                                th scope="row" { (audit::list::team_link(of.team.name())) div.soft { (of.team.description()) } }
                                td data-name="Methods" { @for method in of.team.methods() { span.badge { (method) } " " } }
                                td data-name="Runners" { (used(of.live_runners, of.team.max_runners())) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn state_of(team: &Team) -> Markup {
    match team.active {
        true => html! { span.badge.ok { "active" } },
        false => html! { span.badge.failed { "deactivated" } },
    }
}

/// The live runners and the limit.
fn used(live: i64, most: Option<i64>) -> Markup {
    html! {
        (ui::number(live))
        @if let Some(most) = most {
            " of " (ui::number(most)) " "
            meter min="0" max=(most.max(1)) value=(live.min(most)) aria-label="Live runners of the limit" {}
        } @else { span.soft { ", no limit" } }
    }
}

#[get("/teams/{name}")]
pub async fn show(
    SignedIn(session): SignedIn,
    name: Path<String>,
    state: Data<State>,
) -> Result<Page, PageError> {
    let team = visible_team(&state, &session, &name).await?;
    let caller = &session.caller;
    let of_team = Some(team.entry.name.clone());
    let filter = Filter { team: of_team.clone(), ..Filter::default() };
    let events = state.broker.events(caller, &filter, None, EVENTS_SHOWN).await?;
    let wanted = Wanted { team: of_team, ..Wanted::default() };
    let security = match access::sees_all(&session) {
        true => Some(state.broker.security_events(wanted, None, EVENTS_SHOWN).await?),
        false => None,
    };
    let now = state.broker.clock().now();
    let content = html! {
        p { a href=(PATH) { "Teams" } }
        (heading(&state, &session, &team))
        (about(&session, &team, now))
        (latest(&team, &events, security.as_ref(), now))
    };
    Ok(Page(layout::page(&session, PATH, &team.entry.name, content)))
}

/// The team, if this visitor may see it: one of their own, or any for administrators and auditors.
pub async fn visible_team(state: &State, session: &Session, name: &str) -> Result<Team, Error> {
    let is_own = session.caller.membership(Some(name)).is_some();
    match is_team_name(name) && (is_own || access::sees_all(session)) {
        true => state.broker.team(name).await,
        false => Err(Error::TeamNotFound(name.to_owned())),
    }
}

fn heading(state: &State, session: &Session, team: &Team) -> Markup {
    let path = format!("{PATH}/{}", segment(&team.entry.name));
    html! {
        div.title {
            h1 { (team.entry.name) " " (state_of(team)) }
            @if may_edit(state, session) {
                span.actions {
                    @if team.active {
                        a.button href={ (path) "/edit" } { "Edit" }
                        a.button.danger href={ (path) "/deactivate" } { "Deactivate…" }
                    } @else { a.button href={ (path) "/reactivate" } { "Reactivate…" } }
                }
            }
        }
        @if access::sees_all(session) { (managed_by_file(state)) }
        @if !team.entry.description.is_empty() { p { (team.entry.description) } }
    }
}

fn about(session: &Session, team: &Team, now: DateTime<Utc>) -> Markup {
    let entry = &team.entry;
    let texts = |all: &[String], none: &str| {
        html! {
            @if all.is_empty() { span.none { (none) } } @else { (ui::labels(all)) }
        }
    };
    let or_default = |all: Option<Vec<String>>| match all {
        None => html! { span.soft { "default" } },
        Some(all) => texts(&all, "none"),
    };
    let groups = entry.runner_groups.as_ref().map(|all| all.iter().map(ToString::to_string).collect());
    let rate = entry.requests_per_minute.map_or("no limit".to_owned(), ui::number);
    let methods: Vec<String> = entry.methods.iter().map(ToString::to_string).collect();
    html! {
        section.card aria-labelledby="permissions" {
            h2 #permissions { "Permissions" }
            (ui::facts([
                ("Runners", used(team.live_runners, entry.max_runners)),
                ("Provisions per minute", html! { (rate) }),
                ("Methods", texts(&methods, "none")),
                ("Allowed labels (patterns)", texts(&entry.allowed_labels, "none")),
                ("Required labels (on every runner)", texts(&entry.required_labels, "none")),
                ("Targets", or_default(entry.targets.clone())),
                ("Runner groups", or_default(groups)),
                ("Last change", ui::time(team.updated_at, now)),
            ]))
        }
        section.card aria-labelledby="members" {
            h2 #members { "Members" }
            @if access::sees_all(session) { (members(&entry.member)) }
            @else if let Some(membership) = session.caller.membership(Some(&entry.name)) {
                p { "You are a member by rule " code { (membership.rule) } "." }
            }
        }
    }
}

/// The rules that make callers members.
pub fn members(all: &[Member]) -> Markup {
    html! {
        @if all.is_empty() { p.none { "No members." } }
        @else {
            ul {
                @for member in all {
                    li {
                        "Tokens from " code { (member.issuer) } " with "
                        @for (place, (claim, pattern)) in member.claims.iter().enumerate() {
                            @if place > 0 { " and " }
                            code.label { (claim) } " = " code.label { (pattern) }
                        }
                    }
                }
            }
        }
    }
}

fn latest(team: &Team, events: &EventPage, security: Option<&SecurityPage>, now: DateTime<Utc>) -> Markup {
    let query = serde_urlencoded::to_string([("team", &team.entry.name)]).unwrap_or_default();
    html! {
        @if let Some(security) = security.filter(|page| !page.events.is_empty()) {
            section aria-labelledby="security" {
                h2 #security { a href={ "/security?" (query) } { "Latest security events" } }
                (security::table(&security.events, now))
            }
        }
        section aria-labelledby="events" {
            h2 #events { a href={ "/audit?" (query) } { "Latest events" } }
            @if events.events.is_empty() { p.none { "No events yet." } }
            @else {
                div.table { table {
                    caption { "Newest first" }
                    thead { tr {
                        th scope="col" { "Event" } th scope="col" { "When" } th scope="col" { "Who" }
                        th scope="col" { "Team" } th scope="col" { "Runner" } th scope="col" { "Result" }
                    } }
                    tbody { @for event in &events.events { (audit::list::row(event, now)) } }
                } }
            }
        }
    }
}
