//! The console: pages for people, rendered here, that work without scripts. Each page is a handler like any other:
//! extractors, one broker call, the answer; what it shows stands below it.

mod assets;
mod form;
mod layout;
mod overview;
mod page;
mod return_to;
mod session;
mod sign_in;
mod ui;

use actix_web::web::ServiceConfig;

/// Every page; none is in the OpenAPI document.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(assets::asset)
        .service(overview::overview)
        .service(sign_in::choose)
        .service(sign_in::begin)
        .service(sign_in::finish)
        .service(sign_in::sign_out);
}
