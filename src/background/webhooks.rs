//! The loops around webhooks: every replica works off what was delivered; the leader has failed deliveries sent
//! again, looks at what is blocked, and reports jobs that nobody takes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::report;
use crate::broker::Broker;
use crate::broker::webhook::Lane;
use crate::store::leases::Lease;

/// How often a lane is looked at that nobody here was woken for: another replica may have received something.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What comes within so long is worked off together.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// After a failure, which is likely to be Postgres'.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Works off one lane until `stop`.
pub(super) async fn work_off(broker: Arc<Broker>, lane: Lane, stop: CancellationToken) {
    loop {
        // Broken off at the end: what is claimed is taken up again by somebody.
        let worked = tokio::select! {
            () = stop.cancelled() => return,
            worked = broker.work_off_lane(lane) => worked,
        };
        let pause = match worked {
            Ok(0) => POLL_INTERVAL,
            Ok(_) => DEBOUNCE,
            Err(err) => {
                tracing::warn!(error = %err, lane = lane.as_str(), "could not process webhooks");
                RETRY_AFTER
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
            () = async { broker.delivered(lane).await; sleep(DEBOUNCE).await }, if pause == POLL_INTERVAL => {}
        }
    }
}

/// The leader has failed deliveries sent again, which takes its time when there are many.
pub(super) async fn redeliver(broker: Arc<Broker>, lease: Lease, stop: CancellationToken) {
    const ROUND: Duration = Duration::from_secs(600);
    /// GitHub wants a second between two requests that change something.
    const PACE: Duration = Duration::from_secs(1);
    while !stop.is_cancelled() && broker.expects_webhooks() {
        let round = async {
            let begun = Instant::now();
            let sent = broker.redeliver_failed(&lease, PACE).await.map(|_| ());
            report("list failed webhook deliveries", sent);
            sleep_until(begun + ROUND).await;
        };
        // May be interrupted anywhere: a claim that came to nothing is made anew.
        tokio::select! {
            () = stop.cancelled() => return,
            () = round => {}
        }
    }
}

/// What else the leader does about webhooks, each by its own clock.
pub(super) async fn tend(broker: Arc<Broker>, lease: Lease, stop: CancellationToken) {
    const RECHECK: Duration = Duration::from_secs(60);
    const UNMATCHED: Duration = Duration::from_secs(20);
    let mut due = [Instant::now(); 2];
    while !stop.is_cancelled() {
        let round = async {
            let now = Instant::now();
            if due[0] <= now {
                due[0] = now + RECHECK;
                report("recheck blocked targets", broker.recheck_installations(&lease).await);
                report("clean up webhooks", broker.tidy_webhooks(&lease).await);
            }
            if due[1] <= now {
                due[1] = now + UNMATCHED;
                let reported = broker.report_unmatched(&lease).await.map(|_| ());
                report("report jobs that no runner fits", reported);
            }
            sleep(POLL_INTERVAL).await;
        };
        // May be interrupted anywhere, as the sweep.
        tokio::select! {
            () = stop.cancelled() => return,
            () = round => {}
        }
    }
}
