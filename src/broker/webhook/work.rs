//! Working off what was delivered: claimed for a while, tried again after growing pauses, set aside in the end.

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::{StreamExt, stream};
use metrics::{counter, gauge, histogram};
use serde_json::json;

use super::{Lane, Webhook};
use crate::broker::events::{About, Actor, Kind, record};
use crate::broker::lease::fence;
use crate::broker::{Broker, Error};
use crate::github;
use crate::model::Backoff;
use crate::store;
use crate::store::deliveries::{self, Delivery};
use crate::store::jobs;
use crate::store::leases::Lease;

/// So many deliveries of jobs are worked off at once, in a few statements.
const BATCH: i64 = 200;

/// So many deliveries wait for GitHub at the same time.
const AT_ONCE: i64 = 8;

/// After so many attempts a delivery is set aside: about an hour.
const MOST_ATTEMPTS: i32 = 12;

/// Between two attempts at a delivery.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(15 * 60));

/// How long a claim lasts beyond what GitHub may take.
const SPARE: Duration = Duration::from_secs(60);

/// Finished deliveries are kept for longer than GitHub sends any of them again.
const KEPT: TimeDelta = TimeDelta::days(10);

/// How long a job is kept that has ended, and one of which no delivery told any more.
const COMPLETED_KEPT: TimeDelta = TimeDelta::days(90);
const OTHERS_KEPT: TimeDelta = TimeDelta::days(7);

/// Where counting the backlog stops.
const MOST_COUNTED: i64 = 100_000;

/// The result of one delivery.
pub(super) enum Done {
    Finished,
    /// Its labels are yet to be checked.
    ToPolicy,
}

/// Why it did not come off: whether trying again may help.
pub(super) enum Failure {
    Poison(String),
    Error(Error),
}

impl From<Error> for Failure {
    fn from(err: Error) -> Failure {
        Failure::Error(err)
    }
}

impl From<store::Error> for Failure {
    fn from(err: store::Error) -> Failure {
        Failure::Error(err.into())
    }
}

impl From<crate::github::Error> for Failure {
    fn from(err: crate::github::Error) -> Failure {
        Failure::Error(err.into())
    }
}

impl Failure {
    /// Postgres is away: nothing is the delivery's fault, and nothing can be written about it either.
    fn is_outage(&self) -> bool {
        matches!(self, Failure::Error(Error::Store(store::Error::Unavailable(_))))
    }
}

