//! The way in and out: one handler for every path, and what a fault does to the connection itself.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::body::SizedStream;
use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, AUTHORIZATION, HOST, HeaderMap, IF_NONE_MATCH, USER_AGENT};
use actix_web::rt::{System, time::sleep};
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use chrono::TimeDelta;
use futures_util::stream;

use super::answer::{Answer, Request};
use super::fault::{Action, Canned};
use super::state::State;
use super::{access, api, control, hooks, limits};
use crate::clock::Clock;

/// How long the first half of a truncated answer has to leave before the connection closes.
const FLUSH: Duration = Duration::from_millis(20);
/// How often a call that hangs looks whether its caller is still there.
const GLANCE: Duration = Duration::from_millis(20);

/// What the server and its owner share.
pub(super) struct Shared {
    state: Mutex<State>,
    clock: Clock,
    /// Microseconds that every call takes.
    pub latency: AtomicU64,
}

impl Shared {
    pub fn new(state: State, latency: Duration) -> Shared {
        let clock = state.clock.clone();
        Shared { state: Mutex::new(state), clock, latency: AtomicU64::new(latency.as_micros() as u64) }
    }

    /// A clock that runs so far ahead of the one that this GitHub was started with, as that stands now.
    pub fn clock_ahead(&self, ahead: TimeDelta) -> Clock {
        let clock = Clock::default();
        clock.advance(self.clock.now() - clock.now() + ahead);
        clock
    }

