//! Teams: what each may do and how much of it is used.

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
use crate::http::console::frame::form::{Asked, Fields};
use crate::http::console::frame::page::{Page, PageError};
use crate::http::console::frame::session::SignedIn;
use crate::http::console::frame::ui::{self, Notice};
use crate::http::console::frame::{access, layout};
use crate::http::console::security;
use crate::policy::{Member, is_team_name};
use crate::store::audit::Filter;

pub const PATH: &str = "/teams";

/// How many events of a team its page shows.
const SHOWN: i64 = 10;

#[get("/teams")]
pub async fn list(
    SignedIn(session): SignedIn,
    state: Data<State>,
    Asked(fields): Asked,
) -> Result<HttpResponse, PageError> {
    if !access::sees_all(&session) {
        let used = state.broker.teams_of(&session.caller).await?;
        return Ok(whole(&state, &session, own(&used)).with_status(StatusCode::OK));
    }
    let asked = fields.parse::<TeamQuery>().and_then(TeamQuery::parse);
    let (filter, after, limit) = match asked {
        Ok(asked) => asked,
        Err(problem) => {
            let form = filters(Form { fields: &fields, problem: Some(&problem) });
            return Ok(whole(&state, &session, form).with_status(StatusCode::UNPROCESSABLE_ENTITY));
        }
    };
    let page = state.broker.team_list(&filter, after.as_deref(), limit).await?;
    let content = html! { (filters(Form { fields: &fields, problem: None })) (all(&fields, &page)) };
    Ok(whole(&state, &session, content).with_status(StatusCode::OK))
}

fn whole(state: &State, session: &Session, content: Markup) -> Page {
    let content = html! {
        div.title {
            h1 { "Teams" }
            @if access::sees_all(session) {
                span.actions {
                    @if may_edit(state, session) { a.button href="/new-team" { "New team" } }
                    a.button.quiet href="/roles" { "Administrators and auditors" }
                }
            }
        }
        @if access::sees_all(session) { (managed(state)) }
        (content)
    };
    Page(layout::page(session, PATH, "Teams", content))
}

/// Whether there are buttons; the server refuses anyway.
pub fn may_edit(state: &State, session: &Session) -> bool {
    access::is_admin(session) && !state.broker.policy_is_managed_by_file()
}

