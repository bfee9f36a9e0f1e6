//! One exchange with GitHub through octocrab: a request out, a whole answer in. Knows no rule of repeating,
//! but does know whether a request can have reached GitHub when no answer came.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, IF_NONE_MATCH, USER_AGENT,
};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use octocrab::{AuthState, OctoBody, Octocrab, OctocrabBuilder};
use rustls_platform_verifier::BuilderVerifierExt;
use url::Url;

use super::answer::Answer;
use super::deadline::Deadline;
use super::error::Error;
use crate::model::with_causes;
use crate::telemetry::traces;

const LARGEST_BODY: usize = 16 * 1024 * 1024;
/// Shorter than the minute after which servers and middleboxes close an idle connection.
const IDLE: Duration = Duration::from_secs(50);

/// The connections to one GitHub.
pub(super) struct Transport {
    octocrab: Octocrab,
    /// Without a slash at its end; `/api/v3` stays.
    base: String,
}

/// What is sent.
pub(super) struct Outgoing<'a> {
    /// GET, POST or DELETE.
    pub method: Method,
    /// Below the API's URL, with its query.
    pub path: &'a str,
    /// JSON.
    pub body: Option<&'a [u8]>,
    /// For `If-None-Match`.
    pub etag: Option<&'a str>,
}

/// No whole answer came. `sent`: the request may have reached GitHub.
pub(super) struct Lost {
    /// GitHub may have it.
    pub sent: bool,
    /// The deadline passed.
    pub timed_out: bool,
    /// For logs and people; holds no credential.
    pub why: String,
}

impl Transport {
    /// No retries, no redirects, no shared credential: octocrab's own layers for these are left out.
    pub fn new(api_url: &Url, timeout: Duration) -> Result<Transport, Error> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Shorter than a call may take, so that an unreachable GitHub is told from a lost answer.
        tcp.set_connect_timeout(Some((timeout / 2).min(Duration::from_secs(5))));
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        let connector = connector(tcp).map_err(|err| Error::Unavailable {
            maybe_done: false,
            why: format!("TLS cannot be set up: {err}"),
        })?;
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build::<_, OctoBody>(connector);
        let octocrab =
            match OctocrabBuilder::new_empty().with_service(client).with_auth(AuthState::None).build() {
                Ok(octocrab) => octocrab,
                Err(never) => match never {},
            };
        Ok(Transport { octocrab, base: api_url.as_str().trim_end_matches('/').to_owned() })
    }

    /// Sends once and reads the whole answer, or gives up at the deadline.
    pub async fn exchange(
        &self,
        out: &Outgoing<'_>,
        bearer: &HeaderValue,
        deadline: Deadline,
    ) -> Result<Answer, Lost> {
        let sent = Arc::new(AtomicBool::new(false));
        let request = match self.request(out, bearer, &sent) {
            Ok(request) => request,
            Err(err) => return Err(Lost { sent: false, timed_out: false, why: err.to_string() }),
        };
        match tokio::time::timeout_at(deadline.at(), self.answer(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            // Without a body there is no telling how far the request got, except that it had no connection.
            Ok(Err((connected, why))) => {
                let sent = connected && (out.body.is_none() || sent.load(Ordering::Relaxed));
                Err(Lost { sent, timed_out: false, why })
            }
            Err(_) => {
                let sent = out.body.is_none() || sent.load(Ordering::Relaxed);
                Err(Lost { sent, timed_out: true, why: "no answer in time".into() })
            }
        }
    }

    fn request(
        &self,
        out: &Outgoing<'_>,
        bearer: &HeaderValue,
        sent: &Arc<AtomicBool>,
    ) -> Result<Request<OctoBody>, http::Error> {
        let mut request = Request::builder()
            .method(out.method.clone())
            .uri(format!("{}{}", self.base, out.path))
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, HeaderValue::from_static("application/vnd.github+json"))
            .header(
                USER_AGENT,
                HeaderValue::from_static(concat!("runner-broker/", env!("CARGO_PKG_VERSION"))),
            )
            .header("x-github-api-version", HeaderValue::from_static("2022-11-28"));
        if let Some(traceparent) = traces::traceparent() {
            request = request.header("traceparent", traceparent);
        }
        if let Some(etag) = out.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        match out.body {
            None if out.method == Method::POST => request.header(CONTENT_LENGTH, 0).body(OctoBody::empty()),
            None => request.body(OctoBody::empty()),
            Some(body) => {
                let sent = sent.clone();
                // Hyper asks for the body just before it writes; until then nothing can have been done.
                let watched = Full::from(body.to_vec()).map_frame(move |frame| {
                    sent.store(true, Ordering::Relaxed);
                    frame
                });
                request
                    .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
                    .header(CONTENT_LENGTH, body.len())
                    .body(OctoBody::new(watched))
            }
        }
    }

    /// The error says whether there was a connection.
    async fn answer(&self, request: Request<OctoBody>) -> Result<Answer, (bool, String)> {
        let response = self.octocrab.execute(request).await.map_err(|err| {
            let connected = !never_connected(&err);
            (connected, with_causes(&err))
        })?;
        let (head, body) = response.into_parts();
        let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: usize| length > LARGEST_BODY) {
            return Err((true, "the answer is too large to be read".into()));
        }
        let body = Limited::new(body, LARGEST_BODY).collect().await;
        let body =
            body.map_err(|err| (true, format!("the answer broke off: {}", with_causes(err.as_ref()))))?;
        Ok(Answer::new(head.status, head.headers, body.to_bytes().into()))
    }
}

