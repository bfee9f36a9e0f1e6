//! The HTTP server: binds, serves, and stops without breaking off requests.

use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::web::{Bytes, Data};
use actix_web::{App, HttpServer};
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use utoipa_actix_web::AppExt;

use super::{observe, openapi};
use crate::auth::Verifier;
use crate::auth::login::Logins;
use crate::broker::Broker;
use crate::config;
use crate::http::streams::Streams;
use crate::http::{State, console, routes};

/// How long a caller may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that listens already, and serves while it is awaited; dropped, it stops at once. It handles no signals.
pub struct Server {
    /// The address that it listens on.
    pub address: SocketAddr,
    inner: actix_web::dev::Server,
    /// Ends the event streams, which otherwise last as long as their readers stay.
    closing: CancellationToken,
}

impl Server {
    /// Serves until `stop`, then finishes the requests in flight.
    pub async fn until(self, stop: CancellationToken) -> std::io::Result<()> {
        let handle = self.inner.handle();
        let mut serving = pin!(self.inner);
        tokio::select! {
            done = &mut serving => return done,
            () = stop.cancelled() => tracing::info!("stopping: finishing the requests in flight"),
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
    let shutdown_timeout = broker.longest() + Duration::from_secs(5);
    let trusted_proxies = config.trusted_proxies.clone();
    let closing = CancellationToken::new();
    let state = Data::new(State {
        broker,
        verifier,
        trusted_proxies,
        logins,
        public_url: config.public_url.clone(),
        secure_cookies: config.public_url.scheme() == "https",
        streams: Streams::until(closing.clone()),
    });
    let (known, document) = {
        let api = openapi::openapi();
        // The text takes a tenth of the memory of the values.
        (Data::new(openapi::Known::of(&api)), api.to_json().map_err(|err| err.to_string())?)
    };
    let document = Bytes::from(document);
    let server = HttpServer::new(move || {
        // Each thread of the server does this once.
        if let Err(err) = state.broker.add_thread_connections() {
            tracing::warn!(error = %err, "this thread uses the shared database connections");
        }
        let (app, _) = App::new()
            .into_utoipa_app()
            .app_data(state.clone())
            .app_data(known.clone())
            .configure(routes)
            .default_service(actix_web::web::to(openapi::unknown))
            .split_for_parts();
        app.configure(openapi::pages(document.clone()))
            .configure(console::routes)
            .wrap(from_fn(observe::observe))
    })
    .disable_signals()
    .client_request_timeout(HEAD_TIMEOUT)
    .shutdown_timeout(shutdown_timeout.as_secs());
    let host_and_port = (config.host.as_str(), config.port);
    let refused =
        |err: std::io::Error| format!("cannot listen on {}:{}: {err}", host_and_port.0, host_and_port.1);
    let listener = TcpListener::bind(host_and_port).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let server = match tls {
        None => server.listen(listener),
        Some(tls) => server.listen_rustls_0_23(listener, tls),
    };
    Ok(Server { address, inner: server.map_err(refused)?.run(), closing })
}
