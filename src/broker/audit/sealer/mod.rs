//! The sealer: committed events become leaves of the Merkle tree, and trees become checkpoints. Runs under the
//! leader's lease, beside everything else: code that writes events does not know of it.
//!
//! It takes the rows that have no leaf, in the order of their ids, as soon as their transactions lie below every
//! one that is under way. Its horizon is the id up to which all is sealed and nothing honest can be added any
//! more, so that it need not look at the whole log each time; a check does that, a part each time.

mod head;
mod horizon;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use metrics::{counter, gauge};
use serde_json::json;

use crate::broker::events::{About, Actor, Kind, record};
use crate::broker::lease::fence;
use crate::broker::{Broker, Error};
use crate::seal::report::reported_ids;
use crate::seal::tree::Frontier;
use crate::store::audit_sealing::{self, Horizon, Lag, Moment, Row};
use crate::store::leases::Lease;
use head::Stamp;
use horizon::{Candidate, Verdict, verdict};

/// How many rows are looked at, and at most sealed, at once: far from the statements' time limit.
const BATCH: i64 = 5_000;

/// How many rows are checked for a missing leaf in each pass.
const ROWS_PER_CHECK: i64 = 20_000;

/// How many rows one report names.
const NAMED: usize = 1_000;

/// Longer than a statement may take: a transaction that took an id from the sequence has its own id by then.
const SETTLED_AFTER: TimeDelta = TimeDelta::seconds(10);

/// A lag from which on people are told what holds the sealer back.
const WARN_AFTER_SECONDS: f64 = 10.0;

