//! One asks, the others wait: a value that many want is fetched by one task at a time. A caller who comes while the fetch
//! is under way shares its outcome, and the value is kept for those who come later.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::time::Instant;
use tracing::Instrument;

/// How long after a failed fetch [`SingleFlight::refresh`] does nothing: the old value still serves.
const REFRESH_PAUSE: Duration = Duration::from_secs(10);

/// The fetch ended without an outcome: it panicked, or its runtime ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the question was broken off")]
pub struct Abandoned;

type Running<V, E> = Shared<BoxFuture<'static, Result<V, E>>>;

/// A value of type `V` and the one fetch that renews it, which may fail with `E`. How old a value may be is for each
/// caller to say.
#[derive(Debug)]
pub struct SingleFlight<V, E = Abandoned> {
    state: Mutex<State<V, E>>,
}

#[derive(Debug)]
struct State<V, E> {
    value: Option<V>,
    running: Option<Running<V, E>>,
    failed_at: Option<Instant>,
}

/// Ends a flight however its task ends.
struct Landing<V, E>(Arc<SingleFlight<V, E>>);

impl<V, E> Drop for Landing<V, E> {
    fn drop(&mut self) {
        self.0.state().running = None;
    }
}

impl<V, E> Default for SingleFlight<V, E> {
    fn default() -> SingleFlight<V, E> {
        SingleFlight { state: Mutex::new(State { value: None, running: None, failed_at: None }) }
    }
}

impl<V, E> SingleFlight<V, E> {
    fn state(&self) -> MutexGuard<'_, State<V, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the value if `is` says so.
    pub fn forget(&self, is: impl Fn(&V) -> bool) {
        let mut state = self.state();
        if state.value.as_ref().is_some_and(is) {
            state.value = None;
        }
    }

    /// Whether a fetch is under way.
    pub fn is_running(&self) -> bool {
        self.state().running.is_some()
    }
}

impl<V: Clone, E> SingleFlight<V, E> {
    /// The value, if there is one and `good` accepts it. Fetches nothing.
    pub fn peek(&self, good: impl Fn(&V) -> bool) -> Option<V> {
        self.state().value.as_ref().filter(|value| good(value)).cloned()
    }
}

impl<V, E> SingleFlight<V, E>
where
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + From<Abandoned> + 'static,
{
    /// The value if `good` accepts it, else what the fetch brings: the one under way, or this one. The fetch runs in
    /// a task of its own and goes on when everybody who waits for it has given up.
    pub async fn get<F>(
        self: &Arc<Self>,
        good: impl Fn(&V) -> bool,
        fetch: impl FnOnce() -> F,
    ) -> Result<V, E>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let running = {
            let mut state = self.state();
            match state.value.as_ref().filter(|value| good(value)) {
                Some(value) => return Ok(value.clone()),
                None => self.start(&mut state, fetch),
            }
        };
        running.await
    }

    /// Starts the fetch unless one is under way or has just failed. Nobody waits for it.
    pub fn refresh<F>(self: &Arc<Self>, fetch: impl FnOnce() -> F)
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let mut state = self.state();
        if state.failed_at.is_none_or(|at| at.elapsed() > REFRESH_PAUSE) {
            drop(self.start(&mut state, fetch));
        }
    }

    fn start<F>(self: &Arc<Self>, state: &mut State<V, E>, fetch: impl FnOnce() -> F) -> Running<V, E>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
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
                Err(Abandoned.into())
            })
        };
        let running = joined.boxed().shared();
        state.running = Some(running.clone());
        running
    }
}

/// A [`SingleFlight`] for each key. Keys that nobody uses any more could add up, so there are at most `capacity`:
/// beyond it all are forgotten.
#[derive(Debug)]
pub struct SingleFlights<K, V, E = Abandoned> {
    capacity: usize,
    flights: Mutex<HashMap<K, Arc<SingleFlight<V, E>>>>,
}

