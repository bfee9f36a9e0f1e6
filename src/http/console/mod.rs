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
mod overview;
mod page;
mod role_members;
mod roles;
mod security;
mod session;
mod system;
mod team_edit;
mod team_form;
mod teams;
mod ui;

use actix_web::web::ServiceConfig;

/// Every page; none is in the OpenAPI document.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(assets::asset)
        .service(overview::overview)
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
        .service(role_members::change);
}
