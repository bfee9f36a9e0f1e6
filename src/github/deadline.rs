//! Until when an answer is of use.

use std::time::Duration;

use tokio::time::Instant;

/// A moment on the monotonic clock that every wait of a call ends at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    pub fn within(time: Duration) -> Deadline {
        Deadline(Instant::now() + time)
    }

    /// What is left; zero when it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// This one, or so long from now if that is sooner.
    pub fn sooner(self, time: Duration) -> Deadline {
        self.min(Deadline::within(time))
    }

    pub fn at(self) -> Instant {
        self.0
    }
}