    /// A panic under the lock is a failed test; it need not fail the others too.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running server; stops when dropped.
pub(super) struct Server {
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `listener` from threads of its own.
    pub fn start(listener: TcpListener, shared: Arc<Shared>, workers: usize) -> std::io::Result<Server> {
        let (sender, receiver) = mpsc::channel();
        let shared = Data::from(shared);
        let thread = std::thread::Builder::new().name("dev-github".into()).spawn(move || {
            // Its own System: it lives next to others, and next to none, in one process.
            System::new().block_on(async move {
                let (outbox, mut deliveries) = tokio::sync::mpsc::unbounded_channel();
                shared.state().hooks.outbox = Some(outbox);
                let sender_of_hooks: Data<Shared> = shared.clone();
                actix_web::rt::spawn(async move {
                    // Made only when there is something to send: it loads the machine's certificates.
                    let mut client = None;
                    while let Some(out) = deliveries.recv().await {
                        let client = client.get_or_insert_with(reqwest::Client::new).clone();
                        let shared = sender_of_hooks.clone();
                        // Not one after the other: GitHub's deliveries overtake each other.
                        actix_web::rt::spawn(async move {
                            let status = hooks::send(&client, &out).await;
                            let mut state = shared.state();
                            let sent = state.hooks.deliveries.iter_mut();
                            sent.filter(|sent| sent.id == out.delivery.id)
                                .for_each(|sent| sent.status_code = status);
                        });
                    }
                });
                let server = HttpServer::new(move || {
                    App::new()
                        .app_data(shared.clone())
                        .app_data(web::PayloadConfig::new(8 << 20))
                        .default_service(web::to(serve))
                })
                .workers(workers)
                .disable_signals()
                .shutdown_timeout(0)
                .keep_alive(Duration::from_secs(75))
                .on_connect(|connection, data| {
                    data.insert(Connection::of(connection));
                })
                .listen(listener);
                let _ = match server {
                    Ok(server) => {
                        let server = server.run();
                        let _ = sender.send(Ok(server.handle()));
                        server.await
                    }
                    Err(err) => {
                        let _ = sender.send(Err(err));
                        Ok(())
                    }
                };
            });
        })?;
        let handle = receiver.recv().map_err(std::io::Error::other)??;
        Ok(Server { handle, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The order is given when `stop` is called; its future only waits for the end.
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A second handle on the caller's connection: actix owns the first and will not close it half-way.
struct Connection(Option<TcpStream>);

impl Connection {
    fn of(connection: &dyn std::any::Any) -> Connection {
        let stream = connection.downcast_ref::<actix_web::rt::net::TcpStream>();
        let stream = stream.and_then(|stream| stream.as_fd().try_clone_to_owned().ok()).map(TcpStream::from);
        if let Some(stream) = &stream {
            let _ = stream.set_nodelay(true);
        }
        Connection(stream)
    }

    /// Whether the caller still waits. Actix does not tell a handler.
    fn is_open(req: &HttpRequest) -> bool {
        match req.conn_data::<Connection>() {
            // Not blocking, as the first handle is not: no byte there is an error, the end is a zero.
            Some(Connection(Some(stream))) => stream
                .peek(&mut [0; 1])
                .map_or_else(|err| err.kind() == std::io::ErrorKind::WouldBlock, |bytes| bytes > 0),
            _ => false,
        }
    }

    /// Closes it at once, whatever actix still means to write.
    fn close(req: &HttpRequest) -> HttpResponse {
        if let Some(Connection(Some(stream))) = req.conn_data::<Connection>() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Nobody reads this any more: it ends actix' part of the connection.
        HttpResponse::InternalServerError().force_close().finish()
    }
}

/// A call as it is kept while it waits: `Request` borrows from it.
#[derive(Clone)]
struct Held {
    method: String,
    path: String,
    query: String,
    base: String,
    bearer: Option<String>,
    if_none_match: Option<String>,
    has_user_agent: bool,
    wants_json: bool,
    traceparent: Option<String>,
    body: Bytes,
}

impl Held {
    fn new(req: &HttpRequest, body: Bytes) -> Held {
        let headers = req.headers();
        let (prefix, path) = match req.path().strip_prefix("/api/v3") {
            Some(path) if path.starts_with('/') => ("/api/v3", path),
            _ => ("", req.path()),
        };
        let bearer = text(headers, AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            let known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token");
            known.then(|| token.trim().to_owned())
        });
        Held {
            method: req.method().as_str().to_owned(),
            path: path.to_owned(),
            query: req.query_string().to_owned(),
            base: format!("http://{}{prefix}", text(headers, HOST).unwrap_or("localhost")),
            bearer,
            if_none_match: text(headers, IF_NONE_MATCH).map(str::to_owned),
            has_user_agent: headers.contains_key(USER_AGENT),
            wants_json: text(headers, ACCEPT).is_some_and(|accept| accept.contains("application/json")),
            traceparent: text(headers, "traceparent").map(str::to_owned),
            body,
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            bearer: self.bearer.as_deref(),
            if_none_match: self.if_none_match.as_deref(),
            has_user_agent: self.has_user_agent,
            wants_json: self.wants_json,
            body: &self.body,
            base: &self.base,
        }
    }

    fn path_and_query(&self) -> String {
        match self.query.is_empty() {
            true => self.path.clone(),
            false => format!("{}?{}", self.path, self.query),
        }
    }

    fn act(&self, shared: &Shared) -> Answer {
        api::answer(&mut shared.state(), &self.request())
    }
}

fn text(headers: &HeaderMap, name: impl actix_web::http::header::AsHeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// One of the calls that an installation has under way.
struct Flight {
    shared: Data<Shared>,
    who: u64,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.shared.state().meter.leave(self.who);
    }
}

async fn serve(req: HttpRequest, body: Bytes, shared: Data<Shared>) -> HttpResponse {
    let call = Held::new(&req, body);
    if call.path == "/_dev" || call.path.starts_with("/_dev/") {
        let answer = control::answer(&mut shared.state(), &call.request());
        return send(answer, &shared);
    }
    let (number, fault, who) = {
        let mut state = shared.state();
        let path = call.path_and_query();
        let fault = state.faults.take(&call.method, &path);
        let number = state.arrived(
            &call.method,
            path,
            api::resource(&call.method, &call.path),
            call.traceparent.clone(),
        );
        let who = api::who(&state, call.bearer.as_deref());
        state.meter.enter(who);
        (number, fault, who)
    };
    let _flight = Flight { shared: shared.clone(), who };
    let latency = shared.latency.load(Ordering::Relaxed);
    if latency > 0 {
        sleep(Duration::from_micros(latency)).await;
    }
    match outcome(&req, &call, fault, who, &shared).await {
        Outcome::Whole(answer) => {
            shared.state().answered(number, answer.status);
            send(answer, &shared)
        }
        Outcome::Half(answer) => {
            shared.state().answered(number, answer.status);
            send_half(answer)
        }
        Outcome::Nothing => Connection::close(&req),
    }
}

enum Outcome {
    Whole(Answer),
    Half(Answer),
    Nothing,
}

async fn outcome(
    req: &HttpRequest,
    call: &Held,
    fault: Option<Action>,
    who: u64,
    shared: &Data<Shared>,
) -> Outcome {
    let resource = api::resource(&call.method, &call.path);
    Outcome::Whole(match fault {
        None => call.act(shared),
        Some(Action::Respond(answer)) => canned(answer),
        Some(Action::ActThenRespond(answer)) => {
            call.act(shared);
            canned(answer)
        }
        Some(Action::RespondThenAct { answer, millis }) => {
            let (shared, late) = (shared.clone(), call.clone());
            actix_web::rt::spawn(async move {
                sleep(Duration::from_millis(millis)).await;
                late.act(&shared);
            });
            canned(answer)
        }
        Some(Action::Drop) => return Outcome::Nothing,
        Some(Action::ActThenDrop) => {
            call.act(shared);
            return Outcome::Nothing;
        }
        Some(Action::Truncate) => return Outcome::Half(call.act(shared)),
        Some(Action::Html { status }) => Answer::html(status),
        Some(Action::Delay { millis }) => {
            sleep(Duration::from_millis(millis)).await;
            call.act(shared)
        }
        Some(Action::ActThenDelay { millis }) => {
            let answer = call.act(shared);
            sleep(Duration::from_millis(millis)).await;
            answer
        }
        Some(Action::Hang) => {
            while Connection::is_open(req) {
                sleep(GLANCE).await;
            }
            return Outcome::Nothing;
        }
        Some(Action::RefuseFreshToken { status, uses }) => {
            let answer = call.act(shared);
            let made: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let made = made["token"].as_str().unwrap_or_default();
            if let Some(token) = shared.state().tokens.get_mut(made) {
                token.refusals = (uses, status);
            }
            answer
        }
        Some(Action::RateLimited { reset_seconds }) => {
            let reset = shared.state().clock.now() + TimeDelta::seconds(reset_seconds);
            limits::rate_limited(who, resource, reset)
        }
        Some(Action::SecondaryLimit { retry_after_seconds }) => limits::secondary(403, retry_after_seconds),
        Some(Action::PermissionMissing) => {
            let (permission, level) = access::needed(&call.method, &call.path);
            access::missing(permission, level)
        }
    })
}

fn canned(answer: Canned) -> Answer {
    let made = match answer.body.is_empty() {
        true => Answer::error(answer.status, "Made to fail"),
        false => Answer { status: answer.status, headers: Vec::new(), body: answer.body.into() },
    };
    answer.headers.into_iter().fold(made, |made, (name, value)| made.with(&name, value))
}

fn head(answer: &Answer) -> actix_web::HttpResponseBuilder {
    let mut head = HttpResponse::build(StatusCode::from_u16(answer.status).unwrap_or_default());
    for (name, value) in &answer.headers {
        head.insert_header((name.as_str(), value.as_str()));
    }
    head.insert_header(("x-github-media-type", "github.v3; format=json"));
    head.insert_header(("x-github-request-id", format!("{:032X}", rand::random::<u128>())));
    head
}

fn send(answer: Answer, shared: &Shared) -> HttpResponse {
    // By our clock, so that a test can put GitHub's apart from the broker's.
    let date = shared.state().clock.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    head(&answer).insert_header(("date", date)).body(answer.body)
}

fn send_half(answer: Answer) -> HttpResponse {
    let mut half = Bytes::from(answer.body.clone());
    let whole = half.len() as u64;
    half.truncate(answer.body.len() / 2);
    let parts = stream::unfold(Some(half), |part| async move {
        match part {
            Some(half) => Some((Ok(half), None)),
            None => {
                // Actix writes only while the body is pending: an error at once would swallow the half.
                sleep(FLUSH).await;
                Some((Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)), None))
            }
        }
    });
    head(&answer).body(SizedStream::new(whole, Box::pin(parts)))
}
