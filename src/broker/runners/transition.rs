//! How a row changes its state: with its event, in one transaction, and never by a leader that leads no more.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::broker::events::{Actor, record};
use crate::broker::lease::fence;
use crate::broker::{Broker, Error};
use crate::model::{Backoff, Status};
use crate::store::audit::NewEvent;
use crate::store::leases::Lease;
use crate::store::runners::{self, Change, Runner};

/// Between two attempts at a runner that GitHub would not remove: 1, 2, 4, … 15 minutes.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(15 * 60));

/// Who changes something, why, and under which lease if it is the leader.
#[derive(Clone, Copy)]
pub(in crate::broker) struct Cause<'a> {
    /// Who changes it.
    pub actor: Actor<'a>,
    /// The reason, for the event.
    pub reason: &'static str,
    /// The leader's lease; `None`: a caller's request.
    pub lease: Option<&'a Lease>,
}

impl Broker {
    /// Changes a row that is still as it was seen, with its event, in one transaction.
    pub(in crate::broker) async fn move_runner(
        &self,
        lease: Option<&Lease>,
        seen: &Runner,
        change: &Change,
        event: NewEvent,
    ) -> Result<Option<Runner>, Error> {
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, lease).await?;
                let moved = runners::change(conn, seen, change).await?;
                if moved.is_some() {
                    record(conn, event).await?;
                }
                Ok(moved)
            })
            .await
    }

    /// As `move_runner`, by facts that were true at `at`; without an event where the state stays.
    pub(in crate::broker) async fn follow_facts(
        &self,
        lease: Option<&Lease>,
        seen: &Runner,
        change: &Change,
        at: DateTime<Utc>,
        event: Option<NewEvent>,
    ) -> Result<Option<Runner>, Error> {
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, lease).await?;
                let moved = runners::follow(conn, seen, change, at).await?;
                if let (Some(_), Some(event)) = (&moved, event) {
                    record(conn, event).await?;
                }
                Ok(moved)
            })
            .await
    }

    /// For what is no change of state: the count of attempts, the next one's time.
    pub(in crate::broker) async fn change_silently(
        &self,
        lease: Option<&Lease>,
        seen: &Runner,
        change: &Change,
    ) -> Result<Option<Runner>, Error> {
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, lease).await?;
                Ok(runners::change(conn, seen, change).await?)
            })
            .await
    }
}

/// The change of a row whose runner GitHub has no more.
pub(in crate::broker) fn gone(status: Status, now: DateTime<Utc>) -> Change {
    Change {
        status: Some(status.as_str()),
        busy: Some(false),
        updated_at: Some(now),
        facts_at: Some(now),
        deleted_at: Some(now),
        ..Change::default()
    }
}

/// One attempt more that failed at `now`: again at once, then after 1, 2, 4, … 15 minutes.
pub(in crate::broker) fn tried(row: &Runner, now: DateTime<Utc>) -> Change {
    let after = match row.delete_attempts {
        ..1 => now,
        attempts => now + pause(attempts - 1),
    };
    Change {
        delete_attempts: Some(row.delete_attempts.saturating_add(1)),
        delete_after: Some(Some(after)),
        ..Change::default()
    }
}

/// 1, 2, 4, … 15 minutes.
pub(in crate::broker) fn pause(attempts: i32) -> TimeDelta {
    BACKOFF.delta_after(attempts.saturating_add(1))
}
