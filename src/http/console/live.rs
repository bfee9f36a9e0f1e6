//! Updates of open pages as server-sent events: one stream per open page, one query to Postgres for all of them.
//!
//! `GET /events` sends the overview's parts when one of them differs; on other pages it only says that something
//! happened, and the page fetches its content again. Sessions are checked once for all streams, the policy at every
//! tick. A stream ends with its session and at shutdown. Pages in the background close theirs, since a browser has
//! six connections to a host.

use std::hash::{DefaultHasher, Hash, Hasher};

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse, get};
use chrono::{DateTime, Utc};
use futures_util::stream;
use maud::Markup;
use tokio::time::sleep;

use super::frame::form::PageQuery;
use super::frame::page::PageError;
use super::frame::session::{self, SignedIn};
use super::overview;
use crate::broker::numbers::live::{Pulse, Share};
use crate::broker::people::caller::Caller;
use crate::broker::people::sessions;
use crate::http::State;
use crate::http::problem::Problem;
use crate::http::streams::{Stream, TICK};

/// The stream of one page. It ends with the session, and when the server stops.
#[get("/events")]
pub async fn events(
    SignedIn(session): SignedIn,
    PageQuery(fields): PageQuery,
    req: HttpRequest,
    state: Data<State>,
) -> Result<HttpResponse, PageError> {
    let content =
        if fields.get("of") == Some("overview") { Content::Overview } else { Content::Notification };
    let key =
        session::token(&req, state.secure_cookies).map(|token| sessions::key(&token)).unwrap_or_default();
    let stream = state.streams.open(key).ok_or_else(Problem::too_many_streams)?;
    let reader = Reader { state, caller: session.caller, stream, content, shown: None, begun: false };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx would buffer it.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(stream::unfold(reader, |mut reader| async move {
            let text = reader.next().await?;
            Some((Ok::<_, actix_web::Error>(Bytes::from(text)), reader))
        })))
}

#[derive(Clone, Copy)]
enum Content {
    /// The parts of the overview, whenever one has changed.
    Overview,
    /// Only that something has changed: the page fetches what it shows.
    Notification,
}

/// The reader of one stream.
struct Reader {
    state: Data<State>,
    caller: Caller,
    stream: Stream,
    content: Content,
    /// The hash of what was sent last.
    shown: Option<u64>,
    begun: bool,
}

impl Reader {
    /// The next text, once a tick. `None`: the end.
    async fn next(&mut self) -> Option<String> {
        if self.begun {
            tokio::select! {
                () = self.stream.ended.cancelled() => {}
                () = sleep(TICK) => {}
            }
        }
        if self.stream.ended.is_cancelled()
            || !self.state.streams.has_session(&self.state.broker, &self.stream).await
        {
            return None;
        }
        // The memberships by the current policy.
        self.caller = self.state.broker.admit_again(&self.caller).ok()?;
        let news = match self.state.broker.pulse().await {
            Ok(pulse) => self.news(&pulse),
            Err(err) => {
                tracing::debug!(error = %err, "no live updates");
                None
            }
        };
        let begun = std::mem::replace(&mut self.begun, true);
        let first = if begun { "" } else { "retry: 5000\n\n" };
        Some(format!("{first}{}", news.unwrap_or_else(|| ": still here\n\n".to_owned())))
    }

    fn news(&mut self, pulse: &Pulse) -> Option<String> {
        let now = self.state.broker.clock().now();
        let current = match self.content {
            // As of a fixed moment, since relative times change by themselves.
            Content::Overview => hash(&overview::parts(&self.caller, pulse, DateTime::<Utc>::UNIX_EPOCH).0),
            Content::Notification => hash(&(pulse.newest_event, pulse.runners(&Share::of(&self.caller)))),
        };
        let before = self.shown.replace(current);
        match self.content {
            _ if before == Some(current) => None,
            Content::Overview => Some(event("parts", &overview::parts(&self.caller, pulse, now))),
            // The page was loaded just before the stream was opened.
            Content::Notification if before.is_none() => None,
            Content::Notification => Some(event("look", &Markup::default())),
        }
    }
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// One event, with each line of its data as a field of its own.
fn event(name: &str, data: &Markup) -> String {
    let lines = data.0.replace(['\r', '\n'], "\ndata: ");
    format!("event: {name}\ndata: {lines}\n\n")
}
