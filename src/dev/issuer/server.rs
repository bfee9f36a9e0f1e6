//! What the development issuer answers over HTTP, and how it fails when told to.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::header::{DATE, HeaderValue, LOCATION};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpMessage, HttpRequest, HttpResponse, HttpServer};
use chrono::TimeDelta;
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{AUTHORIZE, DISCOVERY, Issuer, KEYS, TOKEN, USERINFO, people};

/// How a path fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Status(u16),
    Slow(Duration),
    /// No answer until the fault is taken away.
    Hang,
    /// 200 with this instead of the document.
    Body(String),
    /// 200 with a body that never ends.
    Endless,
    /// 302 to there.
    Redirect(String),
}

/// The server in its thread; stops when dropped.
pub struct Server {
    handle: ServerHandle,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // The command is sent by the call; the future would only wait for it.
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves `issuer` on `listener` in a thread of its own.
pub fn start(issuer: Arc<Issuer>, listener: TcpListener) -> io::Result<Server> {
    let (started, handle) = mpsc::channel();
    let thread = std::thread::Builder::new().name("dev-issuer".into()).spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let issuer = Data::from(issuer);
            let server =
                HttpServer::new(move || App::new().app_data(issuer.clone()).default_service(web::to(answer)));
            let server = server.workers(1).disable_signals().listen(listener)?.run();
            let _ = started.send(server.handle());
            server.await
        })
    })?;
    match handle.recv() {
        Ok(handle) => Ok(Server { handle, thread: Some(thread) }),
        Err(_) => {
            Err(thread.join().ok().and_then(Result::err).unwrap_or_else(|| io::Error::other("no server")))
        }
    }
}

async fn answer(request: HttpRequest, body: Bytes, issuer: Data<Issuer>) -> HttpResponse {
    let mut answer = document(request, body, &issuer).await;
    let now = issuer.clock.now() + TimeDelta::seconds(issuer.state.borrow().ahead);
    if let Ok(date) = HeaderValue::try_from(now.format("%a, %d %b %Y %H:%M:%S GMT").to_string()) {
        answer.headers_mut().insert(DATE, date);
    }
    answer
}

async fn document(request: HttpRequest, body: Bytes, issuer: &Issuer) -> HttpResponse {
    let path = request.path();
    issuer.state.send_modify(|state| *state.calls.entry(path.into()).or_default() += 1);
    let fault = issuer.state.borrow().faults.get(path).cloned();
    match fault {
        None => {}
        Some(Fault::Slow(delay)) => actix_web::rt::time::sleep(delay).await,
        Some(Fault::Hang) => {
            let mut changes = issuer.state.subscribe();
            let _ = changes.wait_for(|state| state.faults.get(path) != Some(&Fault::Hang)).await;
        }
        Some(Fault::Status(code)) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return HttpResponse::build(status).body("told to fail");
        }
        Some(Fault::Body(body)) => return HttpResponse::Ok().content_type("application/json").body(body),
        Some(Fault::Endless) => {
            let spaces = Bytes::from(vec![b' '; 16 * 1024]);
            return HttpResponse::Ok()
                .streaming(stream::repeat_with(move || Ok::<_, Infallible>(spaces.clone())));
        }
        Some(Fault::Redirect(to)) => return HttpResponse::Found().insert_header((LOCATION, to)).finish(),
    }
    match (path, request.method() == Method::POST) {
        (DISCOVERY, _) => HttpResponse::Ok().json(issuer.discovery()),
        (KEYS, _) => HttpResponse::Ok().json(issuer.keys()),
        (AUTHORIZE, false) => people::choose(issuer, request.query_string()),
        (AUTHORIZE, true) => people::chosen(issuer, &body),
        (USERINFO, _) => people::userinfo(issuer, &request),
        (TOKEN, true) if people::is_exchange(&body) => people::exchange(issuer, &request, &body),
        (TOKEN, true) => token(issuer, &request, &body),
        _ => HttpResponse::NotFound().finish(),
    }
}

#[derive(Deserialize)]
struct Ask {
    sub: Option<String>,
    audience: Option<String>,
    /// An object; as text in a form.
    claims: Option<Value>,
}

/// Signs whatever is asked for: a toy for development, the opposite of an identity provider.
fn token(issuer: &Issuer, request: &HttpRequest, body: &[u8]) -> HttpResponse {
    let ask: Option<Ask> = match request.content_type() {
        "application/json" => serde_json::from_slice(body).ok(),
        _ => serde_urlencoded::from_bytes(body).ok(),
    };
    let Some(ask) = ask else {
        return HttpResponse::BadRequest().json(json!({ "error": "invalid_request",
            "error_description": "sub, audience, claims, as JSON or as a form" }));
    };
    let claims = match ask.claims {
        None => json!({}),
        Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or(Value::Null),
        Some(claims) => claims,
    };
    let Value::Object(claims) = claims else {
        return HttpResponse::BadRequest().json(json!({ "error": "invalid_request",
            "error_description": "claims is a JSON object" }));
    };
    let named = [("sub", ask.sub), ("aud", ask.audience)];
    let token = claims.into_iter().fold(issuer.token(), |token, (name, value)| token.claim(&name, value));
    let token = named.into_iter().fold(token, |token, (name, value)| match value {
        Some(value) => token.claim(name, value),
        None => token,
    });
    HttpResponse::Ok().json(json!({ "access_token": token.mint(), "token_type": "Bearer" }))
}
