//! `verify-audit-log` on the database: every row against its leaf, every leaf against every checkpoint. Only
//! reads.

use std::collections::{HashMap, HashSet};

use crate::broker::Error;
use crate::seal::Hash;
use crate::seal::check::{Check, Outcome};
use crate::seal::key::VerifierKey;
use crate::seal::note::{self, Head};
use crate::seal::record::Record;
use crate::seal::report::reported_ids;
use crate::seal::tree::Subtree;
use crate::store::audit_tree::{self, Checkpoint, State};
use crate::store::{Conn, Store, audit, audit_sealing};

/// How many leaves, or rows without one, are looked at in one statement.
const WINDOW: i64 = 5_000;

/// What the auditor brings.
#[derive(Clone, Default)]
pub struct Against {
    /// The key that must have signed the checkpoints.
    pub key: Option<VerifierKey>,
    /// Checkpoints from elsewhere, each with what to call it.
    pub heads: Vec<(&'static str, Head)>,
}

/// Checks the whole log; `progress` hears (done, of) leaves.
///
/// # Errors
///
/// [`Error::Store`].
pub async fn verify(
    store: &Store,
    against: &Against,
    mut progress: impl FnMut(u64, u64),
) -> Result<Outcome, Error> {
    let mut conn = store.conn().await?;
    audit::raise_statement_timeout(&mut conn).await?;
    // In this order: what lies below the horizon has its leaf.
    let horizon = audit_sealing::horizon(&mut conn).await?;
    let State { size, note: largest } = audit_tree::state(&mut conn).await?;
    let reports = audit_sealing::reports(&mut conn).await?;
    let reported: HashSet<i64> = reports.iter().flat_map(|data| reported_ids(data)).collect();
    let mut heads = against.heads.clone();
    heads.sort_by_key(|(_, head)| head.size);
    let mut reading = Reading { check: Check::default(), against, heads, reported, is_signed: false, size };
    while reading.check.size() < size.unsigned_abs() {
        progress(reading.check.size(), size.unsigned_abs());
        if !reading.window(&mut conn).await? {
            break;
        }
    }
    let Reading { mut check, heads, reported, is_signed, .. } = reading;
    let published = largest.as_deref().map(|text| (text, note::read(text, None)));
    if let Some((text, Ok(head))) = published {
        if against.key.is_some() && !is_signed && !note::is_signed(text) {
            check.note(head.size, format!("the last checkpoint (size {}) is not signed", head.size));
        }
        if head.size > size.unsigned_abs() {
            check.too_short("the last checkpoint", head);
        }
        if head.size < size.unsigned_abs() {
            unpublished(&mut check, head.size, size);
        }
    }
    if largest.is_none() && size > 0 {
        unpublished(&mut check, 0, size);
    }
    for (name, head) in heads.into_iter().filter(|(_, head)| head.size > size.unsigned_abs()) {
        check.too_short(name, head);
    }
    check.settle(horizon.as_ref().and_then(|horizon| horizon.horizon_time));
    let horizon = horizon.map_or(i64::MIN, |horizon| horizon.horizon_id);
    unsealed(&mut conn, &mut check, horizon, &reported).await?;
    Ok(check.end())
}

struct Reading<'a> {
    check: Check,
    against: &'a Against,
    /// Those of the auditor's checkpoints that were not reached yet, the smallest first.
    heads: Vec<(&'static str, Head)>,
    /// What the sealer reported.
    reported: HashSet<i64>,
    /// Whether a checkpoint that was passed is signed.
    is_signed: bool,
    size: i64,
}

impl Reading<'_> {
    /// The next leaves, with their events and checkpoints; whether it can go on.
    async fn window(&mut self, conn: &mut Conn) -> Result<bool, Error> {
        let from = self.check.size() as i64;
        let mut leaves = audit_tree::leaves(conn, from, WINDOW).await?;
        leaves.retain(|leaf| leaf.leaf_index < self.size);
        let until = leaves.last().map_or(from, |leaf| leaf.leaf_index + 1);
        let checkpoints = audit_tree::checkpoints(conn, from, until).await?;
        let mut checkpoints = checkpoints.iter().peekable();
        let ids: Vec<i64> = leaves.iter().map(|leaf| leaf.event_id).collect();
        let mut records: HashMap<i64, Record> = HashMap::new();
        let mut doubles = HashSet::new();
        for (id, record) in audit_sealing::records(conn, &ids).await? {
            if records.insert(id, record).is_some() {
                doubles.insert(id);
            }
        }
        if leaves.is_empty() {
            self.check.gap(self.size.unsigned_abs());
            return Ok(false);
        }
        let mut nodes = Vec::new();
        for leaf in &leaves {
            if leaf.leaf_index.unsigned_abs() != self.check.size() {
                self.check.gap(leaf.leaf_index.unsigned_abs());
                return Ok(false);
            }
            let record = records.get(&leaf.event_id);
            let event = leaf.event_id.to_string();
            let index = self.check.size();
            if doubles.contains(&leaf.event_id) {
                self.check.note(index, format!("event {event} (leaf {index}) is there more than once"));
            }
            if self.reported.contains(&leaf.event_id) {
                let what = format!("event {event} (leaf {index}) was added: the sealer reported it");
                self.check.note(index, what);
            }
            nodes.extend(self.check.leaf(&event, hash(&leaf.leaf_hash), record));
            while let Some(next) = checkpoints.next_if(|next| next.tree_size <= leaf.leaf_index + 1) {
                self.checkpoint(next);
            }
            let reached = self.check.size();
            while let Some((name, head)) =
                self.heads.first().filter(|(_, head)| head.size <= reached).copied()
            {
                self.heads.remove(0);
                self.check.checkpoint(name, head);
            }
        }
        self.nodes(conn, nodes).await?;
        Ok(true)
    }

