//! Webhooks that did not arrive: GitHub sends nothing again by itself, so the leader asks for it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use metrics::counter;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::event_label;
use crate::broker::events::{About, Actor, Kind, record};
use crate::broker::lease::fence;
use crate::broker::{Broker, Error};
use crate::github::{self, Deadline, FailedDelivery};
use crate::store::audit::NewEvent;
use crate::store::deliveries::Redelivery;
use crate::store::leases::Lease;
use crate::store::{deliveries, leases};

/// How long each request for a delivery may take to come to something, in minutes: a minute less than 10, 20, 40 …
/// and at last 6 hours, since the next round may be a little early. Together they are just less than three days,
/// after which GitHub knows of nothing.
const PAUSES: [i32; 16] = [9, 19, 39, 79, 159, 319, 359, 359, 359, 359, 359, 359, 359, 359, 359, 359];

/// GitHub forgets deliveries after three days.
const REMEMBERED: TimeDelta = TimeDelta::days(3);

/// How far a listing goes back behind the end of the last one: a delivery is listed once it has failed, which is
/// after it was sent, and clocks differ.
const OVERLAP: TimeDelta = TimeDelta::minutes(15);

/// The most pages of a listing; the next goes on, since nothing is noted before the end.
const MOST_PAGES: usize = 100;

/// So many are asked for in one round; the next goes on.
const MOST_REQUESTS: usize = 300;

/// Less than this is not enough of a lease to begin something that cannot be fenced.
const MIN_LEASE_LEFT: Duration = Duration::from_millis(500);

impl Broker {
    /// Lists what failed since the last time and has each of it sent again, at most one in each `pace`, as GitHub
    /// wants it; how many.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`], [`Error::GitHub`] or [`Error::Store`].
    pub async fn redeliver_failed(&self, lease: &Lease, pace: Duration) -> Result<usize, Error> {
        let begun = self.clock.now();
        let mut conn = self.store.conn().await?;
        let last = deliveries::listed_until(&mut conn).await?;
        drop(conn);
        let since = last.map_or(begun - REMEMBERED, |until| (until - OVERLAP).max(begun - REMEMBERED));
        let (failed, is_whole) = self.failed_since(since).await?;
        let mut sent = 0;
        // Listed again the next time, until it has arrived or is given up.
        let mut until = begun;
        // The oldest first, as they would have come.
        let mut rest = failed.iter().rev();
        for delivery in rest.by_ref() {
            let outcome = self.redeliver(lease, delivery).await;
            let was_asked = matches!(outcome, Ok(Redelivery::Claimed) | Err(_));
            if !matches!(outcome, Ok(Redelivery::GaveUp | Redelivery::GivenUp)) {
                until = until.min(delivery.delivered_at);
            }
            match outcome {
                Ok(Redelivery::Claimed) => sent += 1,
                Ok(Redelivery::NotYet | Redelivery::GaveUp | Redelivery::GivenUp) => {}
                Err(Error::GitHub(err)) => {
                    tracing::warn!(delivery = delivery.guid, error = %err, "a failed webhook was not sent again");
                    counter!("webhook_redeliveries_total", "outcome" => "failed").increment(1);
                    if matches!(err, github::Error::RateLimited { .. }) {
                        break;
                    }
                }
                Err(err) => return Err(err),
            }
            if sent == MOST_REQUESTS {
                break;
            }
            if was_asked {
                sleep(pace).await;
            }
        }
        until = rest.map(|delivery| delivery.delivered_at).fold(until, Ord::min);
        if is_whole {
            self.store
                .transaction::<_, Error, _>(async |conn| {
                    fence(conn, Some(lease)).await?;
                    Ok(deliveries::note_listing(conn, until).await?)
                })
                .await?;
        }
        Ok(sent)
    }

