//! The HTTP server: binds, serves, and stops without breaking off requests.

use std::future::ready;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{Extensions, HttpService, Request};
use actix_server::GracefulShutdownSignal;
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::App;
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::web::{Bytes, Data};
use rustix::net::sockopt;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use utoipa_actix_web::AppExt;

use super::{observe, openapi};
use crate::auth::Verifier;
use crate::auth::login::Logins;
use crate::broker::Broker;
use crate::config;
use crate::http::connections::limits::Limits;
use crate::http::connections::stream::Counted;
use crate::http::connections::{Connection, Connections};
use crate::http::streams::Streams;
use crate::http::{State, console, routes};

/// How long a caller may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// After an answer to a body that nobody reads: a connection that were closed at once would take the answer with it.
const LINGER: Duration = Duration::from_secs(1);

/// What the kernel may hold of a connection in each direction, in bytes.
const KERNEL_BUFFER: usize = 128 * 1024;

/// Connections that nobody has accepted yet.
const BACKLOG: i32 = 1024;

/// How long the TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that listens already, and serves while it is awaited; dropped, it stops at once. It handles no signals.
pub struct Server {
    /// The address that it listens on.
    pub address: SocketAddr,
    inner: actix_web::dev::Server,
    /// Ends the event streams, which otherwise last as long as their readers stay.
    closing: CancellationToken,
    _tending: AbortOnDropHandle<()>,
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
    let limits = Limits::of_this_process();
    tracing::info!(
        of_strangers = limits.strangers.connections,
        of_one_address = limits.strangers.connections_of_one,
        of_callers = limits.callers.connections,
        memory_mib = limits.memory / (1024 * 1024),
        open_files = limits.open_files,
        "the most connections at once, by the memory and the open files of this process"
    );
    let connections = Connections::new(limits, config.trusted_proxies.clone());
    let app = {
        let connections = connections.clone();
        move || {
            // Each thread of the server does this once.
            if let Err(err) = state.broker.add_thread_connections() {
                tracing::warn!(error = %err, "this thread uses the shared database connections");
            }
            let (app, _) = App::new()
                .into_utoipa_app()
                .app_data(state.clone())
                .app_data(known.clone())
                .app_data(Data::from(connections.clone()))
                .configure(routes)
                .default_service(actix_web::web::to(openapi::unknown))
                .split_for_parts();
            app.configure(openapi::pages(document.clone()))
                .configure(console::routes)
                .wrap(from_fn(observe::observe))
        }
    };
    let host_and_port = (config.host.as_str(), config.port);
    let refused =
        |err: std::io::Error| format!("cannot listen on {}:{}: {err}", host_and_port.0, host_and_port.1);
    let listener = TcpListener::bind(host_and_port).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    limit_kernel_buffers(&listener).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let builder =
        actix_server::Server::build().disable_signals().shutdown_timeout(shutdown_timeout.as_secs());
    let draining = builder.graceful_shutdown_signal();
    let server = match tls {
        None => builder.listen("http", listener, {
            let (connections, draining) = (connections.clone(), draining.clone());
            move || {
                let connections = connections.clone();
                fn_service(move |stream: TcpStream| ready(counted(stream, &connections, false)))
                    .and_then(protocol(app(), draining.clone(), Counted::connection))
            }
        }),
        Some(tls) => builder.listen("https", listener, {
            let (connections, draining) = (connections.clone(), draining.clone());
            let acceptor = TlsAcceptor::from(Arc::new(tls));
            move || {
                let (connections, acceptor) = (connections.clone(), acceptor.clone());
                fn_service(move |stream: TcpStream| {
                    shake_hands(counted(stream, &connections, true), acceptor.clone())
                })
                .and_then(protocol(
                    app(),
                    draining.clone(),
                    |stream: &TlsStream<Counted>| stream.get_ref().0.connection(),
                ))
            }
        }),
    };
    let tending = tokio::spawn(tend(connections, closing.clone()));
    Ok(Server {
        address,
        inner: server.map_err(refused)?.run(),
        closing,
        _tending: AbortOnDropHandle::new(tending),
    })
}

/// What the kernel holds of a connection is memory of this process too, where a control group limits that; connections
/// inherit it. And those that arrive while all threads are busy wait their turn.
fn limit_kernel_buffers(listener: &TcpListener) -> io::Result<()> {
    sockopt::set_socket_recv_buffer_size(listener, KERNEL_BUFFER)?;
    sockopt::set_socket_send_buffer_size(listener, KERNEL_BUFFER)?;
    Ok(rustix::net::listen(listener, BACKLOG)?)
}

/// The stream of a new connection, counted from its first byte.
fn counted(
    stream: TcpStream,
    connections: &Arc<Connections>,
    is_tls: bool,
) -> Result<(Counted, Option<SocketAddr>), DispatchError> {
    let peer = stream.peer_addr().map_err(DispatchError::Io)?;
    // A refused connection is closed: to answer it would cost more than it costs whoever opened it.
    let refused = || DispatchError::Io(io::ErrorKind::ConnectionRefused.into());
    Ok((Counted::new(stream, peer.ip(), connections.clone(), is_tls).ok_or_else(refused)?, Some(peer)))
}

async fn shake_hands(
    counted: Result<(Counted, Option<SocketAddr>), DispatchError>,
    acceptor: TlsAcceptor,
) -> Result<(TlsStream<Counted>, Option<SocketAddr>), DispatchError> {
    let (stream, peer) = counted?;
    let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let stream = accepted.map_err(|_| DispatchError::Io(io::ErrorKind::TimedOut.into()))?;
    Ok((stream.map_err(DispatchError::Io)?, peer))
}

/// HTTP/1.1 on a stream, with its [`Connection`] at hand for each request.
fn protocol<T, A, S, B>(
    app: A,
    draining: GracefulShutdownSignal,
    connection: fn(&T) -> Arc<Connection>,
) -> impl ServiceFactory<(T, Option<SocketAddr>), Config = (), Response = (), Error = DispatchError, InitError = ()>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    A: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse<B>, Error = actix_web::Error>
        + 'static,
    S::InitError: std::fmt::Debug,
    B: MessageBody + 'static,
{
    let app = app.into_factory().map_err(|err: actix_web::Error| err.error_response());
    HttpService::build()
        .graceful_shutdown_signal(move || {
            let draining = draining.clone();
            async move { draining.notified().await }
        })
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(LINGER)
        .on_connect_ext(move |stream: &T, data: &mut Extensions| {
            data.insert(connection(stream));
        })
        .h1(map_config(app, |()| AppConfig::default()))
}

/// Ends what takes too long.
async fn tend(connections: Arc<Connections>, closing: CancellationToken) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    while closing.run_until_cancelled(every.tick()).await.is_some() {
        connections.tend();
    }
}