/// Why nothing can be changed here, where that is so for everybody.
pub fn managed(state: &State) -> Markup {
    html! {
        @if state.broker.policy_is_managed_by_file() {
            (ui::notice(Notice::Warning, html! {
                p { "The policy is a file's (" code { "POLICY_FILE" } "): change it there. Here it is shown only." }
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
            (ui::empty("No team fits", html! { a href=(PATH) { "Show all teams" } }))
        } @else {
            div.table {
                table {
                    caption { "By name" }
                    thead { tr {
                        th scope="col" { "Team" } th scope="col" { "State" } th scope="col" { "Methods" }
                        th scope="col" { "Who is in" } th scope="col" { "Runners" }
                    } }
                    tbody data-rows {
                        @for team in &page.teams {
                            tr {
                                th scope="row" { (audit::list::team_link(&team.entry.name)) div.soft { (team.entry.description) } }
                                td data-name="State" { (state_of(team)) }
                                td data-name="Methods" {
                                    @for method in &team.entry.methods { span.badge { (method) } " " }
                                }
                                td data-name="Who is in" { (team.entry.member.len()) " rules" }
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

/// A member's own teams.
fn own(teams: &[TeamUse]) -> Markup {
    html! {
        @if teams.is_empty() {
            (ui::empty("You are in no team", html! {
                a href="/" { "The overview" } " says what to ask an administrator for, with the claims to quote."
            }))
        } @else {
            div.table {
                table {
                    caption { "The teams that you are in" }
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

/// How much of the quota is used.
fn used(live: i64, most: Option<i64>) -> Markup {
    html! {
        (ui::number(live))
        @if let Some(most) = most {
            " of " (ui::number(most)) " "
            meter min="0" max=(most.max(1)) value=(live.min(most)) aria-label="used of the quota" {}
        } @else { span.soft { ", no limit" } }
    }
}

#[get("/teams/{name}")]
pub async fn show(
    SignedIn(session): SignedIn,
    name: Path<String>,
    state: Data<State>,
) -> Result<Page, PageError> {
    let team = seen(&state, &session, &name).await?;
    let caller = &session.caller;
    let of_team = Some(team.entry.name.clone());
    let filter = Filter { team: of_team.clone(), ..Filter::default() };
    let events = state.broker.events(caller, &filter, None, SHOWN).await?;
    let wanted = Wanted { team: of_team, ..Wanted::default() };
    let security = match access::sees_all(&session) {
        true => Some(state.broker.security_events(wanted, None, SHOWN).await?),
        false => None,
    };
    let now = state.broker.clock().now();
    let content = html! {
        p { a href=(PATH) { "Teams" } }
        (head(&state, &session, &team))
        (about(&session, &team, now))
        (latest(&team, &events, security.as_ref(), now))
    };
    Ok(Page(layout::page(&session, PATH, &team.entry.name, content)))
}

/// The team, if this visitor may see it: his own, or any for those who see all.
pub async fn seen(state: &State, session: &Session, name: &str) -> Result<Team, Error> {
    let is_his = session.caller.membership(Some(name)).is_some();
    match is_team_name(name) && (is_his || access::sees_all(session)) {
        true => state.broker.team(name).await,
        false => Err(Error::TeamNotFound(name.to_owned())),
    }
}

fn head(state: &State, session: &Session, team: &Team) -> Markup {
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
        @if access::sees_all(session) { (managed(state)) }
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
        None => html! { span.soft { "the default" } },
        Some(all) => texts(&all, "none"),
    };
    let groups = entry.runner_groups.as_ref().map(|all| all.iter().map(ToString::to_string).collect());
    let rate = entry.requests_per_minute.map_or("no limit".to_owned(), ui::number);
    let methods: Vec<String> = entry.methods.iter().map(ToString::to_string).collect();
    html! {
        section.card aria-labelledby="may" {
            h2 #may { "What it may" }
            (ui::facts([
                ("Runners", used(team.live_runners, entry.max_runners)),
                ("Provisions a minute", html! { (rate) }),
                ("Methods", texts(&methods, "none")),
                ("Labels that it may ask for (patterns)", texts(&entry.allowed_labels, "none")),
                ("Labels that every runner gets", texts(&entry.required_labels, "none")),
                ("Targets", or_default(entry.targets.clone())),
                ("Runner groups", or_default(groups)),
                ("Changed", ui::time(team.updated_at, now)),
            ]))
        }
        section.card aria-labelledby="in" {
            h2 #in { "Who is in" }
            @if access::sees_all(session) { (members(&entry.member)) }
            @else if let Some(membership) = session.caller.membership(Some(&entry.name)) {
                p { "You are, by the policy's rule " code { (membership.rule) } "." }
            }
        }
    }
}

/// Rules that let callers in.
pub fn members(all: &[Member]) -> Markup {
    html! {
        @if all.is_empty() { p.none { "Nobody." } }
        @else {
            ul {
                @for member in all {
                    li {
                        "tokens of " code { (member.issuer) } " with "
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
            @if events.events.is_empty() { p.none { "None yet." } }
            @else {
                div.table { table {
                    caption { "Newest first" }
                    thead { tr {
                        th scope="col" { "Event" } th scope="col" { "When" } th scope="col" { "Who" }
                        th scope="col" { "Team" } th scope="col" { "Runner" } th scope="col" { "What came of it" }
                    } }
                    tbody { @for event in &events.events { (audit::list::row(event, now)) } }
                } }
            }
        }
    }
}
