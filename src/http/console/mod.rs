//! The console: pages for people, rendered here, that work without scripts. Each page is a handler like any other:
//! extractors, one broker call, the answer; what it shows stands below it.

mod assets;
mod audit;
mod audit_event;
mod audit_export;
mod filter;
mod form;
mod identities;
mod jobs;
mod layout;
mod live;
mod new_runner;
mod new_runner_form;
mod new_runner_ready;
mod no_team;
mod overview;
mod page;
mod recipes;
mod removal;
mod return_to;
mod role_members;
mod roles;
mod runner;
mod runners;
mod security;
mod session;
mod sign_in;
mod system;
mod team_edit;
mod team_form;
mod teams;
mod timeline;
mod ui;

use actix_web::web::ServiceConfig;

pub use live::Live;

/// Every page; none is in the OpenAPI document.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(assets::asset)
        .service(jobs::jobs)
        .service(audit::audit)
        // Before the event, whose id it is not.
        .service(audit_export::export)
        .service(audit_event::event)
        .service(audit_event::event_proof)
        .service(security::security)
        .service(identities::identities)
        .service(identities::ask)
        .service(identities::act)
        .service(system::show)
        .service(teams::list)
        .service(teams::show)
        .service(team_edit::ask_new)
        .service(team_edit::create)
        .service(team_edit::ask)
        .service(team_edit::change)
        .service(team_edit::ask_state)
        .service(team_edit::change_state)
        .service(role_members::show)
        .service(role_members::change)
        .service(live::events)
        .service(overview::overview)
        .service(runners::list)
        .service(runners::rows)
        .service(removal::check)
        .service(removal::remove)
        // Before a runner that may be called so: links to runners are by their ids.
        .service(new_runner::form)
        .service(new_runner::check)
        .service(new_runner::make)
        .service(runner::page)
        .service(runner::refresh)
        .service(runner::remove_token)
        .service(removal::check_one)
        .service(sign_in::choose)
        .service(sign_in::begin)
        .service(sign_in::finish)
        .service(sign_in::sign_out);
}
