//! The sealer: committed events become leaves of the Merkle tree, and trees become checkpoints. Runs under the
//! leader's lease, beside everything else: whoever writes an event knows nothing of it.
//!
//! It takes the rows that have no leaf, in the order of their ids, as soon as their transactions lie below every
//! one that is under way. Its horizon is the id up to which all is sealed and nothing honest can be added any
//! more, so that it need not look at the whole log each time; a patrol does that, a part each time.

mod horizon;

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use metrics::{counter, gauge};
use serde_json::json;

use super::events::{About, Actor, Kind, record};
use super::moves::fence;
use super::{Broker, Error};
use crate::seal::Hash;
use crate::seal::note::{self, Head};
use crate::seal::tree::Frontier;
use crate::store;
use crate::store::audit_sealing::{self, Horizon, Lag, Moment, Row};
use crate::store::audit_tree;
use crate::store::leases::Lease;
use horizon::{Candidate, Verdict, verdict};

/// How many rows are looked at, and at most sealed, at once: far from the statements' time limit.
const BATCH: i64 = 5_000;

/// How many rows the patrol looks at each time.
const BEAT: i64 = 20_000;

/// How many rows one report names.
const NAMED: usize = 1_000;

/// Longer than a statement may take: whoever had an id from the sequence has its transaction's id by then.
const SETTLED_AFTER: TimeDelta = TimeDelta::seconds(10);

/// A lag from which on people are told what holds the sealer back.
const TELLING: f64 = 10.0;

/// What a leader remembers between two passes. All of it can be lost.
#[derive(Debug)]
pub struct Sealer {
    tree: Option<Frontier>,
    candidate: Option<Candidate>,
    /// Up to which id the patrol has come.
    patrol: i64,
    settled_after: TimeDelta,
    told: Option<Instant>,
    has_reported_tree: bool,
}

impl Default for Sealer {
    fn default() -> Sealer {
        Sealer {
            tree: None,
            candidate: None,
            patrol: i64::MIN,
            settled_after: SETTLED_AFTER,
            told: None,
            has_reported_tree: false,
        }
    }
}

impl Sealer {
    /// As `default`, for one who knows that no statement that writes an event is under way.
    pub fn at_rest() -> Sealer {
        Sealer { settled_after: TimeDelta::zero(), ..Sealer::default() }
    }
}

/// What a pass did.
#[derive(Clone, Debug, PartialEq)]
pub struct Sealed {
    pub events: u64,
    /// The tree's leaves.
    pub size: u64,
    /// Rows that nobody can have added in an honest way, reported now.
    pub planted: usize,
    /// What waits still.
    pub lag: Lag,
}

impl Broker {
    /// One pass: seals what can be, publishes a checkpoint, looks for rows that were planted.
    pub async fn seal(&self, lease: &Lease, sealer: &mut Sealer) -> Result<Sealed, Error> {
        let done = self.seal_once(lease, sealer).await;
        if done.is_err() {
            // What was remembered may be ahead of what was committed.
            sealer.tree = None;
        }
        done
    }

    async fn seal_once(&self, lease: &Lease, sealer: &mut Sealer) -> Result<Sealed, Error> {
        let mut conn = self.store.conn().await?;
        let moment = audit_sealing::moment(&mut conn).await?;
        let known = audit_sealing::horizon(&mut conn).await?;
        drop(conn);
        let (mut events, mut planted) = (0, 0);
        let mut horizon = match known {
            Some(horizon) if horizon.place == moment.place => horizon,
            before => {
                let (horizon, sealed) = self.move_in(lease, sealer, before, &moment).await?;
                events += sealed;
                horizon
            }
        };
        let confirmed = sealer.confirm(&moment, &horizon);
        let judge = |row: &Row| verdict(row, &horizon);
        let (sealed, reported) = self.walk(lease, sealer, horizon.horizon_id, judge).await?;
        events += sealed;
        planted += reported;
        self.publish(lease, sealer, moment.now).await?;
        if let Some(confirmed) = confirmed {
            self.set_horizon(lease, &confirmed).await?;
            horizon = confirmed;
        }
        planted += self.patrol(lease, sealer, horizon.horizon_id).await?;
        let lag = self.measure(sealer, horizon.horizon_id).await?;
        let size = sealer.tree.as_ref().map_or(0, Frontier::size);
        counter!("broker_audit_sealed_events_total").increment(events);
        Ok(Sealed { events, size, planted, lag })
    }

