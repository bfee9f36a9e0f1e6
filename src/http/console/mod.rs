//! The console: pages for people, rendered here, that work without scripts. Each page is a handler like any other:
//! extractors, one broker call, the answer; what it shows stands below it.

pub mod audit;
pub mod frame;
mod jobs;
mod overview;
pub mod people;
pub mod runners;
mod security;
mod system;
pub mod teams;

use actix_web::web::ServiceConfig;

pub use frame::live::Live;

/// Every page; none is in the OpenAPI document.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(frame::assets::asset)
        .service(jobs::jobs)
        .service(audit::list::audit)
        // Before the event, whose id it is not.
        .service(audit::export::export)
        .service(audit::event::event)
        .service(audit::event::event_proof)
        .service(security::security)
        .service(people::identities::identities)
        .service(people::identities::ask)
        .service(people::identities::act)
        .service(system::show)
        .service(teams::list::list)
        .service(teams::list::show)
        .service(teams::edit::ask_new)
        .service(teams::edit::create)
        .service(teams::edit::ask)
        .service(teams::edit::change)
        .service(teams::edit::ask_state)
        .service(teams::edit::change_state)
        .service(people::roles::show)
        .service(people::roles::change)
        .service(frame::live::events)
        .service(overview::overview)
        .service(runners::list::list)
        .service(runners::list::rows)
        .service(runners::removal::check)
        .service(runners::removal::remove)
        // Before a runner that may be called so: links to runners are by their ids.
        .service(runners::new_runner::form)
        .service(runners::new_runner::check)
        .service(runners::new_runner::make)
        .service(runners::page::page)
        .service(runners::page::refresh)
        .service(runners::page::remove_token)
        .service(runners::removal::check_one)
        .service(people::sign_in::choose)
        .service(people::sign_in::begin)
        .service(people::sign_in::finish)
        .service(people::sign_in::sign_out);
}
