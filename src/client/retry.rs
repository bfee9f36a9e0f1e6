//! Trying again: with growing, jittered pauses, never sooner than the other side wants, within one limit.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Error, duration, print_line};
use crate::model::Backoff;

const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// The result of one attempt.
pub enum Attempt<T> {
    /// It succeeded.
    Done(T),
    /// `at_least`: sooner is no use.
    Retry { why: String, at_least: Option<Duration> },
}

/// How long to go on, and whether to stop before. Clones share both.
#[derive(Clone)]
pub struct RetryLimit {
    begun: Instant,
    limit: Duration,
    stop: CancellationToken,
}

impl RetryLimit {
    /// From now on.
    pub fn new(limit: Duration) -> RetryLimit {
        RetryLimit { begun: Instant::now(), limit, stop: CancellationToken::new() }
    }

    /// No attempt from now on; the one under way goes on.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.begun.elapsed())
    }

    /// Attempts it until it succeeds, cannot succeed any more, or the time is over. `what` names it for people who wait.
    pub async fn run<T>(
        &self,
        what: &str,
        mut attempt: impl AsyncFnMut() -> Result<Attempt<T>, Error>,
    ) -> Result<T, Error> {
        for number in 1.. {
            let gave_up = |why: String| Error::GaveUp { after: self.begun.elapsed(), why };
            let (why, at_least) = match tokio::time::timeout(self.left(), attempt()).await {
                Ok(Ok(Attempt::Done(done))) => return Ok(done),
                Ok(Ok(Attempt::Retry { why, at_least })) => (why, at_least),
                Ok(Err(err)) => return Err(err),
                Err(_) => return Err(gave_up(format!("{what}: no answer"))),
            };
            let pause = pause(number, at_least);
            if pause >= self.left() {
                let why = match at_least {
                    Some(wanted) => format!("{what}: {why}; it wants {} to pass first", duration(wanted)),
                    None => format!("{what}: {why}"),
                };
                return Err(gave_up(why));
            }
            print_line(&format!("{what}: {why}; trying again in {}", duration(pause)));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return Err(Error::Stopped),
            }
        }
        Err(Error::Stopped)
    }
}

/// What follows the attempt of this number. Clients that failed together must not come back together.
fn pause(number: u32, at_least: Option<Duration>) -> Duration {
    match at_least {
        Some(wanted) => wanted + (BACKOFF.after(number) / 4).mul_f64(rand::random()),
        None => BACKOFF.jittered(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_keep_to_what_was_asked_for() {
        for number in 1..40 {
            let pause = pause(number, None);
            assert!(pause >= BACKOFF.first / 2 && pause <= BACKOFF.longest, "{number}: {pause:?}");
        }
        assert!(pause(6, None) >= BACKOFF.longest / 2);
        let wanted = Duration::from_secs(7);
        assert!((0..100).all(|_| (wanted..wanted + BACKOFF.first).contains(&pause(1, Some(wanted)))));
    }
}