    /// In a cluster or database that is new to this log (its first one, or a restored dump) all rows that there
    /// are count as honest: first those whose transactions are yet to come here, then the others. That it was so
    /// is an event.
    async fn move_in(
        &self,
        lease: &Lease,
        sealer: &mut Sealer,
        before: Option<Horizon>,
        moment: &Moment,
    ) -> Result<(Horizon, u64), Error> {
        let from = self.tree(lease, sealer).await?.size();
        let ahead = |row: &Row| if row.is_ahead { Verdict::Seal } else { Verdict::Wait };
        let settled = |row: &Row| if row.is_settled { Verdict::Seal } else { Verdict::Wait };
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

    /// Seals the rows after this id that `judge` lets pass, and reports those that it does not; how many of each.
    async fn walk(
        &self,
        lease: &Lease,
        sealer: &mut Sealer,
        mut after: i64,
        judge: impl Fn(&Row) -> Verdict,
    ) -> Result<(u64, usize), Error> {
        let (mut events, mut planted) = (0, 0);
        loop {
            let rows = audit_sealing::rows_after(&mut *self.store.conn().await?, after, BATCH).await?;
            let Some(last) = rows.last() else { break };
            after = last.id;
            let mut ids = Vec::new();
            let mut strange: Vec<(&'static str, Vec<i64>)> = Vec::new();
            for row in rows.iter().filter(|row| !row.has_leaf) {
                match judge(row) {
                    Verdict::Seal => ids.push(row.id),
                    Verdict::Wait => {}
                    Verdict::Planted(why) => match strange.iter_mut().find(|(known, _)| *known == why) {
                        Some((_, ids)) => ids.push(row.id),
                        None => strange.push((why, vec![row.id])),
                    },
                }
            }
            events += self.add(lease, sealer, &ids).await?;
            for (why, ids) in strange {
                planted += self.report(lease, &ids, why).await?;
            }
            if (rows.len() as i64) < BATCH {
                break;
            }
        }
        Ok((events, planted))
    }

    /// The right edge of the tree, as it is remembered or as Postgres has it.
    async fn tree<'s>(&self, lease: &Lease, sealer: &'s mut Sealer) -> Result<&'s mut Frontier, Error> {
        let tree = match sealer.tree.take() {
            Some(tree) => tree,
            None => {
                let mut conn = self.store.conn().await?;
                let size = audit_tree::size(&mut conn).await?;
                let tree = audit_tree::frontier(&mut conn, size.unsigned_abs()).await;
                drop(conn);
                match tree {
                    // Nothing can be added to such a tree.
                    Err(err @ store::Error::Row(_)) => {
                        self.report_tree(lease, sealer, "leaves or nodes of the tree are missing").await?;
                        return Err(err.into());
                    }
                    tree => tree?,
                }
            }
        };
        Ok(sealer.tree.insert(tree))
    }

    /// Makes these rows the next leaves, in this order.
    async fn add(&self, lease: &Lease, sealer: &mut Sealer, ids: &[i64]) -> Result<u64, Error> {
        if ids.is_empty() {
            return Ok(0);
        }
        let tree = self.tree(lease, sealer).await?;
        let records = audit_sealing::records(&mut *self.store.conn().await?, ids).await?;
        let from = tree.size();
        let (mut leaves, mut nodes): (Vec<(i64, Hash)>, Vec<_>) = (Vec::with_capacity(ids.len()), Vec::new());
        for (id, record) in &records {
            let hash = record.leaf_hash();
            leaves.push((*id, hash));
            nodes.extend(tree.push(0, hash).unwrap_or_default());
        }
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                let size = audit_tree::size(conn).await?;
                if size.unsigned_abs() != from {
                    return Err(Error::AuditTree(format!("{from} leaves expected, {size} there")));
                }
                Ok(audit_tree::append(conn, size, &leaves, &nodes).await?)
            })
            .await?;
        Ok(leaves.len() as u64)
    }

    /// Publishes the tree as it stands, if that is news and continues what was published before.
    async fn publish(&self, lease: &Lease, sealer: &mut Sealer, at: DateTime<Utc>) -> Result<(), Error> {
        let malformed = |err: note::Error| Error::AuditTree(err.to_string());
        let tree = self.tree(lease, sealer).await?;
        let head = Head { size: tree.size(), root: tree.root() };
        let mut conn = self.store.conn().await?;
        let before = audit_tree::largest(&mut conn).await?;
        if let Some(before) = &before {
            let published = note::read(before, None).map_err(malformed)?;
            if published.size == head.size
                && published.root == head.root
                && note::is_by(before, self.signer.get())
            {
                return Ok(());
            }
            let continues = published.size <= head.size
                && audit_tree::frontier(&mut conn, published.size).await?.root() == published.root;
            drop(conn);
            if !continues {
                // No checkpoint is published that denies an older one.
                return self
                    .report_tree(lease, sealer, "the tree does not continue the last checkpoint")
                    .await;
            }
        } else {
            drop(conn);
        }
        if head.size == 0 {
            return Ok(());
        }
        let note = note::write(head, self.signer.get()).map_err(malformed)?;
        self.store
            .transaction::<_, Error, _>(async |conn| {
                fence(conn, Some(lease)).await?;
                Ok(audit_tree::publish(conn, head.size as i64, &note, at).await?)
            })
            .await
    }

    /// Writes an event about leaves that are gone or changed, once a leadership.
    async fn report_tree(&self, lease: &Lease, sealer: &mut Sealer, why: &'static str) -> Result<(), Error> {
        if sealer.has_reported_tree {
            return Ok(());
        }
        self.record_tampering(lease, &[], why).await?;
        sealer.has_reported_tree = true;
        Ok(())
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
    async fn patrol(&self, lease: &Lease, sealer: &mut Sealer, until: i64) -> Result<usize, Error> {
        let mut conn = self.store.conn().await?;
        let (bare, last) = audit_sealing::leafless(&mut conn, sealer.patrol, until, BEAT).await?;
        drop(conn);
        sealer.patrol = last.unwrap_or(i64::MIN);
        self.report(lease, &bare, "it has no leaf, and all others of its time were sealed").await
    }

    /// Writes an event about rows that were planted, once for each; they never get a leaf.
    async fn report(&self, lease: &Lease, ids: &[i64], why: &'static str) -> Result<usize, Error> {
        if ids.is_empty() {
            return Ok(0);
        }
        let ids = audit_sealing::unreported(&mut *self.store.conn().await?, ids).await?;
        for named in ids.chunks(NAMED) {
            self.record_tampering(lease, named, why).await?;
        }
        Ok(ids.len())
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
        if lag.seconds > TELLING && is_time {
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
