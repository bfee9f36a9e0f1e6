//! The export of the log for people who check it elsewhere: each event with its leaf, and at the end what is
//! needed to build the tree without the events that the export's time leaves out.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;

use chrono::{DateTime, Utc};

use crate::broker::people::caller::Caller;
use crate::broker::people::scopes::audit_scope;
use crate::broker::{Broker, Error};
use crate::model::Role;
use crate::seal::Hash;
use crate::seal::export::{Removed, Seal, Skipped, line};
use crate::seal::note;
use crate::seal::record::Record;
use crate::seal::tree::Subtree;
use crate::store::audit::{self, Event, Filter};
use crate::store::{Conn, Store, audit_sealing, audit_tree};

/// How many leaves are looked at in one statement.
const WINDOW: u64 = 50_000;

/// How many events one export holds at most; commands export everything.
pub const MOST_EXPORTED: usize = 100_000;

/// How many are read at once for an export.
const AT_ONCE: i64 = 500;

/// Where an export is: what is still to come of it.
#[derive(Clone, Debug)]
pub struct Export {
    caller: Caller,
    filter: Filter,
    before: Option<i64>,
    left: usize,
}

/// An event of an export; `line` is that of `export-audit-log`.
#[derive(Debug)]
pub struct Exported {
    /// The event.
    pub event: Event,
    /// Its line of the export, JSON.
    pub line: String,
}

impl Export {
    /// What this caller may see of what fits the filter, newest first.
    pub fn new(caller: Caller, filter: Filter) -> Export {
        Export { caller, filter, before: None, left: MOST_EXPORTED }
    }
}

impl Broker {
    /// The next events of an export; empty at its end. Those who may see the whole log get each event's leaf with it.
    /// A connection is held only while this reads.
    ///
    /// # Errors
    ///
    /// [`Error::AuditTree`], [`Error::EventNotFound`] or [`Error::Store`].
    pub async fn export(&self, export: &mut Export) -> Result<Vec<Exported>, Error> {
        let scope = audit_scope(&export.caller);
        let mut conn = self.store.conn().await?;
        let mut events = Vec::new();
        // A page may have found nothing yet, and yet not be the last.
        while events.is_empty() && export.left > 0 {
            let limit = AT_ONCE.min(export.left as i64);
            let (found, next) = audit::page(&mut conn, &scope, &export.filter, export.before, limit).await?;
            export.left = if next.is_none() { 0 } else { export.left - found.len() };
            (export.before, events) = (next, found);
        }
        let ids: Vec<i64> = events.iter().map(|event| event.id).collect();
        let records = audit_sealing::records(&mut conn, &ids).await?;
        let mut records: HashMap<i64, Record> = records.into_iter().collect();
        let sees_all = export.caller.has(Role::Admin) || export.caller.has(Role::Auditor);
        let leaves = if sees_all { audit_tree::leaves_of(&mut conn, &ids).await? } else { Vec::new() };
        drop(conn);
        let leaves: HashMap<i64, _> = leaves.into_iter().map(|leaf| (leaf.event_id, leaf)).collect();
        let exported = |event: Event| {
            let leaf = leaves
                .get(&event.id)
                .map(|leaf| Ok::<(u64, Hash), Error>((leaf.leaf_index as u64, leaf.hash()?)));
            let record = records.remove(&event.id).ok_or(Error::EventNotFound(event.id))?;
            let line = line(event.id, event.timestamp, record, leaf.transpose()?);
            let line = line.ok_or_else(|| Error::AuditTree(format!("event {} cannot be read", event.id)))?;
            Ok(Exported { event, line })
        };
        events.into_iter().map(exported).collect()
    }
}

