//! Webhooks that did not arrive: GitHub sends nothing again by itself, so the leader asks for it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use metrics::counter;
use tokio::time::Instant;

use super::event_label;
use crate::broker::moves::fence;
use crate::broker::{Broker, Error};
use crate::github::{Deadline, FailedDelivery};
use crate::store::leases::Lease;
use crate::store::{deliveries, leases};

/// How often one delivery is asked for again, if it fails each time.
const MOST_ATTEMPTS: i32 = 5;

/// GitHub forgets deliveries after three days.
const REMEMBERED: TimeDelta = TimeDelta::days(3);

/// How far a listing goes back behind the end of the last one: a delivery is listed once it has failed, which is
/// after it was sent, and clocks differ.
const OVERLAP: TimeDelta = TimeDelta::minutes(15);

/// The most pages of a listing; the next goes on, since nothing is noted before the end.
const MOST_PAGES: usize = 100;

/// What was asked for so long ago has arrived or failed anew; if neither, it was never asked for.
const STALE: TimeDelta = TimeDelta::minutes(9);

/// Less than this is not enough of a lease to begin something that cannot be fenced.
const SPARE: Duration = Duration::from_millis(500);

impl Broker {
    /// Lists what failed since the last time and has each of it sent again, once for each failure; how many.
    pub async fn redeliver_failed(&self, lease: &Lease) -> Result<usize, Error> {
        let begun = self.clock.now();
        let mut conn = self.store.conn().await?;
        let last = deliveries::listed_until(&mut conn).await?;
        drop(conn);
        let since = last.map_or(begun - REMEMBERED, |until| (until - OVERLAP).max(begun - REMEMBERED));
        let failed = self.failed_since(since).await?;
        let mut sent = 0;
        let mut complete = true;
        // The oldest first, as they would have come.
        for delivery in failed.iter().rev() {
            match self.redeliver(lease, delivery).await {
                Ok(was_sent) => sent += usize::from(was_sent),
                Err(Error::GitHub(err)) => {
                    tracing::warn!(delivery = delivery.guid, error = %err, "a failed webhook was not sent again");
                    counter!("webhook_redeliveries_total", "outcome" => "failed").increment(1);
                    complete = false;
                }
                Err(err) => return Err(err),
            }
        }
        if complete {
            self.store
                .transaction::<_, Error, _>(async |conn| {
                    fence(conn, Some(lease)).await?;
                    Ok(deliveries::note_listing(conn, begun).await?)
                })
                .await?;
        }
        Ok(sent)
    }

    /// The failures that matter, the newest first, each delivery once.
    async fn failed_since(&self, since: DateTime<Utc>) -> Result<Vec<FailedDelivery>, Error> {
        let mut found: Vec<FailedDelivery> = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let page = self.github.failed_deliveries(cursor.as_deref(), self.deadline()).await?;
            let reached_the_known = page.deliveries.last().is_none_or(|last| last.delivered_at < since);
            found.extend(page.deliveries.into_iter().filter(|delivery| delivery.delivered_at >= since));
            cursor = page.next;
            if reached_the_known || cursor.is_none() {
                break;
            }
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
        Ok(found)
    }

    /// The claim is written first, so that no successor asks for the same; and whoever was frozen after it until
    /// his lease had ended does not ask either.
    async fn redeliver(&self, lease: &Lease, failed: &FailedDelivery) -> Result<bool, Error> {
        let asked_at = Instant::now();
        let now = self.clock.now();
        let (claimed, left) = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                let most = MOST_ATTEMPTS;
                let claimed =
                    deliveries::claim_redelivery(conn, &failed.guid, failed.id, most, now, now - STALE)
                        .await?;
                Ok((claimed, leases::remaining(conn, lease).await?))
            })
            .await?;
        if !claimed {
            return Ok(false);
        }
        let until = asked_at + left.unwrap_or_default();
        let left = until.saturating_duration_since(Instant::now());
        if left < SPARE {
            // Whoever leads now finds the claim given back; if that is refused, it is he who leads.
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
                Ok(true)
            }
            // It may have been sent: if it was and failed, it is listed anew.
            Err(err) if err.lost_answer() => Err(err.into()),
            Err(err) => {
                self.release(lease, failed).await?;
                Err(err.into())
            }
        }
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
