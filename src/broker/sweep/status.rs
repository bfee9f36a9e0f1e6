//! How the sweep stands: who leads, what became of each target's last sweep, and what is overdue.

use chrono::{DateTime, Utc};

use crate::broker::lease::LEADER;
use crate::broker::{Broker, Error};
use crate::model::Target;
use crate::store::leases::{self, Held};
use crate::store::runners::{self, Backlog};
use crate::store::sync_targets::{self, SyncTarget};

/// A target that no whole list has been read of for so many intervals is overdue.
const INTERVALS: i32 = 3;

/// What an operator looks at first.
#[derive(Debug)]
pub struct SyncStatus {
    /// `None`: nobody has ever led.
    pub lease: Option<Held>,
    /// Every target that is swept, with its last sweep.
    pub targets: Vec<SyncTarget>,
    /// Counts of rows that wait for the sweep.
    pub backlog: Backlog,
    /// Targets of which no whole list was read in time.
    pub unswept: Vec<Target>,
}

impl Broker {
    /// The same on every replica.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn sync_status(&self) -> Result<SyncStatus, Error> {
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
}
