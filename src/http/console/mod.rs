//! The console: pages for people, rendered here, that work without scripts. Each page is a handler like any other:
//! extractors, one broker call, the answer; what it shows stands below it.

mod assets;
mod form;
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
mod runner;
mod runners;
mod session;
mod timeline;
mod ui;

use actix_web::web::ServiceConfig;

pub use live::Live;

/// Every page; none is in the OpenAPI document.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(assets::asset)
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
        .service(removal::check_one);
}
