//! How the sweep stands: who leads, what became of each target's last sweep, and what is overdue.

use chrono::{DateTime, Utc};

use crate::broker::caller::Caller;
use crate::broker::events::{About, Actor, Kind, record};
use crate::broker::{Broker, Error};
use crate::model::{Role, Target};
use crate::store::leases::{self, Held};
use crate::store::runners::{self, Backlog};
use crate::store::sync_targets::{self, SyncTarget};

use super::LEADER;

/// A target that no whole list has been read of for so many intervals is overdue.
const INTERVALS: i32 = 3;

/// What an operator looks at first.
#[derive(Debug)]
pub struct SyncStatus {
    /// `None`: nobody has ever led.
    pub lease: Option<Held>,
    pub targets: Vec<SyncTarget>,
    pub backlog: Backlog,
    /// Targets of which no whole list was read in time.
    pub unswept: Vec<Target>,
}

impl Broker {
    /// For admins and auditors; the same on every replica.
    pub async fn sync_status(&self, caller: &Caller) -> Result<SyncStatus, Error> {
        if !caller.has(Role::Admin) && !caller.has(Role::Auditor) {
            return Err(self.refuse_to_show(caller).await?);
        }
        let now = self.clock.now();
        let mut conn = self.store.conn().await?;
        let lease = leases::held(&mut conn, LEADER).await?;
        let targets = sync_targets::all(&mut conn).await?;
        let backlog = runners::backlog(&mut conn, now, now - self.interrupted_after()).await?;
        drop(conn);
        let late = self.config.sync_enabled.then(|| self.late_before(now)).flatten();
        let is_late = |target: &&SyncTarget| {
            late.is_some_and(|late| target.completed_at.unwrap_or(target.created_at) < late)
        };
        let unswept = targets.iter().filter(is_late).map(|target| target.target.clone()).collect();
        Ok(SyncStatus { lease, targets, backlog, unswept })
    }

    fn late_before(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let interval = chrono::TimeDelta::from_std(self.config.sync_interval).ok()?;
        now.checked_sub_signed(interval.checked_mul(INTERVALS)?)
    }

    async fn refuse_to_show(&self, caller: &Caller) -> Result<Error, Error> {
        if caller.is_stranger() {
            self.note_refused_stranger(caller, &Error::Forbidden).await?;
            return Ok(Error::Forbidden);
        }
        let event = self.event(Kind::AccessRefused, Actor::Caller(caller)).because(&Error::Forbidden);
        let event = event.with(serde_json::json!({ "asked_for": "sync status" }));
        self.store.transaction::<_, Error, _>(async |conn| record(conn, event).await).await?;
        Ok(Error::Forbidden)
    }
}