    /// The stored nodes, of which proofs are made. While leaves do not fit checkpoints they say nothing.
    async fn nodes(&mut self, conn: &mut Conn, nodes: Vec<(Subtree, Hash)>) -> Result<(), Error> {
        for (place, hash) in nodes {
            let (level, index) = (place.level, place.index);
            let stored = audit_tree::run(conn, level, index..index + 1).await?;
            if stored != [hash] {
                let what = format!("the tree's node {index} of level {level} was changed or removed");
                self.check.note((index + 1) << level, what);
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        let size = checkpoint.tree_size.unsigned_abs();
        let is_signed = note::is_signed(&checkpoint.note);
        let key = self.against.key.as_ref().filter(|_| is_signed);
        if self.against.key.is_some() && self.is_signed && !is_signed {
            let what = format!("the checkpoint of size {size} is not signed, and one before it is");
            return self.check.note(size, what);
        }
        self.is_signed |= is_signed;
        match note::read(&checkpoint.note, key) {
            Ok(head) if head.size == size => {
                self.check.checkpoint("the published checkpoint", head);
            }
            Ok(head) => {
                let what = format!("the checkpoint of size {size} was changed: it says {}", head.size);
                self.check.note(size, what);
            }
            Err(err) => self.check.note(size, format!("the checkpoint of size {size} was changed: {err}")),
        }
    }
}

/// One that is no hash at all equals none.
fn hash(bytes: &[u8]) -> Hash {
    bytes.try_into().map(Hash).unwrap_or(Hash([0; 32]))
}

/// Leaves are added together with their checkpoint.
fn unpublished(check: &mut Check, from: u64, size: i64) {
    check.note(from, format!("the leaves {from} to {} have no checkpoint: it was removed", size - 1));
}

/// The rows without a leaf: which the sealer has not come to, and which it can never come to.
async fn unsealed(
    conn: &mut Conn,
    check: &mut Check,
    horizon: i64,
    reported: &HashSet<i64>,
) -> Result<(), Error> {
    let mut after = i64::MIN;
    loop {
        let (bare, last) = audit_sealing::leafless(conn, after, i64::MAX, 10 * WINDOW).await?;
        for ids in bare.chunks(WINDOW as usize) {
            let mut seen = HashSet::new();
            for (id, record) in audit_sealing::records(conn, ids).await? {
                let why = match () {
                    () if reported.contains(&id) => Some("the sealer reported it"),
                    () if !seen.insert(id) => Some("another has its id"),
                    () if id <= horizon => Some("all others up to it were sealed"),
                    () if check.is_early(&record) => Some("it is dated before what was sealed"),
                    () => None,
                };
                check.unsealed(&record.id, why);
            }
        }
        match last {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}
