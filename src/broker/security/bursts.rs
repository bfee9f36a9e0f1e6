//! Teams and callers that ask for far more runners than they use to: a stolen token, or a loop.
//!
//! The leader looks once a minute with one statement: teams and callers with 20 provisions or more within 5 minutes,
//! and only for these what was usual. Bursts of refused tokens are counted in each replica, where they are refused.

use chrono::TimeDelta;
use serde_json::json;

use crate::broker::events::{About, Actor, Kind, record_all};
use crate::broker::lease::fence;
use crate::broker::{Broker, Error};
use crate::store::leases::Lease;
use crate::store::security::{self, Unusual};

/// What is compared with what is usual: the provisions of so long.
const WINDOW: TimeDelta = TimeDelta::minutes(5);

/// What is usual is the average of those windows of this time in which there were any at all. CI comes in
/// waves: the average over nights and weekends would make a burst of every morning.
const HISTORY: TimeDelta = TimeDelta::days(7);

/// Fewer are nothing to speak of.
const LEAST: i64 = 20;

/// So many times the usual number is too many.
const FACTOR: f64 = 4.0;

/// How long one burst may last. By then it is among what is usual.
const ONE_BURST: TimeDelta = TimeDelta::hours(1);

impl Broker {
    /// Looks for bursts of provisions and records each once; how many there were.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] or [`Error::Store`].
    pub async fn watch_provisions(&self, lease: &Lease) -> Result<usize, Error> {
        let now = self.clock.now();
        let unusual = Unusual {
            since: now - WINDOW,
            now,
            history_since: now - HISTORY,
            reported_since: now - ONE_BURST,
            least: LEAST,
            factor: FACTOR,
        };
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                let bursts = security::bursts(conn, &unusual).await?;
                let events: Vec<_> = bursts
                    .into_iter()
                    .map(|burst| {
                        let mut event =
                            self.event(Kind::ProvisionBurst, Actor::System("watch")).with(json!({
                                "count": burst.recent,
                                "within_seconds": WINDOW.num_seconds(),
                                "usual_count": burst.usual,
                            }));
                        event.team = burst.team;
                        event.issuer = burst.issuer;
                        event.subject = burst.subject;
                        event
                    })
                    .collect();
                if !events.is_empty() {
                    record_all(conn, &events).await?;
                }
                Ok(events.len())
            })
            .await
    }
}
