//! What pages show while they stay open, as server-sent events: a stream for each open page, one look at Postgres
//! for all of them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse, get};
use chrono::{DateTime, Utc};
use futures_util::stream;
use maud::Markup;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::form::Asked;
use super::page::PageError;
use super::session::{self, SignedIn};
use crate::broker::numbers::live::{Pulse, Share};
use crate::broker::people::caller::Caller;
use crate::broker::people::sessions;
use crate::http::State;
use crate::http::console::overview;
use crate::http::problem::Problem;

/// How often a stream looks whether there is anything new. It says something each time: only so is it noticed that the
/// reader has gone, and nothing between us and him takes the stream for a dead one.
const TICK: Duration = Duration::from_secs(3);
/// Open pages of one session, and of all. One more of a session's ends its oldest: a browser opens no more than six
/// at a time, so that one is most likely a page that was left a moment ago.
const MOST_OF_ONE: usize = 8;
const MOST: usize = 500;

/// Who looks on.
pub struct Live {
    places: Arc<Mutex<Places>>,
    standing: tokio::sync::Mutex<Standing>,
    closing: CancellationToken,
    /// How many there ever were.
    opened: AtomicU64,
}

/// By session: what ends each of its streams, the oldest first.
type Places = HashMap<String, VecDeque<(u64, CancellationToken)>>;

/// Which sessions have not ended, as of a moment.
#[derive(Default)]
struct Standing {
    asked: Option<Instant>,
    keys: HashSet<String>,
}

impl Live {
    /// Every stream ends when this is cancelled.
    pub fn until(closing: CancellationToken) -> Live {
        Live {
            places: Arc::default(),
            standing: tokio::sync::Mutex::default(),
            closing,
            opened: AtomicU64::new(0),
        }
    }

    /// `None`: too many look on already.
    fn enter(&self, key: String) -> Option<Place> {
        let mut places = lock(&self.places);
        let all: usize = places.values().map(VecDeque::len).sum();
        let own = places.get(&key).map_or(0, VecDeque::len);
        if all >= MOST && own < MOST_OF_ONE {
            return None;
        }
        let own = places.entry(key.clone()).or_default();
        if own.len() >= MOST_OF_ONE
            && let Some((_, oldest)) = own.pop_front()
        {
            oldest.cancel();
        }
        let (id, over) = (self.opened.fetch_add(1, Ordering::Relaxed), self.closing.child_token());
        own.push_back((id, over.clone()));
        Some(Place { places: self.places.clone(), key, id, over, since: Instant::now() })
    }

    /// Whether the session has not ended. Postgres is asked about all of them, once a tick.
    async fn stands(&self, state: &State, place: &Place) -> bool {
        let mut standing = self.standing.lock().await;
        if standing.asked.is_none_or(|asked| asked.elapsed() >= TICK) {
            // Not when the answer comes: whoever has entered by then was not asked about.
            let asked = Instant::now();
            let keys: Vec<String> = lock(&self.places).keys().cloned().collect();
            match state.broker.standing(&keys).await {
                Ok(keys) => *standing = Standing { asked: Some(asked), keys },
                // Postgres is away: nothing is shown meanwhile that was not shown before.
                Err(err) => {
                    tracing::debug!(error = %err, "whether sessions still stand could not be asked");
                    return true;
                }
            }
        }
        standing.keys.contains(&place.key) || standing.asked.is_some_and(|asked| asked < place.since)
    }
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One open page's.
struct Place {
    places: Arc<Mutex<Places>>,
    key: String,
    id: u64,
    /// Cancelled when the server closes, or a newer page needs the place.
    over: CancellationToken,
    since: Instant,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = lock(&self.places);
        if let Some(own) = places.get_mut(&self.key) {
            own.retain(|(id, _)| *id != self.id);
            if own.is_empty() {
                places.remove(&self.key);
            }
        }
    }
}

/// Ends with the session, and when the server does.
#[get("/events")]
pub async fn events(
    SignedIn(session): SignedIn,
    Asked(fields): Asked,
    req: HttpRequest,
    state: Data<State>,
) -> Result<HttpResponse, PageError> {
    let shows =
        if fields.get("of") == Some("overview") { Shows::Overview } else { Shows::ThatSomethingHappened };
    let key =
        session::token(&req, state.secure_cookies).map(|token| sessions::key(&token)).unwrap_or_default();
    let place = state.live.enter(key).ok_or_else(Problem::too_many_streams)?;
    let reader = Reader { state, caller: session.caller, place, shows, shown: None, begun: false };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx would keep it until there is more.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(stream::unfold(reader, |mut reader| async move {
            let said = reader.next().await?;
            Some((Ok::<_, actix_web::Error>(Bytes::from(said)), reader))
        })))
}

#[derive(Clone, Copy)]
enum Shows {
    /// The overview's parts, whenever one has changed.
    Overview,
    /// Nothing but that: the page asks for what it shows.
    ThatSomethingHappened,
}

/// One stream's reader.
struct Reader {
    state: Data<State>,
    caller: Caller,
    place: Place,
    shows: Shows,
    /// What he was shown last.
    shown: Option<u64>,
    begun: bool,
}

impl Reader {
    /// What to say next, once a tick. `None`: the end.
    async fn next(&mut self) -> Option<String> {
        if self.begun {
            tokio::select! {
                () = self.place.over.cancelled() => {}
                () = sleep(TICK) => {}
            }
        }
        if self.place.over.is_cancelled() || !self.state.live.stands(&self.state, &self.place).await {
            return None;
        }
        // By the policy as it stands now.
        self.caller = self.state.broker.admit_again(&self.caller).ok()?;
        let news = match self.state.broker.pulse().await {
            Ok(pulse) => self.news(&pulse),
            Err(err) => {
                tracing::debug!(error = %err, "nothing to show to those who look on");
                None
            }
        };
        let begun = std::mem::replace(&mut self.begun, true);
        let first = if begun { "" } else { "retry: 5000\n\n" };
        Some(format!("{first}{}", news.unwrap_or_else(|| ": still here\n\n".to_owned())))
    }

    fn news(&mut self, pulse: &Pulse) -> Option<String> {
        let now = self.state.broker.clock().now();
        let stands = match self.shows {
            // As seen from a fixed moment, since the words for a time change by themselves.
            Shows::Overview => hash(&overview::parts(&self.caller, pulse, DateTime::<Utc>::UNIX_EPOCH).0),
            Shows::ThatSomethingHappened => {
                hash(&(pulse.newest_event, pulse.runners(&Share::of(&self.caller))))
            }
        };
        let before = self.shown.replace(stands);
        match self.shows {
            _ if before == Some(stands) => None,
            Shows::Overview => Some(event("parts", &overview::parts(&self.caller, pulse, now))),
            // The page is as new as the stream.
            Shows::ThatSomethingHappened if before.is_none() => None,
            Shows::ThatSomethingHappened => Some(event("look", &Markup::default())),
        }
    }
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// One event; each line of its data by itself, whatever ends a line.
fn event(name: &str, data: &Markup) -> String {
    let lines = data.0.replace(['\r', '\n'], "\ndata: ");
    format!("event: {name}\ndata: {lines}\n\n")
}