impl<K: Clone + Eq + Hash, V, E> SingleFlights<K, V, E> {
    /// No key yet; `capacity` is at least one.
    pub fn new(capacity: usize) -> SingleFlights<K, V, E> {
        SingleFlights { capacity, flights: Mutex::default() }
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<K, Arc<SingleFlight<V, E>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The flight of a key, the same for everybody who asks.
    pub fn of(&self, key: &K) -> Arc<SingleFlight<V, E>> {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(key) {
            return flight.clone();
        }
        if flights.len() >= self.capacity {
            flights.clear();
        }
        flights.entry(key.clone()).or_default().clone()
    }

    /// Forgets the keys that `is` names, with their values.
    pub fn forget(&self, is: impl Fn(&K) -> bool) {
        self.flights().retain(|key, _| !is(key));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Failed(&'static str);

    impl From<Abandoned> for Failed {
        fn from(_: Abandoned) -> Failed {
            Failed("abandoned")
        }
    }

    #[tokio::test]
    async fn of_many_who_want_a_value_one_asks_and_all_have_its_answer() {
        let flight = Arc::new(SingleFlight::<usize, Failed>::default());
        let asked = Arc::new(AtomicUsize::new(0));
        let (go, outcome) = (Arc::new(Notify::new()), Ok(7));
        let want = |outcome: Result<usize, Failed>| {
            let (flight, asked, go) = (flight.clone(), asked.clone(), go.clone());
            async move {
                let fetch = || async move {
                    asked.fetch_add(1, Ordering::Relaxed);
                    go.notified().await;
                    outcome
                };
                flight.get(|_| true, fetch).await
            }
        };
        let (answers, ()) =
            tokio::join!(join_all((0..10).map(|_| want(outcome.clone()))), async { go.notify_one() });
        assert!(answers.iter().all(|answer| *answer == Ok(7)) && asked.load(Ordering::Relaxed) == 1);
        assert_eq!(want(Ok(8)).await, Ok(7), "it is kept");
        flight.forget(|value| *value == 7);
        let (answers, ()) =
            tokio::join!(join_all((0..10).map(|_| want(Err(Failed("no"))))), async { go.notify_one() });
        assert!(answers.iter().all(|answer| *answer == Err(Failed("no"))));
        assert_eq!((asked.load(Ordering::Relaxed), flight.peek(|_| true)), (2, None));
    }

    #[tokio::test]
    async fn a_fetch_that_panics_leaves_the_way_free_for_the_next() {
        let flight = Arc::new(SingleFlight::<usize, Failed>::default());
        let broken = flight.get(|_| true, || async { panic!("on purpose") }).await;
        assert_eq!((broken, flight.is_running()), (Err(Failed("abandoned")), false));
        assert_eq!(flight.get(|_| true, || async { Ok(1) }).await, Ok(1));
    }

    #[tokio::test]
    async fn a_fetch_goes_on_when_nobody_waits_for_it() {
        let flight = Arc::new(SingleFlight::<usize>::default());
        let (go, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let fetch = {
            let (go, done) = (go.clone(), done.clone());
            move || async move {
                go.notified().await;
                done.notify_one();
                Ok(3)
            }
        };
        assert!(flight.get(|_| true, fetch).now_or_never().is_none() && flight.is_running());
        go.notify_one();
        done.notified().await;
        assert_eq!(flight.get(|_| true, || async { Ok(4) }).await, Ok(3));
    }

    #[test]
    fn keys_beyond_the_capacity_are_forgotten() {
        let flights = SingleFlights::<u32, u32>::new(2);
        let first = flights.of(&1);
        assert!(Arc::ptr_eq(&first, &flights.of(&1)));
        flights.of(&2);
        flights.of(&3);
        assert!(!Arc::ptr_eq(&first, &flights.of(&1)));
        let third = flights.of(&3);
        flights.forget(|key| *key == 3);
        assert!(!Arc::ptr_eq(&third, &flights.of(&3)));
    }
}
