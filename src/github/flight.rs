//! One fetch at a time for a value that many want: whoever comes while it is under way shares its outcome.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::time::Instant;
use tracing::Instrument;

use super::deadline::Deadline;
use super::error::Error;

type Running<V> = Shared<BoxFuture<'static, Result<V, Error>>>;

/// How long after a failure `refresh` does nothing: the old value still serves.
const PAUSE: Duration = Duration::from_secs(10);

/// A cached value and the one fetch that renews it.
pub(super) struct Flight<V> {
    state: Mutex<State<V>>,
}

struct State<V> {
    value: Option<V>,
    running: Option<Running<V>>,
    failed_at: Option<Instant>,
}

/// Ends a flight however its task ends.
struct Landing<V>(Arc<Flight<V>>);

impl<V> Drop for Landing<V> {
    fn drop(&mut self) {
        self.0.state().running = None;
    }
}

impl<V> Default for Flight<V> {
    fn default() -> Flight<V> {
        Flight { state: Mutex::new(State { value: None, running: None, failed_at: None }) }
    }
}

impl<V> Flight<V> {
    fn state(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the value if it is such a one.
    pub fn forget(&self, is: impl Fn(&V) -> bool) {
        let mut state = self.state();
        if state.value.as_ref().is_some_and(is) {
            state.value = None;
        }
    }
}

impl<V: Clone + Send + Sync + 'static> Flight<V> {
    /// The value, if there is one and it is good.
    pub fn peek(&self, good: impl Fn(&V) -> bool) -> Option<V> {
        self.state().value.as_ref().filter(|value| good(value)).cloned()
    }

    /// The value if it is good, else what the fetch brings: the one under way, or this one. The fetch goes on
    /// when those who wait for it give up.
    pub async fn get<F>(
        self: &Arc<Self>,
        good: impl Fn(&V) -> bool,
        fetch: impl FnOnce() -> F,
        deadline: Deadline,
    ) -> Result<V, Error>
    where
        F: Future<Output = Result<V, Error>> + Send + 'static,
    {
        let running = {
            let mut state = self.state();
            match state.value.as_ref().filter(|value| good(value)) {
                Some(value) => return Ok(value.clone()),
                None => self.start(&mut state, fetch),
            }
        };
        match tokio::time::timeout_at(deadline.at(), running).await {
            Ok(outcome) => outcome,
            Err(_) => Err(unavailable("no answer in time to what had to be asked first")),
        }
    }

    /// Starts the fetch unless it is under way or has just failed; nobody waits for it.
    pub fn refresh<F>(self: &Arc<Self>, fetch: impl FnOnce() -> F)
    where
        F: Future<Output = Result<V, Error>> + Send + 'static,
    {
        let mut state = self.state();
        if state.failed_at.is_none_or(|at| at.elapsed() > PAUSE) {
            drop(self.start(&mut state, fetch));
        }
    }

    fn start<F>(self: &Arc<Self>, state: &mut State<V>, fetch: impl FnOnce() -> F) -> Running<V>
    where
        F: Future<Output = Result<V, Error>> + Send + 'static,
    {
        if let Some(running) = &state.running {
            return running.clone();
        }
        let (flight, broken) = (self.clone(), self.clone());
        let fetch = fetch();
        let task = async move {
            // Made here, not before: a runtime that is ending drops the task at once, under our lock.
            let landing = Landing(flight);
            let outcome = fetch.await;
            let mut state = landing.0.state();
            state.failed_at = outcome.is_err().then(Instant::now);
            if let Ok(value) = &outcome {
                state.value = Some(value.clone());
            }
            drop(state);
            outcome
        };
        let task = tokio::spawn(task.in_current_span());
        let joined = async move {
            task.await.unwrap_or_else(|_| {
                drop(Landing(broken));
                Err(unavailable("the question was broken off"))
            })
        };
        let running = joined.boxed().shared();
        state.running = Some(running.clone());
        running
    }
}

fn unavailable(why: &str) -> Error {
    Error::Unavailable { maybe_done: false, why: why.to_owned() }
}
