//! What a sweep did, as it is logged and counted.

use metrics::{counter, gauge};

use crate::broker::Error;
use crate::store;

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Interrupted provisions that were finished.
    pub repaired: usize,
    /// Runners removed: overdue, stale, or asked for and not finished.
    pub removed: usize,
    /// Runners that nobody was given, taken off GitHub.
    pub orphans: usize,
    /// Runners whose labels are not those asked for, reported now.
    pub drifted: usize,
    /// Runners that nobody asked for, reported now.
    pub unmanaged: usize,
    /// Rows whose state followed GitHub's.
    pub moved: usize,
    /// Runners that GitHub listed.
    pub seen: usize,
    /// Targets that GitHub's budget did not bear.
    pub postponed: usize,
    /// Targets or rows that could not be looked at this time.
    pub failures: usize,
}

impl Report {
    /// Counts a failure and goes on, unless nothing can go on. `None`: it failed.
    pub(super) fn note<T>(&mut self, result: Result<T, Error>, doing: &str) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(err @ (Error::LeaseLost | Error::Store(store::Error::Unavailable(_)))) => Err(err),
            Err(err) => {
                tracing::warn!(error = %err, "{doing} failed; the next sweep tries again");
                self.failures += 1;
                Ok(None)
            }
        }
    }

    pub(super) fn count(&self, ended: bool, now: i64) {
        let result = match (ended && self.failures == 0, self.postponed) {
            (true, 0) => "complete",
            (true, _) => "postponed",
            (false, _) => "incomplete",
        };
        counter!("broker_sweeps_total", "result" => result).increment(1);
        gauge!("broker_sweep_runners_seen").set(self.seen as f64);
        if result == "complete" {
            gauge!("broker_sweep_last_complete_timestamp_seconds").set(now as f64);
        }
        self.count_rows();
    }

    pub(super) fn count_rows(&self) {
        let done = [
            ("repaired", self.repaired),
            ("removed", self.removed),
            ("orphans", self.orphans),
            ("drifted", self.drifted),
            ("unmanaged", self.unmanaged),
            ("moved", self.moved),
            ("failures", self.failures),
        ];
        for (what, count) in done {
            counter!("broker_sweep_rows_total", "what" => what).increment(count as u64);
        }
    }
}