/// Rows that nobody can have added in an honest way, by what is wrong with them.
type Strange = Vec<(&'static str, Vec<i64>)>;

/// What a leader remembers between two passes. All of it can be lost.
#[derive(Debug)]
pub struct Sealer {
    tree: Option<Frontier>,
    candidate: Option<Candidate>,
    /// Up to which id [`Broker::find_unsealed_rows`] has come.
    checked_up_to: i64,
    settled_after: TimeDelta,
    told: Option<Instant>,
    has_reported_tree: bool,
    reported: Option<HashSet<i64>>,
    stamp: Stamp,
}

impl Default for Sealer {
    fn default() -> Sealer {
        Sealer {
            tree: None,
            candidate: None,
            checked_up_to: i64::MIN,
            settled_after: SETTLED_AFTER,
            told: None,
            has_reported_tree: false,
            reported: None,
            stamp: Stamp::default(),
        }
    }
}

impl Sealer {
    /// What was remembered may be ahead of what was committed.
    fn forget(&mut self) {
        self.tree = None;
        self.reported = None;
    }

    /// As `default`, for one who knows that no statement that writes an event is under way.
    pub fn at_rest() -> Sealer {
        Sealer { settled_after: TimeDelta::zero(), ..Sealer::default() }
    }
}

/// What a pass did.
#[derive(Clone, Debug, PartialEq)]
pub struct Sealed {
    /// How many events were sealed.
    pub events: u64,
    /// The tree's leaves.
    pub size: u64,
    /// Rows that nobody can have added in an honest way, reported now.
    pub planted: usize,
    /// What waits still, if that could be told.
    pub lag: Option<Lag>,
}

/// The ids that more than one of these rows has, as they come.
fn doubles(rows: &[Row]) -> HashSet<i64> {
    rows.windows(2).filter(|pair| pair[0].id == pair[1].id).map(|pair| pair[0].id).collect()
}

impl Broker {
    /// One pass: seals what can be, publishes a checkpoint, looks for rows that were planted.
    ///
    /// # Errors
    ///
    /// [`Error::AuditTree`], [`Error::LeaseLost`] or [`Error::Store`].
    pub async fn seal(&self, lease: &Lease, sealer: &mut Sealer) -> Result<Sealed, Error> {
        let done = self.seal_once(lease, sealer).await;
        if done.is_err() {
            sealer.forget();
        }
        done
    }

    async fn seal_once(&self, lease: &Lease, sealer: &mut Sealer) -> Result<Sealed, Error> {
        let mut conn = self.store.conn().await?;
        let moment = audit_sealing::moment(&mut conn).await?;
        let known = audit_sealing::horizon(&mut conn).await?;
        drop(conn);
        sealer.stamp = Stamp { at: moment.now, settled: None };
        self.open(lease, sealer).await?;
        let mut events = 0;
        let mut horizon = match known {
            Some(horizon) if horizon.place == moment.place => horizon,
            before => {
                let (horizon, sealed) = self.adopt_restored_log(lease, sealer, before, &moment).await?;
                events += sealed;
                horizon
            }
        };
        sealer.stamp.settled = horizon.horizon_time;
        let confirmed = sealer.confirm(&moment, &horizon);
        let judge = |row: &Row| verdict(row, &horizon);
        let (sealed, strange) = self.walk(lease, sealer, horizon.horizon_id, judge).await?;
        events += sealed;
        if let Some(confirmed) = confirmed {
            self.set_horizon(lease, &confirmed).await?;
            horizon = confirmed;
        }
        // What cannot be reported now holds back nothing: it is met again.
        let mut planted = self.report(lease, sealer, strange).await?;
        planted += self.find_unsealed_rows(lease, sealer, horizon.horizon_id).await?;
        let lag = match self.measure(sealer, horizon.horizon_id).await {
            Ok(lag) => Some(lag),
            Err(err) => {
                tracing::warn!(error = %err, "what waits to be sealed could not be measured");
                None
            }
        };
        let size = sealer.tree.as_ref().map_or(0, Frontier::size);
        counter!("broker_audit_sealed_events_total").increment(events);
        Ok(Sealed { events, size, planted, lag })
    }

    /// In a cluster or database that is new to this log (its first one, or a restored dump) all rows that there
    /// are count as honest: first those whose transactions are yet to come here, then the others. That it was so
    /// is an event.
    async fn adopt_restored_log(
        &self,
        lease: &Lease,
        sealer: &mut Sealer,
        before: Option<Horizon>,
        moment: &Moment,
    ) -> Result<(Horizon, u64), Error> {
        let from = sealer.tree.as_ref().map_or(0, Frontier::size);
        let reported = self.reported(sealer).await?.clone();
        let seal_if = |is_due: bool, row: &Row| match is_due && !reported.contains(&row.id) {
            true => Verdict::Seal,
            false => Verdict::Wait,
        };
        let ahead = |row: &Row| seal_if(row.is_ahead, row);
        let settled = |row: &Row| seal_if(row.is_settled, row);
        let (first, _) = self.walk(lease, sealer, i64::MIN, ahead).await?;
        let (then, _) = self.walk(lease, sealer, i64::MIN, settled).await?;
        let horizon =
            Horizon { place: moment.place.clone(), horizon_id: 0, horizon_xid: 0, horizon_time: None };
        let event = self.event(Kind::AuditLogMoved, Actor::System("seal")).with(json!({
            "from": before.map(|before| before.place),
            "to": moment.place,
            "sealed_as_found": first + then,
            "tree_size": from,
        }));
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                audit_sealing::set_horizon(conn, &horizon).await?;
                if from > 0 { record(conn, event).await } else { Ok(()) }
            })
            .await?;
        Ok((horizon, first + then))
    }

    /// Seals the rows after this id that `judge` lets pass; how many, and those that it does not.
    async fn walk(
        &self,
        lease: &Lease,
        sealer: &mut Sealer,
        mut after: i64,
        judge: impl Fn(&Row) -> Verdict,
    ) -> Result<(u64, Strange), Error> {
        let (mut events, mut strange) = (0, Strange::new());
        loop {
            let rows = audit_sealing::rows_after(&mut *self.store.conn().await?, after, BATCH).await?;
            let Some(last) = rows.last() else { break };
            after = last.id;
            let mut ids = Vec::new();
            let twice: HashSet<i64> = doubles(&rows);
            for row in rows.iter().filter(|row| !row.has_leaf) {
                let verdict = match judge(row) {
                    Verdict::Seal if twice.contains(&row.id) => Verdict::Planted("another has its id"),
                    verdict => verdict,
                };
                match verdict {
                    Verdict::Seal => ids.push(row.id),
                    Verdict::Wait => {}
                    Verdict::Planted(why) => match strange.iter_mut().find(|(known, _)| *known == why) {
                        Some((_, ids)) => ids.push(row.id),
                        None => strange.push((why, vec![row.id])),
                    },
                }
            }
            events += self.add(lease, sealer, &ids).await?;
            if (rows.len() as i64) < BATCH {
                break;
            }
        }
        Ok((events, strange))
    }

    async fn record_tampering(&self, lease: &Lease, ids: &[i64], why: &'static str) -> Result<(), Error> {
        let data = json!({ "why": why, "event_ids": ids });
        let event = self.event(Kind::AuditLogTampered, Actor::System("seal")).with(data);
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                record(conn, event).await
            })
            .await?;
        // Not before: to a former leader, what its successor added looks like tampering.
        tracing::error!(events = ?ids, "the audit log was tampered with: {why}");
        counter!("broker_audit_tampered_total").increment(ids.len().max(1) as u64);
        Ok(())
    }

    /// Looks at the next part of all that should have a leaf.
    async fn find_unsealed_rows(
        &self,
        lease: &Lease,
        sealer: &mut Sealer,
        until: i64,
    ) -> Result<usize, Error> {
        let mut conn = self.store.conn().await?;
        let (bare, last) =
            audit_sealing::leafless(&mut conn, sealer.checked_up_to, until, ROWS_PER_CHECK).await?;
        drop(conn);
        sealer.checked_up_to = last.unwrap_or(i64::MIN);
        let why = "it has no leaf, and all others of its time were sealed";
        self.report(lease, sealer, vec![(why, bare)]).await
    }

    /// What was reported before. Read once a leadership: nobody else reports.
    async fn reported<'s>(&self, sealer: &'s mut Sealer) -> Result<&'s mut HashSet<i64>, Error> {
        let known = match sealer.reported.take() {
            Some(known) => known,
            None => {
                let reports = audit_sealing::indexed_reports(&mut *self.store.conn().await?).await?;
                reports.iter().flat_map(|data| reported_ids(data)).collect()
            }
        };
        Ok(sealer.reported.insert(known))
    }

    /// Writes an event about rows that were planted, once for each; they never get a leaf.
    async fn report(&self, lease: &Lease, sealer: &mut Sealer, strange: Strange) -> Result<usize, Error> {
        let mut count = 0;
        for (why, mut ids) in strange {
            let known = self.reported(sealer).await?;
            ids.retain(|id| known.insert(*id));
            for named in ids.chunks(NAMED) {
                if let Err(err) = self.record_tampering(lease, named, why).await {
                    sealer.reported = None;
                    return Err(err);
                }
            }
            count += ids.len();
        }
        Ok(count)
    }

    async fn set_horizon(&self, lease: &Lease, horizon: &Horizon) -> Result<(), Error> {
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                Ok(audit_sealing::set_horizon(conn, horizon).await?)
            })
            .await
    }

    /// Shows what waits, and tells once a minute what holds it back.
    async fn measure(&self, sealer: &mut Sealer, after: i64) -> Result<Lag, Error> {
        let mut conn = self.store.conn().await?;
        let lag = audit_sealing::lag(&mut conn, after).await?;
        gauge!("broker_audit_seal_lag_seconds").set(lag.seconds);
        gauge!("broker_audit_unsealed_events").set(lag.events as f64);
        let is_time = sealer.told.is_none_or(|told| told.elapsed() > Duration::from_secs(60));
        if lag.seconds > WARN_AFTER_SECONDS && is_time {
            sealer.told = Some(Instant::now());
            let blocker = audit_sealing::blocker(&mut conn).await?.map(|blocker| blocker.what);
            tracing::warn!(
                seconds = lag.seconds,
                events = lag.events,
                oldest = blocker.as_deref().unwrap_or("none is visible"),
                "events wait to be sealed until the cluster's oldest transaction ends"
            );
        }
        Ok(lag)
    }
}
