//! What was counted: how long each kind of request took, and what went wrong.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Kinds of requests, as columns and lines name them.
pub const KINDS: [&str; 7] = ["provision", "read", "list", "remove", "webhook", "audit", "page"];

/// Microseconds by kind, and errors by what they were.
#[derive(Default)]
pub struct Counted {
    took: [Vec<u32>; KINDS.len()],
    errors: BTreeMap<String, u64>,
}

#[derive(Default)]
pub struct Tally {
    /// Since it was last taken.
    window: Mutex<Counted>,
    whole: Mutex<Counted>,
}

fn lock(counted: &Mutex<Counted>) -> MutexGuard<'_, Counted> {
    counted.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    /// An answer, counted from the moment at which its request was due.
    pub fn took(&self, kind: usize, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        lock(&self.window).took[kind].push(took);
    }

    /// Something that should not have happened: a word or two, so that like is counted with like.
    pub fn error(&self, what: &str) {
        *lock(&self.window).errors.entry(what.to_owned()).or_default() += 1;
    }

    /// What was counted since the last call, sorted; it goes into the whole as well.
    pub fn take(&self) -> Counted {
        let mut counted = std::mem::take(&mut *lock(&self.window));
        counted.took.iter_mut().for_each(|took| took.sort_unstable());
        let mut whole = lock(&self.whole);
        for (whole, took) in whole.took.iter_mut().zip(&counted.took) {
            whole.extend_from_slice(took);
        }
        for (what, count) in &counted.errors {
            *whole.errors.entry(what.clone()).or_default() += count;
        }
        counted
    }

    /// All that was ever taken, sorted.
    pub fn whole(&self) -> Counted {
        let mut whole = std::mem::take(&mut *lock(&self.whole));
        whole.took.iter_mut().for_each(|took| took.sort_unstable());
        whole
    }
}

impl Counted {
    pub fn count(&self, kind: usize) -> usize {
        self.took[kind].len()
    }

    /// In milliseconds; nothing is nothing.
    pub fn quantile(&self, kind: usize, q: f64) -> f64 {
        let took = &self.took[kind];
        let at = (took.len().saturating_sub(1) as f64 * q).round() as usize;
        took.get(at).map_or(f64::NAN, |us| f64::from(*us) / 1000.0)
    }

    pub fn errors(&self) -> u64 {
        self.errors.values().sum()
    }

    /// `read 503: 2; webhook 500: 1`.
    pub fn described(&self) -> String {
        self.errors.iter().map(|(what, count)| format!("{what}: {count}")).collect::<Vec<_>>().join("; ")
    }
}
