//! Posting security events to the configured webhook. An event waits in `alerts` from its own transaction on, until
//! it is told of by a post, which waits in `alert_posts` until somebody took it. Events that are alike are one post:
//! a caller who is refused a thousand times a minute makes one, and keeps nobody else's waiting. No caller waits for
//! any of that, and no connection is held while the receiver answers.
//!
//! Under an advisory lock one replica at a time moves waiting events into `alert_posts`: a row for all events of one
//! type and one caller (else team, else target), unless one was made for them within the last minute. Writers of
//! events only insert, so they never wait for each other. Each replica claims a batch (the gravest first, `FOR UPDATE
//! SKIP LOCKED`, due again in a minute), posts without a connection in hand, and finishes or defers each. A post
//! never changes, so every attempt says the same.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use metrics::{counter, gauge};
use serde_json::{Value, json};

use crate::alerts::Poster;
use crate::broker::events::classify;
use crate::broker::{Broker, Error};
use crate::model::Backoff;
use crate::store::alerts::{self, Post};
use crate::store::audit::{self, Event};

/// How many are posted at once.
const BATCH: i64 = 16;

/// After a post, events that are alike wait for so long, and are then one post together.
const WINDOW: TimeDelta = TimeDelta::minutes(1);

/// How long one replica may be at one before another tries: far longer than `Poster` takes.
const HELD: TimeDelta = TimeDelta::minutes(1);

/// Between two attempts at a post.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(15 * 60));

/// What cannot be posted within this is given up. The log keeps it in any case.
const LIFE: TimeDelta = TimeDelta::days(1);

/// What one round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Posts that were accepted.
    pub posted: usize,
    /// Posts that will be tried again.
    pub put_off: usize,
    /// Posts that are not tried again.
    pub given_up: usize,
}

impl Round {
    /// Whether more may be due, and the receiver takes them.
    pub fn goes_on(&self) -> bool {
        self.posted as i64 == BATCH
    }
}

impl Broker {
    /// Makes posts of the events that wait, and posts what is due, one batch; other replicas do the same beside it.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn post_alerts(&self, poster: &Poster) -> Result<Round, Error> {
        let now = self.clock.now();
        let claimed = self
            .store
            .transaction::<_, Error, _>(async |conn| {
                alerts::gather(conn, now, now - WINDOW).await?;
                let claimed = alerts::claim(conn, now, now + HELD, BATCH).await?;
                let ids: Vec<i64> = claimed.iter().map(|post| post.first_event_id).collect();
                let events = match ids.is_empty() {
                    true => Vec::new(),
                    false => audit::by_ids(conn, &ids).await?,
                };
                let (posts, waiting) = alerts::waiting(conn).await?;
                gauge!("broker_alerts_waiting").set(posts as f64);
                gauge!("broker_alert_events_waiting").set(waiting as f64);
                Ok(claimed
                    .into_iter()
                    .map(|post| {
                        let event = events.iter().find(|event| event.id == post.first_event_id).cloned();
                        (post, event)
                    })
                    .collect::<Vec<_>>())
            })
            .await?;
        let posting = claimed.into_iter().map(|(post, event)| self.post_alert(poster, post, event));
        let mut round = Round::default();
        for done in join_all(posting).await {
            match done? {
                Done::Posted => round.posted += 1,
                Done::Deferred => round.put_off += 1,
                Done::GivenUp => round.given_up += 1,
            }
        }
        Ok(round)
    }

    async fn post_alert(&self, poster: &Poster, post: Post, event: Option<Event>) -> Result<Done, Error> {
        let done = match event {
            // The log cannot lose a row; if it did, the verification of the log says so.
            None => Done::GivenUp,
            Some(event) => {
                let body = payload(&post, &event, self.clock.now()).to_string();
                match poster.post(body.into_bytes()).await {
                    Ok(()) => Done::Posted,
                    Err(err) => {
                        let (id, attempts) = (post.id, post.attempts);
                        tracing::warn!(alert = %id, attempts, error = %err, "a security event was not posted");
                        let due_at = self.clock.now() + BACKOFF.delta_after(attempts);
                        if due_at - post.created_at < LIFE {
                            let mut conn = self.store.conn().await?;
                            alerts::retry_at(&mut conn, &post, due_at).await?;
                            counter!("broker_alerts_total", "result" => "put_off").increment(1);
                            return Ok(Done::Deferred);
                        }
                        Done::GivenUp
                    }
                }
            }
        };
        let mut conn = self.store.conn().await?;
        alerts::finish(&mut conn, post.id).await?;
        let result = if done == Done::Posted { "posted" } else { "given_up" };
        counter!("broker_alerts_total", "result" => result).increment(1);
        if done == Done::GivenUp {
            let (events, first_event) = (post.events, post.first_event_id);
            tracing::error!(
                alert = %post.id, events, first_event, "security events could not be posted and are given up"
            );
        }
        Ok(done)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Posted,
    Deferred,
    GivenUp,
}

/// What is posted; `docs/ALERTS.md` describes it. `id` is the same at each attempt.
fn payload(post: &Post, event: &Event, now: DateTime<Utc>) -> Value {
    let kind = classify(&event.event_type, event.error_code.as_deref());
    json!({
        "id": post.id,
        "sent_at": now,
        "attempt": post.attempts,
        "type": kind.map(|kind| kind.as_str()),
        "severity": event.severity,
        "action_taken": post.action_taken,
        "count": post.events,
        "first_event_id": post.first_event_id,
        "last_event_id": post.last_event_id,
        "event": {
            "id": event.id,
            "timestamp": event.timestamp,
            "event_type": event.event_type,
            "severity": event.severity,
            "success": event.success,
            "user_identity": event.user_identity,
            "issuer": event.issuer,
            "subject": event.subject,
            "team": event.team,
            "runner_id": event.runner_id,
            "runner_name": event.runner_name,
            "target": event.target,
            "request_id": event.request_id,
            "request_ip": event.request_ip,
            "user_agent": event.user_agent,
            "policy_rule": event.policy_rule,
            "event_data": event.event_data,
            "error_code": event.error_code,
            "error_message": event.error_message,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_quarter_of_an_hour() {
        let seconds: Vec<i64> =
            (1..=10).map(|attempts| BACKOFF.delta_after(attempts).num_seconds()).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]);
    }
}
