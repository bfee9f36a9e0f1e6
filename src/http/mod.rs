//! HTTP in, HTTP out. The only user of actix; knows no SQL and no GitHub.

pub mod api;
mod body;
mod caller;
mod command;
mod connections;
mod console;
mod idempotency;
mod if_match;
mod problem;
pub mod server;
mod streams;
mod webhook;

use std::sync::Arc;

use actix_web::middleware::from_fn;
use ipnet::IpNet;
use url::Url;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::auth::Verifier;
use crate::auth::login::Logins;
use crate::broker::Broker;

use streams::Streams;

pub use api::audit::Event;
pub use api::query::time;
pub use api::views::Runner;
pub use server::listen::{Server, listen};
pub use server::openapi::openapi;
pub use server::tls::Certificate;

/// What reads text that strangers write; public for the fuzz targets in `fuzz/` alone.
pub mod inputs {
    pub use super::api::admin::identities::IdentityQuery;
    pub use super::api::admin::security::{SecurityQuery, to_cursor};
    pub use super::api::admin::teams::TeamQuery;
    pub use super::api::query::{AuditQuery, JobsQuery, ListQuery};
    pub use super::api::request::JitRequest;
    pub use super::caller::{address, bearer};
    pub use super::idempotency::IdempotencyKey;
    pub use super::if_match::{Seen, etag};
}

/// What handlers work with.
pub struct State {
    /// The use cases.
    pub broker: Arc<Broker>,
    /// Verifies the tokens of the API's callers.
    pub verifier: Verifier,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The providers at which people sign in to the console.
    pub logins: Logins,
    /// The address at which browsers reach the console.
    pub public_url: Url,
    /// Whether `public_url` is https: then browsers send our cookies over TLS only.
    pub secure_cookies: bool,
    /// The open event streams of the console.
    streams: Streams,
}

/// All routes of the API, for the server and the OpenAPI document.
fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(server::health::overall)
        .service(server::health::live)
        .service(server::health::ready)
        .service(server::health::metrics)
        // Before the scope, which would demand a bearer token from GitHub.
        .service(webhook::github)
        .service(webhook::at_the_root)
        .service(
            utoipa_actix_web::scope("/api/v1")
                .wrap(from_fn(caller::authenticate))
                .service(api::runners::provision)
                .service(api::runners::provision_jit)
                .service(api::runners::create)
                .service(api::runners::list)
                .service(api::runners::get)
                .service(api::runners::refresh)
                .service(api::runners::remove_token)
                .service(api::runners::remove)
                .service(api::audit::list)
                .service(api::jobs::list)
                .service(api::audit_proofs::checkpoint)
                .service(api::audit_proofs::consistency)
                .service(api::audit_proofs::event)
                .service(api::me::me)
                .service(api::me::my_label_policy)
                .service(api::me::explain)
                .service(api::admin::sweep::status)
                .service(api::admin::identities::list)
                .service(api::admin::identities::deactivate)
                .service(api::admin::identities::activate)
                .service(api::admin::security::list)
                .service(api::admin::teams::list)
                .service(api::admin::teams::create)
                .service(api::admin::teams::get)
                .service(api::admin::teams::change)
                .service(api::admin::teams::deactivate)
                .service(api::admin::teams::reactivate)
                .service(api::admin::team_log::audit)
                .service(api::admin::team_log::security_events)
                .service(api::admin::members::list)
                .service(api::admin::members::add)
                .service(api::admin::members::remove)
                .service(api::admin::roles::admins)
                .service(api::admin::roles::add_admin)
                .service(api::admin::roles::remove_admin)
                .service(api::admin::roles::auditors)
                .service(api::admin::roles::add_auditor)
                .service(api::admin::roles::remove_auditor)
                .service(api::admin::denials::list)
                .service(api::admin::denials::add)
                .service(api::admin::denials::remove)
                .service(api::admin::batch::delete_runners)
                .service(api::admin::batch::deactivate_identities)
                .service(api::admin::batch::deactivate_teams)
                .service(api::admin::stats::get)
                .default_service(actix_web::web::to(server::openapi::unknown)),
        );
}