    /// The failures that matter, the newest first, each delivery once; and whether these are all of them.
    async fn failed_since(&self, since: DateTime<Utc>) -> Result<(Vec<FailedDelivery>, bool), Error> {
        let mut found: Vec<FailedDelivery> = Vec::new();
        let mut cursor: Option<String> = None;
        let mut is_whole = false;
        for _ in 0..MOST_PAGES {
            let page = self.github.failed_deliveries(cursor.as_deref(), self.deadline()).await?;
            let reached_the_known = page.deliveries.last().is_none_or(|last| last.delivered_at < since);
            found.extend(page.deliveries.into_iter().filter(|delivery| delivery.delivered_at >= since));
            cursor = page.next;
            is_whole = reached_the_known || cursor.is_none();
            if is_whole {
                break;
            }
        }
        if !is_whole {
            tracing::warn!(pages = MOST_PAGES, "more webhooks have failed than are listed at a time");
        }
        found.retain(|delivery| !matches!(event_label(&delivery.event), "ping" | "other"));
        let mut seen = std::collections::HashSet::new();
        found.retain(|delivery| seen.insert(delivery.guid.clone()));
        let guids: Vec<&str> = found.iter().map(|delivery| delivery.guid.as_str()).collect();
        let mut conn = self.store.conn().await?;
        let received = deliveries::known(&mut conn, &guids).await?;
        drop(conn);
        // Those came after all: our answer was lost, or another attempt did it.
        found.retain(|delivery| !received.contains(&delivery.guid));
        Ok((found, is_whole))
    }

    /// The claim is written first, so no later leader asks for the same delivery. A replica that was suspended after
    /// its claim until its lease had ended does not ask either.
    async fn redeliver(&self, lease: &Lease, failed: &FailedDelivery) -> Result<Redelivery, Error> {
        let asked_at = Instant::now();
        let now = self.clock.now();
        let (claimed, left) = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                let claimed =
                    deliveries::claim_redelivery(conn, &failed.guid, failed.id, &PAUSES, now).await?;
                if claimed == Redelivery::GaveUp {
                    record(conn, self.gave_up(failed)).await?;
                }
                Ok((claimed, leases::remaining(conn, lease).await?))
            })
            .await?;
        if claimed == Redelivery::GaveUp {
            tracing::error!(delivery = failed.guid, event = failed.event, "a failed webhook is given up");
            counter!("webhook_redeliveries_total", "outcome" => "given_up").increment(1);
        }
        if claimed != Redelivery::Claimed {
            return Ok(claimed);
        }
        let until = asked_at + left.unwrap_or_default();
        let left = until.saturating_duration_since(Instant::now());
        if left < MIN_LEASE_LEFT {
            // The next leader finds the claim given back. If that is refused, there is a new leader already.
            self.release(lease, failed).await?;
            return Err(Error::LeaseLost);
        }
        match self.github.redeliver(failed.id, Deadline::within(left.min(self.github_timeout))).await {
            Ok(()) => {
                tracing::info!(
                    delivery = failed.guid,
                    event = failed.event,
                    "a failed webhook is sent again"
                );
                counter!("webhook_redeliveries_total", "outcome" => "sent").increment(1);
                Ok(Redelivery::Claimed)
            }
            // It may have been sent: if it was and failed, it is listed anew.
            Err(err) if err.lost_answer() => Err(err.into()),
            Err(err) => {
                self.release(lease, failed).await?;
                Err(err.into())
            }
        }
    }

    fn gave_up(&self, failed: &FailedDelivery) -> NewEvent {
        let mut event = self.event(Kind::WebhookDeliverySetAside, Actor::System("webhooks")).with(json!({
            "delivery": failed.guid,
            "event": failed.event,
            "attempts": PAUSES.len(),
            "received_at": null,
        }));
        event.error_message = Some("it failed whenever GitHub sent it".to_owned());
        event
    }

    async fn release(&self, lease: &Lease, failed: &FailedDelivery) -> Result<(), Error> {
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                Ok(deliveries::release_redelivery(conn, &failed.guid).await?)
            })
            .await
    }
}
