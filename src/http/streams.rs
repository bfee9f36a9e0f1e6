//! The open event streams: how many each session has, and when they end.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;

/// How often a stream sends something. It does so even without news, since only a write shows that the reader has gone,
/// and proxies close silent connections.
pub const TICK: Duration = Duration::from_secs(3);

/// The most streams of one session. One more ends the oldest: a browser opens at most six at a time, so the oldest most
/// likely belongs to a page that was left a moment ago.
const MAX_PER_SESSION: usize = 8;

/// The most streams of all sessions.
const MAX_STREAMS: usize = 500;

/// All open streams of this replica.
pub struct Streams {
    open: Arc<Mutex<OpenStreams>>,
    valid: tokio::sync::Mutex<ValidSessions>,
    closing: CancellationToken,
    /// How many streams there ever were; the source of their ids.
    opened: AtomicU64,
}

/// By session key: the id of each of its streams and the token that ends it, oldest first.
type OpenStreams = HashMap<String, VecDeque<(u64, CancellationToken)>>;

/// The sessions that have not ended, as of a moment.
#[derive(Default)]
struct ValidSessions {
    checked: Option<Instant>,
    keys: HashSet<String>,
}

impl Streams {
    /// Every stream ends when `closing` is cancelled.
    pub fn until(closing: CancellationToken) -> Streams {
        Streams {
            open: Arc::default(),
            valid: tokio::sync::Mutex::default(),
            closing,
            opened: AtomicU64::new(0),
        }
    }

    /// Opens a stream for the session with this key. `None`: too many streams are open.
    pub fn open(&self, key: String) -> Option<Stream> {
        let mut open = lock(&self.open);
        let all: usize = open.values().map(VecDeque::len).sum();
        let own = open.get(&key).map_or(0, VecDeque::len);
        if all >= MAX_STREAMS && own < MAX_PER_SESSION {
            return None;
        }
        let own = open.entry(key.clone()).or_default();
        if own.len() >= MAX_PER_SESSION
            && let Some((_, oldest)) = own.pop_front()
        {
            oldest.cancel();
        }
        let (id, ended) = (self.opened.fetch_add(1, Ordering::Relaxed), self.closing.child_token());
        own.push_back((id, ended.clone()));
        Some(Stream { open: self.open.clone(), key, id, ended, since: Instant::now() })
    }

    /// Whether the session of this stream has not ended. Postgres is asked about all sessions, once a tick.
    pub async fn has_session(&self, broker: &Broker, stream: &Stream) -> bool {
        let mut valid = self.valid.lock().await;
        if valid.checked.is_none_or(|checked| checked.elapsed() >= TICK) {
            // The time before the query: a stream that opens during the query is not part of it.
            let checked = Instant::now();
            let keys: Vec<String> = lock(&self.open).keys().cloned().collect();
            match broker.standing(&keys).await {
                Ok(keys) => *valid = ValidSessions { checked: Some(checked), keys },
                // Without Postgres there is no news either, so the stream shows nothing new.
                Err(err) => {
                    tracing::debug!(error = %err, "could not check whether sessions have ended");
                    return true;
                }
            }
        }
        valid.keys.contains(&stream.key) || valid.checked.is_some_and(|checked| checked < stream.since)
    }
}

fn lock(open: &Mutex<OpenStreams>) -> MutexGuard<'_, OpenStreams> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One open stream; dropped, it is counted no more.
pub struct Stream {
    open: Arc<Mutex<OpenStreams>>,
    key: String,
    id: u64,
    /// Cancelled when the server closes, or when a newer stream of the session replaces this one.
    pub ended: CancellationToken,
    since: Instant,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        if let Some(own) = open.get_mut(&self.key) {
            own.retain(|(id, _)| *id != self.id);
            if own.is_empty() {
                open.remove(&self.key);
            }
        }
    }
}
