//! How often a target is listed: as configured, less often when GitHub's budget runs low, not at all at its end.
//! Pure.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::github::Allowance;

/// Below this part of the hour's budget lists become rarer: provisions need it more.
const LOW: u64 = 4;

/// Until when a target that was last swept at `last` is left alone. `None`: it may be listed now.
pub fn postponed(
    allowance: &Allowance,
    last: Option<DateTime<Utc>>,
    interval: Duration,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    if let Some(until) = allowance.paused_until.filter(|&until| now < until) {
        return Some(until);
    }
    if now >= allowance.resets_at {
        return None;
    }
    if allowance.remaining <= allowance.floor {
        return Some(allowance.resets_at);
    }
    let low = allowance.limit / LOW;
    if allowance.remaining >= low {
        return None;
    }
    // From the usual interval at a quarter to one without end at the floor.
    let spare =
        (allowance.remaining - allowance.floor) as f64 / low.saturating_sub(allowance.floor).max(1) as f64;
    let stretched = TimeDelta::from_std(interval.div_f64(spare)).unwrap_or(TimeDelta::MAX);
    let due =
        last?.checked_add_signed(stretched).map_or(allowance.resets_at, |due| due.min(allowance.resets_at));
    (now < due).then_some(due)
}

/// What the table says of a target that is left alone.
pub fn explained(allowance: &Allowance, until: DateTime<Utc>) -> String {
    match allowance.paused_until {
        Some(_) => format!("GitHub wants no calls until {until}"),
        None => format!(
            "GitHub's budget is at {} of {}: swept again from {until}",
            allowance.remaining, allowance.limit
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(120);

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn left(remaining: u64) -> Allowance {
        Allowance { limit: 4_000, remaining, floor: 50, resets_at: at(3_000), paused_until: None }
    }

    fn wait(allowance: Allowance, last: i64, now: i64) -> Option<i64> {
        let until = postponed(&allowance, Some(at(last)), INTERVAL, at(now));
        until.map(|until| (until - at(0)).num_seconds())
    }

    #[test]
    fn with_a_quarter_left_nothing_is_postponed() {
        assert_eq!(wait(left(1_000), 0, 1), None);
        assert_eq!(wait(left(999), 0, 1), Some(120));
    }

    #[test]
    fn the_less_is_left_the_rarer_a_target_is_swept_up_to_the_reset() {
        let waits: Vec<_> = [900, 525, 200, 60].map(|remaining| wait(left(remaining), 0, 1).unwrap()).into();
        assert_eq!(waits, [134, 240, 760, 3_000]);
        assert_eq!(wait(left(525), 0, 240), None);
    }

    #[test]
    fn at_the_floor_it_is_not_swept_before_the_reset() {
        assert_eq!(wait(left(50), -10_000, 1), Some(3_000));
        assert_eq!(wait(left(0), -10_000, 2_999), Some(3_000));
        assert_eq!(wait(left(0), -10_000, 3_000), None);
    }

    #[test]
    fn a_pause_that_github_demands_is_kept() {
        let paused = Allowance { paused_until: Some(at(60)), ..left(4_000) };
        assert_eq!(wait(paused, 0, 59), Some(60));
        assert_eq!(wait(paused, 0, 60), None);
    }

    #[test]
    fn a_target_that_was_never_swept_is_swept_while_there_is_any_budget() {
        assert_eq!(postponed(&left(60), None, INTERVAL, at(0)), None);
        assert!(postponed(&left(50), None, INTERVAL, at(0)).is_some());
    }
}