/// The log from `since` up to `until`, oldest first: each event as the API shows it and as a line that can be
/// checked, then the seal, if anything is sealed. Memory stays flat.
///
/// # Errors
///
/// [`Error::AuditTree`], [`Error::EventNotFound`] or [`Error::Store`].
pub async fn export(
    store: &Store,
    since: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
    mut started: impl FnMut(u64),
    mut each: impl FnMut(&Event, &str) -> io::Result<()>,
) -> Result<io::Result<Option<Seal>>, Error> {
    let mut conn = store.conn().await?;
    audit::raise_statement_timeout(&mut conn).await?;
    let filter = Filter { since: Some(since), until, ..Filter::default() };
    started(audit::count(&mut conn, &filter).await?.unsigned_abs());
    // In this order: what lies below the horizon is in the checkpoint.
    let horizon_id = audit_sealing::horizon(&mut conn).await?.map_or(0, |horizon| horizon.horizon_id);
    let checkpoint = audit_tree::largest(&mut conn).await?.map(|largest| largest.note);
    let mut leaves = Intervals::default();
    let mut after = i64::MIN;
    loop {
        let events = audit::next(&mut conn, &filter, after, 1_000).await?;
        let Some(last) = events.last() else { break };
        after = last.id;
        let ids: Vec<i64> = events.iter().map(|event| event.id).collect();
        let mut records: HashMap<i64, _> =
            audit_sealing::records(&mut conn, &ids).await?.into_iter().collect();
        let found = audit_tree::leaves_of(&mut conn, &ids).await?;
        let found: HashMap<i64, _> = found.into_iter().map(|leaf| (leaf.event_id, leaf)).collect();
        for event in &events {
            let leaf = found.get(&event.id);
            let leaf =
                leaf.map(|leaf| Ok::<(u64, Hash), Error>((leaf.leaf_index.unsigned_abs(), leaf.hash()?)));
            let leaf = leaf.transpose()?;
            leaves.extend(leaf.map(|(index, _)| index));
            let line =
                records.remove(&event.id).and_then(|record| line(event.id, event.timestamp, record, leaf));
            // Rows cannot vanish and event_data is JSON, or the log is not what it was.
            let line = line.ok_or_else(|| Error::AuditTree(format!("event {} cannot be read", event.id)))?;
            if let Err(err) = each(event, &line) {
                return Ok(Err(err));
            }
        }
    }
    let Some(checkpoint) = checkpoint else { return Ok(Ok(None)) };
    let head = note::read(&checkpoint, None).map_err(|err| Error::AuditTree(err.to_string()))?;
    let (mut skipped, mut removed) = (Vec::new(), Vec::new());
    for gap in leaves.gaps(head.size) {
        removed.extend(lost(&mut conn, &gap).await?);
        let places = Subtree::covering(gap);
        for (place, hash) in places.iter().zip(audit_tree::subtrees(&mut conn, &places).await?) {
            skipped.push(Skipped { level: place.level, index: place.index, hash: hash.to_string() });
        }
    }
    Ok(Ok(Some(Seal { tree_size: head.size, checkpoint, since, until, horizon_id, skipped, removed })))
}

/// Leaves in this range whose events are nowhere, in this export or outside.
async fn lost(conn: &mut Conn, gap: &Range<u64>) -> Result<Vec<Removed>, Error> {
    let mut lost = Vec::new();
    let mut from = gap.start;
    while from < gap.end {
        let until = gap.end.min(from + WINDOW);
        let found = audit_tree::without_event(conn, from as i64, until as i64).await?;
        lost.extend(
            found.into_iter().map(|(leaf, event_id)| Removed { leaf_index: leaf.unsigned_abs(), event_id }),
        );
        from = until;
    }
    Ok(lost)
}

/// Numbers that come nearly in order, kept as ranges.
#[derive(Default)]
struct Intervals(BTreeMap<u64, u64>);

impl Intervals {
    fn extend(&mut self, number: Option<u64>) {
        let Some(number) = number else { return };
        let mut range = number..number + 1;
        if let Some(end) = self.0.remove(&range.end) {
            range.end = end;
        }
        match self.0.range_mut(..range.start).next_back() {
            Some((_, end)) if *end == range.start => *end = range.end,
            _ => drop(self.0.insert(range.start, range.end)),
        }
    }

    /// What is missing of the first `size` numbers.
    fn gaps(&self, size: u64) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut next = 0;
        for (start, end) in self.0.iter().filter(|(start, _)| **start < size) {
            gaps.extend((next < *start).then_some(next..*start));
            next = *end;
        }
        gaps.extend((next < size).then_some(next..size));
        gaps
    }
}