impl Broker {
    /// Works off everything that is due, in every lane; how many deliveries were taken up.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn work_off(&self) -> Result<usize, Error> {
        let mut all = 0;
        loop {
            let mut taken = 0;
            for lane in Lane::ALL {
                taken += self.work_off_lane(lane).await?;
            }
            all += taken;
            if taken == 0 {
                return Ok(all);
            }
        }
    }

    /// Works off the next few of a lane; how many were taken up.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn work_off_lane(&self, lane: Lane) -> Result<usize, Error> {
        let now = self.clock.now();
        let limit = if lane == Lane::Jobs { BATCH } else { AT_ONCE };
        let until = now + TimeDelta::from_std(2 * self.longest() + SPARE).unwrap_or(TimeDelta::MAX);
        let mut conn = self.store.conn().await?;
        let claimed = deliveries::claim(&mut conn, lane.as_str(), now, until, limit).await?;
        drop(conn);
        let taken = claimed.len();
        if taken == 0 {
            return Ok(0);
        }
        let read = claimed.into_iter().map(|delivery| {
            let content = serde_json::from_value(delivery.content.clone());
            (delivery, content.unwrap_or_else(|err| Webhook::Unreadable { why: err.to_string() }))
        });
        match lane {
            Lane::Jobs => self.work_off_jobs(read.collect()).await?,
            Lane::Installations | Lane::Policy => {
                let mut under_way = stream::iter(read)
                    .map(|(delivery, content)| async move {
                        let done = self.ask_about(&delivery, &content).await;
                        self.conclude(&[(delivery, ())], vec![done]).await
                    })
                    .buffer_unordered(AT_ONCE as usize);
                let mut result = Ok(());
                while let Some(concluded) = under_way.next().await {
                    result = result.and(concluded);
                }
                result?;
            }
        }
        Ok(taken)
    }

    async fn ask_about(&self, delivery: &Delivery, content: &Webhook) -> Result<Done, Failure> {
        match content {
            Webhook::Installation(what) => self.confirm_installation(&delivery.id, what).await?,
            Webhook::Repositories(what) => self.confirm_repositories(what).await?,
            Webhook::Job(job) => {
                let is_last = delivery.attempts >= MOST_ATTEMPTS;
                self.check_labels(job, is_last).await?;
            }
            Webhook::Unreadable { why } => return Err(Failure::Poison(why.clone())),
            Webhook::Ping | Webhook::Unused => {}
        }
        Ok(Done::Finished)
    }

    /// A batch in as few statements as one, unless one of it is poison: then each alone.
    async fn work_off_jobs(&self, batch: Vec<(Delivery, Webhook)>) -> Result<(), Error> {
        let (mut jobs, mut others) = (Vec::new(), Vec::new());
        for (delivery, content) in batch {
            match content {
                Webhook::Job(job) => jobs.push((delivery, job)),
                Webhook::Unreadable { why } => others.push((delivery, why)),
                _ => others.push((delivery, "not of this lane".to_owned())),
            }
        }
        for (delivery, why) in others {
            self.try_later(&delivery, Failure::Poison(why)).await?;
        }
        match self.follow_jobs(&jobs).await {
            Ok(outcomes) => self.conclude(&jobs, outcomes).await,
            Err(failure) if failure.is_outage() || jobs.len() == 1 => match jobs.first() {
                Some((delivery, _)) => self.try_later(delivery, failure).await,
                None => Ok(()),
            },
            Err(_) => {
                for job in jobs {
                    let alone = std::slice::from_ref(&job);
                    match self.follow_jobs(alone).await {
                        Ok(outcomes) => self.conclude(alone, outcomes).await?,
                        Err(failure) => self.try_later(&job.0, failure).await?,
                    }
                }
                Ok(())
            }
        }
    }

    async fn conclude<T>(
        &self,
        batch: &[(Delivery, T)],
        outcomes: Vec<Result<Done, Failure>>,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let (mut finished, mut handed_on) = (Vec::new(), Vec::new());
        for ((delivery, _), outcome) in batch.iter().zip(outcomes) {
            match outcome {
                Ok(Done::Finished) => finished.push(delivery),
                Ok(Done::ToPolicy) => handed_on.push(delivery.id.as_str()),
                Err(failure) => self.try_later(delivery, failure).await?,
            }
        }
        let ids: Vec<&str> = finished.iter().map(|delivery| delivery.id.as_str()).collect();
        self.store
            .transaction::<_, Error, _>(async |conn| {
                if !ids.is_empty() {
                    deliveries::finish(conn, &ids, now).await?;
                }
                if !handed_on.is_empty() {
                    deliveries::move_to_lane(conn, &handed_on, Lane::Policy.as_str(), now).await?;
                }
                Ok(())
            })
            .await?;
        finished.into_iter().for_each(|delivery| self.count_finished(delivery));
        if !handed_on.is_empty() {
            self.wake_lane(Lane::Policy);
        }
        Ok(())
    }

    fn count_finished(&self, delivery: &Delivery) {
        let waited = (self.clock.now() - delivery.received_at).to_std().unwrap_or_default();
        histogram!("webhook_delay_seconds").record(waited.as_secs_f64());
        counter!("webhook_worked_off_total", "outcome" => "finished").increment(1);
    }

    /// Postpones a delivery that failed, or sets it aside.
    async fn try_later(&self, delivery: &Delivery, failure: Failure) -> Result<(), Error> {
        if failure.is_outage() {
            // The claim ends by itself.
            let Failure::Error(err) = failure else { return Ok(()) };
            return Err(err);
        }
        let (why, is_poison) = match &failure {
            Failure::Poison(why) => (why.clone(), true),
            Failure::Error(err) => (err.to_string(), false),
        };
        let now = self.clock.now();
        if let Failure::Error(Error::GitHub(github::Error::RateLimited { until })) = &failure {
            tracing::warn!(delivery = delivery.id, event = delivery.event, %until, "a webhook waits for GitHub's limit");
            counter!("webhook_worked_off_total", "outcome" => "put_off").increment(1);
            let mut conn = self.store.conn().await?;
            let next = (*until).max(now + TimeDelta::seconds(1));
            return Ok(deliveries::defer(&mut conn, &delivery.id, &why, next).await?);
        }
        if is_poison || delivery.attempts >= MOST_ATTEMPTS {
            return self.dead_letter(delivery, &why).await;
        }
        let pause = BACKOFF.delta_after(delivery.attempts);
        tracing::warn!(
            delivery = delivery.id,
            event = delivery.event,
            error = why,
            "a webhook is tried again later"
        );
        counter!("webhook_worked_off_total", "outcome" => "failed").increment(1);
        let mut conn = self.store.conn().await?;
        Ok(deliveries::retry_at(&mut conn, &delivery.id, &why, now + pause).await?)
    }

    async fn dead_letter(&self, delivery: &Delivery, why: &str) -> Result<(), Error> {
        let mut event = self.event(Kind::WebhookDeliverySetAside, Actor::System("webhooks")).with(json!({
            "delivery": delivery.id,
            "event": delivery.event,
            "attempts": delivery.attempts,
            "received_at": delivery.received_at,
        }));
        event.error_message = Some(why.to_owned());
        let now = event.timestamp;
        let id = &delivery.id;
        self.store
            .transaction::<_, Error, _>(async |conn| {
                match deliveries::dead_letter(conn, id, why, now).await? {
                    true => record(conn, event).await,
                    false => Ok(()),
                }
            })
            .await?;
        tracing::error!(
            delivery = delivery.id,
            event = delivery.event,
            error = why,
            "a webhook is set aside"
        );
        counter!("webhook_worked_off_total", "outcome" => "set_aside").increment(1);
        Ok(())
    }

    /// Forgets deliveries and jobs that are long over, and tells how many deliveries wait.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] or [`Error::Store`].
    pub async fn tidy_webhooks(&self, lease: &Lease) -> Result<(), Error> {
        let now = self.clock.now();
        let before = now - KEPT;
        let waiting = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                deliveries::forget(conn, before, 10_000).await?;
                jobs::forget(conn, now - COMPLETED_KEPT, now - OTHERS_KEPT, 10_000).await?;
                Ok(deliveries::backlog(conn, MOST_COUNTED).await?)
            })
            .await?;
        gauge!("webhook_backlog").set(waiting as f64);
        Ok(())
    }
}