/// An authorization header that no `Debug` shows.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, Error> {
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Error::Unavailable {
        maybe_done: false,
        why: "it issued a token that fits into no header".into(),
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// Over a configuration that is built once: reading the system's roots takes longer than all the rest.
fn connector(tcp: HttpConnector) -> Result<HttpsConnector<HttpConnector>, rustls::Error> {
    static CONFIG: OnceLock<Result<rustls::ClientConfig, rustls::Error>> = OnceLock::new();
    let config = CONFIG.get_or_init(client_config).clone()?;
    let builder = HttpsConnectorBuilder::new().with_tls_config(config);
    Ok(builder.https_or_http().enable_http1().wrap_connector(tcp))
}

/// The system's roots, since an Enterprise Server's may be private.
fn client_config() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_platform_verifier()?.with_no_client_auth())
}

fn never_connected(err: &octocrab::Error) -> bool {
    let octocrab::Error::Service { source, .. } = err else { return false };
    source.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use http::StatusCode;

    use super::*;

    /// A port that takes connections and says nothing on them, and the API that it claims to be.
    fn silence(scheme: &str, path: &str) -> (TcpListener, Transport) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://{}{path}", listener.local_addr().unwrap());
        (listener, Transport::new(&url.parse().unwrap(), Duration::from_secs(5)).unwrap())
    }

    async fn ask(transport: &Transport, body: Option<&[u8]>) -> Result<Answer, Lost> {
        let out = Outgoing { method: Method::POST, path: "/app?x=1", body, etag: None };
        let bearer = HeaderValue::from_static("Bearer t");
        transport.exchange(&out, &bearer, Deadline::within(Duration::from_millis(300))).await
    }

    #[tokio::test]
    async fn a_request_that_had_no_connection_in_time_was_not_sent() {
        // The handshake never ends, so the body is never asked for.
        let (_listener, transport) = silence("https", "");
        let lost = ask(&transport, Some(b"{}")).await.err().unwrap();
        assert!(lost.timed_out && !lost.sent);
        let (_listener, transport) = silence("http", "");
        let lost = ask(&transport, Some(b"{}")).await.err().unwrap();
        assert!(lost.timed_out && lost.sent);
    }

    #[tokio::test]
    async fn a_request_bears_the_prefix_and_each_header_once() {
        let (listener, transport) = silence("http", "/api/v3");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"{}") {
                let mut some = [0; 1024];
                let read = stream.read(&mut some).unwrap();
                seen.extend_from_slice(&some[..read]);
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\nlink: <x>; rel=\"next\"\r\n\r\n").unwrap();
            String::from_utf8(seen).unwrap()
        });
        let answer = ask(&transport, Some(b"{}")).await.ok().unwrap();
        assert_eq!((answer.status, answer.has_next()), (StatusCode::NO_CONTENT, Some(true)));
        let seen = server.join().unwrap();
        assert!(seen.starts_with("POST /api/v3/app?x=1 HTTP/1.1\r\n"), "{seen}");
        for line in [
            concat!("user-agent: runner-broker/", env!("CARGO_PKG_VERSION")),
            "accept: application/vnd.github+json",
            "x-github-api-version: 2022-11-28",
            "authorization: Bearer t",
            "content-type: application/json",
            "content-length: 2",
        ] {
            let (name, _) = line.split_once(": ").unwrap();
            assert!(seen.contains(&format!("\r\n{line}\r\n")), "{line} is not in {seen}");
            assert_eq!(seen.matches(&format!("\r\n{name}:")).count(), 1, "{name}");
        }
        assert!(!seen.contains("transfer-encoding"), "{seen}");
    }

    #[tokio::test]
    async fn a_post_without_a_body_tells_its_length() {
        let (listener, transport) = silence("http", "");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut some = [0; 4096];
            let read = stream.read(&mut some).unwrap();
            String::from_utf8_lossy(&some[..read]).into_owned()
        });
        let lost = ask(&transport, None).await.err().unwrap();
        assert!(lost.sent);
        assert!(server.join().unwrap().contains("content-length: 0\r\n"));
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_is_given_up() {
        let (listener, transport) = silence("http", "");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // An answer to what was not asked yet would be no answer.
            let (mut seen, mut some) = (Vec::new(), [0; 4096]);
            while !seen.ends_with(b"{}") {
                let read = stream.read(&mut some).unwrap();
                seen.extend_from_slice(&some[..read]);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n");
            while stream.write_all(&[b' '; 65536]).is_ok() {}
        });
        let lost = ask(&transport, Some(b"{}")).await.err().unwrap();
        assert!(lost.sent && !lost.timed_out, "{}", lost.why);
    }
}
