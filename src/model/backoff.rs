//! How long to wait before the next attempt: twice as long each time, up to a limit. The only place that doubles
//! pauses.
//!
//! The `backon` crate and its like retry within one future. Most of our attempts are counted in a row of Postgres and
//! made by whichever replica finds them due, so all that is needed is the length of one pause.

use std::time::Duration;

use chrono::TimeDelta;

/// Exponentially growing pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first attempt that failed.
    pub first: Duration,
    /// No pause is longer.
    pub longest: Duration,
}

impl Backoff {
    /// From `first` on, twice as long each time, up to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest }
    }

    /// The pause after this many failed attempts. 0 counts as one.
    pub fn after(self, failed: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failed.saturating_sub(1));
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// The same for what Postgres keeps: a count of attempts, and times.
    pub fn delta_after(self, failed: i32) -> TimeDelta {
        let pause = self.after(u32::try_from(failed).unwrap_or(0));
        TimeDelta::from_std(pause).unwrap_or(TimeDelta::MAX)
    }

    /// As [`Backoff::after`], anywhere between half of it and all of it: clients that failed together do not come back together.
    pub fn jittered(self, failed: u32) -> Duration {
        self.after(failed).mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(60));
        let seconds: Vec<u64> = (0..8).map(|failed| backoff.after(failed).as_secs()).collect();
        assert_eq!(seconds, [5, 5, 10, 20, 40, 60, 60, 60]);
        assert_eq!(backoff.after(u32::MAX), backoff.longest);
        assert_eq!(
            (-1..3).map(|failed| backoff.delta_after(failed).num_seconds()).collect::<Vec<_>>(),
            [5, 5, 5, 10]
        );
    }

    #[test]
    fn jitter_shortens_a_pause_by_half_at_most() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        for failed in 1..40 {
            let (whole, pause) = (backoff.after(failed), backoff.jittered(failed));
            assert!((whole / 2..=whole).contains(&pause), "{failed}: {pause:?}");
        }
    }
}
