//! What is left of each installation's hour.

use super::app::{Served, unanswered};
use super::{Area, Check, Code, Health, Patience};
use crate::broker::Broker;
use crate::github::{self, RateLimit};

const AREA: Area = Area::Budget;

impl Broker {
    pub(super) async fn check_budget(&self, of: Served, patience: Patience) -> Check {
        let what = format!("Installation {} ({})", of.installation, of.target.owner());
        match patience.wait(self.github.rate_limits(&of.target, patience.deadline())).await {
            Ok(hours) => judge(what, &hours),
            Err(github::Error::RateLimited { until }) => {
                let until = until.format("%H:%M:%S UTC");
                used_up(what, format!("GitHub wants no calls until {until}"))
            }
            Err(err) => unanswered(AREA, what, &err),
        }
    }
}

fn judge(what: String, hours: &[RateLimit]) -> Check {
    if hours.is_empty() {
        return Check::ok(AREA, what, "this GitHub sets no limits");
    }
    let told = hours.iter().map(|hour| {
        let until = hour.resets_at.format("%H:%M:%S UTC");
        format!("{}: {} of {} left until {until}", hour.resource, hour.remaining, hour.limit)
    });
    let detail = told.collect::<Vec<_>>().join("; ");
    match hours.iter().map(state).max() {
        Some(Health::Fault) => used_up(what, detail),
        Some(Health::Warning) => Check::warning(AREA, what, Code::BudgetLow, detail)
            .advise(format!("targets are swept less often; {SAVE_CALLS}")),
        _ => Check::ok(AREA, what, detail),
    }
}

fn state(hour: &RateLimit) -> Health {
    match hour.remaining {
        left if left <= hour.floor => Health::Fault,
        left if left < hour.limit / 4 => Health::Warning,
        _ => Health::Ok,
    }
}

const SAVE_CALLS: &str =
    "to save calls, set a longer SYNC_INTERVAL_SECONDS, or use an App that nothing else uses";

fn used_up(what: String, detail: String) -> Check {
    Check::fault(AREA, what, Code::BudgetUsedUp, detail).advise(format!(
        "until then provisions are answered with GITHUB_RATE_LIMITED, and what is left is for removals; {SAVE_CALLS}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcest_hour_decides() {
        let hour = |remaining| RateLimit {
            resource: "core",
            limit: 5_000,
            remaining,
            floor: 50,
            resets_at: chrono::DateTime::UNIX_EPOCH,
        };
        for (left, state) in
            [(5_000, Health::Ok), (1_250, Health::Ok), (1_249, Health::Warning), (50, Health::Fault)]
        {
            assert_eq!(judge("x".into(), &[hour(5_000), hour(left)]).state, state, "{left}");
        }
        assert_eq!(judge("x".into(), &[]).state, Health::Ok);
    }
}
