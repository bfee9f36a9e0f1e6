//! The console: pages for people, rendered on the server, that work without scripts. Each page is a handler (extractors,
//! one broker call, the answer) with its markup below it.
//!
//! Pages are rendered whole by the server and work without scripts; scripts only add. A page is a handler like any
//! other: the API's query types parse its address, one call of the broker answers, and the page refuses whatever the
//! API refuses. Buttons that the visitor may not use are left out; the server refuses them anyway.
//!
//! Parts that change by themselves are elements with `data-part` and an id. What a page asks for by itself
//! (`Accept: text/event-stream`, or the header `X-By-Itself`) does not keep a session alive.
//!
//! Vendored: uPlot 1.6.32 (MIT) in `frame/assets/vendor`. The chart draws the numbers of the table beneath it.

pub mod audit;
pub mod frame;
mod jobs;
mod live;
mod overview;
pub mod people;
pub mod runners;
mod security;
mod system;
pub mod teams;

use actix_web::web::ServiceConfig;

/// Every page; none is in the OpenAPI document.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(frame::assets::asset)
        .service(jobs::jobs)
        .service(audit::list::audit)
        // Before the event: "export" is not an id.
        .service(audit::export::export)
        .service(audit::event::event)
        .service(audit::event::event_proof)
        .service(security::security)
        .service(people::identities::identities)
        .service(people::identities::confirm)
        .service(people::identities::change)
        .service(system::show)
        .service(teams::list::list)
        .service(teams::list::show)
        .service(teams::edit::show_new)
        .service(teams::edit::create)
        .service(teams::edit::show_edit)
        .service(teams::edit::save)
        .service(teams::edit::confirm_state)
        .service(teams::edit::change_state)
        .service(people::roles::show)
        .service(people::roles::change)
        .service(people::denials::show)
        .service(people::denials::change)
        .service(live::events)
        .service(overview::overview)
        .service(runners::list::list)
        .service(runners::list::rows)
        .service(runners::removal::check)
        .service(runners::removal::remove)
        // Before a runner that may be named "new": links to runners use ids.
        .service(runners::new_runner::form)
        .service(runners::new_runner::check)
        .service(runners::new_runner::create)
        .service(runners::page::page)
        .service(runners::page::refresh)
        .service(runners::page::remove_token)
        .service(runners::removal::check_one)
        .service(people::sign_in::choose)
        .service(people::sign_in::begin)
        .service(people::sign_in::finish)
        .service(people::sign_in::sign_out);
}
