//! Until when an answer is of use.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::error::Error;

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

    /// The moment itself.
    pub fn at(self) -> Instant {
        self.0
    }

    /// Waits no longer than this for what has to be asked before a call can be made.
    pub(super) async fn bound<T>(self, asking: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let why = || "no answer in time to what had to be asked first".to_owned();
        tokio::time::timeout_at(self.0, asking)
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable { maybe_done: false, why: why() }))
    }
}
