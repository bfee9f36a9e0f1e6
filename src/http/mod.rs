//! HTTP in, HTTP out. The only user of actix; knows no SQL and no GitHub.

pub mod api;
mod body;
mod caller;
mod command;
mod console;
mod idempotency;
mod if_match;
mod problem;
pub mod server;
mod webhook;

use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::web::{Bytes, Data};
use actix_web::{App, HttpServer};
use ipnet::IpNet;
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use url::Url;
use utoipa_actix_web::AppExt;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::auth::Verifier;
use crate::auth::login::Logins;
use crate::broker::Broker;
use crate::config;

pub use api::audit::Event;
pub use api::query::time;
pub use api::views::Runner;
pub use server::openapi::openapi;
pub use server::tls::Certificate;

/// What reads text that strangers write; public for the fuzz targets in `fuzz/` alone.
pub mod inputs {
    pub use super::api::admin::identities::IdentityQuery;
    pub use super::api::admin::security::{SecurityQuery, to_cursor};
    pub use super::api::admin::teams::TeamQuery;
    pub use super::api::query::{AuditQuery, JobsQuery, ListQuery};
    pub use super::caller::{address, bearer};
    pub use super::idempotency::IdempotencyKey;
    pub use super::if_match::{Seen, etag};
}

/// What handlers work with.
pub struct State {
    pub broker: Arc<Broker>,
    pub verifier: Verifier,
    pub trusted_proxies: Vec<IpNet>,
    /// Where people sign in.
    pub logins: Logins,
    /// How people reach us.
    pub public_url: Url,
    /// They do so by TLS: cookies go no other way.
    pub secure_cookies: bool,
    /// Who looks on.
    live: console::Live,
}

/// How long a slow caller may take to send his request's head.
const SLOWEST_HEAD: Duration = Duration::from_secs(10);

/// Listens already, and serves while it is awaited; dropped, it stops at once. Signals are the caller's.
pub struct Server {
    pub address: SocketAddr,
    inner: actix_web::dev::Server,
    /// Ends what would go on as long as its reader likes.
    closing: CancellationToken,
}

impl Server {
    /// Serves until `stop`, then finishes what has begun.
    pub async fn until(self, stop: CancellationToken) -> std::io::Result<()> {
        let handle = self.inner.handle();
        let mut serving = pin!(self.inner);
        tokio::select! {
            done = &mut serving => return done,
            () = stop.cancelled() => tracing::info!("stopping: finishing what has begun"),
        }
        self.closing.cancel();
        let ((), done) = tokio::join!(handle.stop(true), serving);
        done
    }
}

impl Future for Server {
    type Output = std::io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

/// Binds and builds the server; without `tls` it speaks plain HTTP.
pub fn listen(
    config: &config::Http,
    tls: Option<ServerConfig>,
    broker: Arc<Broker>,
    verifier: Verifier,
    logins: Logins,
) -> Result<Server, String> {
    let patience = broker.longest() + Duration::from_secs(5);
    let trusted_proxies = config.trusted_proxies.clone();
    let closing = CancellationToken::new();
    let state = Data::new(State {
        broker,
        verifier,
        trusted_proxies,
        logins,
        public_url: config.public_url.clone(),
        secure_cookies: config.public_url.scheme() == "https",
        live: console::Live::until(closing.clone()),
    });
    let (known, document) = {
        let api = openapi();
        // As text it takes a tenth of what it takes as values.
        (Data::new(server::openapi::Known::of(&api)), api.to_json().map_err(|err| err.to_string())?)
    };
    let document = Bytes::from(document);
    let server = HttpServer::new(move || {
        // Each of the server's threads does this once.
        if let Err(err) = state.broker.store().add_thread_pool() {
            tracing::warn!(error = %err, "a thread goes on with the shared connections");
        }
        let (app, _) = App::new()
            .into_utoipa_app()
            .app_data(state.clone())
            .app_data(known.clone())
            .configure(routes)
            .default_service(actix_web::web::to(server::openapi::unknown))
            .split_for_parts();
        app.configure(server::openapi::pages(document.clone()))
            .configure(console::routes)
            .wrap(from_fn(server::observe::observe))
    })
    .disable_signals()
    .client_request_timeout(SLOWEST_HEAD)
    .shutdown_timeout(patience.as_secs());
    let place = (config.host.as_str(), config.port);
    let refused = |err: std::io::Error| format!("cannot listen on {}:{}: {err}", place.0, place.1);
    let listener = TcpListener::bind(place).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let server = match tls {
        None => server.listen(listener),
        Some(tls) => server.listen_rustls_0_23(listener, tls),
    };
    Ok(Server { address, inner: server.map_err(refused)?.run(), closing })
}

/// Every route, for the server, the tests and the OpenAPI document alike.
fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(server::health::overall)
        .service(server::health::live)
        .service(server::health::ready)
        .service(server::health::metrics)
        // Before the scope, which would ask GitHub for a token.
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
                .service(api::admin::batch::delete_runners)
                .service(api::admin::batch::deactivate_identities)
                .service(api::admin::batch::deactivate_teams)
                .service(api::admin::stats::get)
                .default_service(actix_web::web::to(server::openapi::unknown)),
        );
}
