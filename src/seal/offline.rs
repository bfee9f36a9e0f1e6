//! Checks an export against checkpoints with nothing else: no database, no network. Reads the file twice, line by
//! line, and keeps only what is out of order.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead};

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::check::{Check, Outcome, Range};
use super::export::{Line, Removed, Seal, SealLine, Skipped};
use super::note::{self, Head};
use super::record::Record;
use super::report::reported_ids;
use super::tree::Subtree;
use super::{Hash, SLACK, TAMPERED};

/// Why a file could not be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{0}")]
    Read(#[source] io::Error),
    /// A line is neither an event nor the seal.
    #[error("line {line}: not an event of this log: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// For people.
        why: String,
    },
    /// The seal contradicts itself or the events.
    #[error("the export's 'seal' is not valid: {0}")]
    Seal(&'static str),
    /// A CSV export, or a file that was cut off.
    #[error(
        "nothing in this file was sealed: it has no 'seal', which a json or jsonl export has as its last entry"
    )]
    NoSeal,
    /// The checkpoint is newer than the export.
    #[error("the export was made of a tree of {exported} leaves, too few for a checkpoint of {wanted}")]
    Older {
        /// The size of the export's tree.
        exported: u64,
        /// The size of the checkpoint.
        wanted: u64,
    },
    /// A skipped subtree has leaves of the checkpoint and others.
    #[error(
        "the export leaves out what is needed to compare it with a checkpoint of size {0}: \
         export from the log's beginning"
    )]
    Skipped(u64),
}

/// The entries of a JSONL file, or of a JSON array with an entry a line; each with its line's number.
fn entries(file: impl BufRead, mut each: impl FnMut(usize, &str) -> Result<(), Error>) -> Result<(), Error> {
    for (number, line) in file.lines().enumerate() {
        let line = line.map_err(Error::Read)?;
        let entry = line.trim().trim_end_matches(',');
        if !matches!(entry, "" | "[" | "]" | "[]") {
            each(number + 1, entry)?;
        }
    }
    Ok(())
}

fn parsed<'a, T: Deserialize<'a>>(line: usize, entry: &'a str) -> Result<T, Error> {
    serde_json::from_str(entry).map_err(|err| Error::Line { line, why: err.to_string() })
}

/// What the first reading finds.
#[derive(Default)]
struct Overview {
    seal: Option<Seal>,
    /// Ids of events that the sealer reported as added.
    reported: HashSet<i64>,
}

fn overview(file: impl BufRead) -> Result<Overview, Error> {
    let mut found = Overview::default();
    entries(file, |number, entry| {
        if entry.starts_with("{\"seal\":") {
            let seal = parsed::<SealLine>(number, entry)?.seal;
            return match found.seal.replace(seal) {
                None => Ok(()),
                Some(_) => Err(Error::Seal("there are two")),
            };
        }
        let line: Line = parsed(number, entry)?;
        if line.event_type.as_deref() == Some(TAMPERED) {
            found.reported.extend(reported_ids(line.event_data.get()));
        }
        Ok(())
    })?;
    Ok(found)
}

/// A leaf that waits for those before it.
struct Waiting {
    hash: Hash,
    record: Record,
}

/// Checks a file, which `open` opens, against a trusted checkpoint and perhaps an older one.
///
/// The export itself names the range of time that it is of. Nothing signs that range: compare [`Outcome::range`] and
/// [`Outcome::skipped`] with what was asked for.
///
/// # Errors
/// The file cannot be checked at all, see [`enum@Error`]. What does not fit is a finding of the [`Outcome`].
pub fn verify<R: BufRead>(
    mut open: impl FnMut() -> io::Result<R>,
    checkpoint: Head,
    previous: Option<Head>,
) -> Result<Outcome, Error> {
    let overview = overview(open().map_err(Error::Read)?)?;
    let seal = overview.seal.ok_or(Error::NoSeal)?;
    check_seal(&seal, checkpoint)?;
    let mut reading = Reading {
        check: Check::default(),
        waiting: BTreeMap::new(),
        skipped: BTreeMap::new(),
        milestones: Vec::new(),
        last: None,
        gap: None,
        since: seal.since,
        until: seal.until,
    };
    // The newest last, to be taken from the end.
    reading.milestones.push(("the checkpoint", checkpoint));
    reading.milestones.extend(previous.map(|head| ("the previous checkpoint", head)));
    reading.milestones.sort_by_key(|(_, head)| std::cmp::Reverse(head.size));
    for Skipped { level, index, hash } in &seal.skipped {
        let hash = Hash::parse_hash(hash).ok().filter(|_| *level < 64);
        let hash = hash.ok_or(Error::Seal("it skips a subtree without a hash"))?;
        let first = index.checked_shl((*level).into()).unwrap_or(u64::MAX);
        let subtree = Subtree { level: *level, index: *index };
        if reading.skipped.insert(first, (subtree, hash)).is_some() {
            return Err(Error::Seal("it skips the same leaves twice"));
        }
    }
    for Removed { leaf_index, event_id } in &seal.removed {
        reading.check.note(*leaf_index, format!("event {event_id} (leaf {leaf_index}) was removed"));
    }
    entries(open().map_err(Error::Read)?, |number, entry| {
        if entry.starts_with("{\"seal\":") {
            return Ok(());
        }
        let mut line: Line = parsed(number, entry)?;
        // Nothing was sealed beyond the tree that was exported.
        let leaf = line.leaf_index.take().filter(|leaf| *leaf < seal.tree_size);
        match (leaf, line.leaf_hash.take()) {
            (Some(leaf), hash) if leaf < checkpoint.size => {
                let (id, record) = (line.id, line.record());
                if overview.reported.contains(&id) {
                    let what = format!("event {id} (leaf {leaf}) was added: the sealer reported it");
                    reading.check.note(leaf, what);
                }
                let hash = hash.and_then(|hash| Hash::parse_hash(&hash).ok());
                let hash = hash.ok_or_else(|| Error::Line { line: number, why: "no leaf_hash".into() })?;
                reading.take(leaf, Waiting { hash, record })
            }
            (leaf, _) => {
                let (id, record) = (line.id, line.record());
                let settled = checkpoint.settled.max(previous.and_then(|head| head.settled));
                let is_early =
                    settled.is_some_and(|settled| record.at().is_none_or(|at| at < settled - SLACK));
                let why = match () {
                    () if overview.reported.contains(&id) => Some("the sealer reported it"),
                    () if leaf.is_none() && id <= seal.horizon_id => Some("all others up to it were sealed"),
                    () if is_early => Some("it is dated before what was sealed"),
                    () => None,
                };
                reading.check.unsealed(&record.id, why);
                Ok(())
            }
        }
    })?;
    reading.end(seal.tree_size, checkpoint.size)
}

/// The number of leaves is that of the seal's own checkpoint, and a tree of the same size as the trusted one's is the
/// same tree. Whether the seal's checkpoint is signed does not matter: nothing relies on it.
fn check_seal(seal: &Seal, trusted: Head) -> Result<(), Error> {
    let own = note::read(&seal.checkpoint, None).map_err(|_| Error::Seal("its checkpoint is not one"))?;
    match () {
        () if own.size != seal.tree_size => Err(Error::Seal("its checkpoint is of another size")),
        () if own.size == trusted.size && own.root != trusted.root => {
            Err(Error::Seal("its checkpoint has another root than the trusted one of the same size"))
        }
        () => Ok(()),
    }
}

struct Reading {
    check: Check,
    waiting: BTreeMap<u64, Waiting>,
    skipped: BTreeMap<u64, (Subtree, Hash)>,
    milestones: Vec<(&'static str, Head)>,
    /// The last event in the order of sealing: its id and time.
    last: Option<(String, Option<DateTime<Utc>>)>,
    /// Where a run of skipped leaves that is not over began.
    gap: Option<u64>,
    since: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
}

impl Reading {
    fn take(&mut self, leaf: u64, event: Waiting) -> Result<(), Error> {
        if leaf < self.check.size() || self.waiting.contains_key(&leaf) {
            let what = format!("event {} was added: there is another for leaf {leaf}", event.record.id);
            self.check.note(leaf, what);
            return Ok(());
        }
        self.waiting.insert(leaf, event);
        self.go_on()
    }

    fn go_on(&mut self) -> Result<(), Error> {
        loop {
            self.compare()?;
            let next = self.check.size();
            if let Some(Waiting { hash, record }) = self.waiting.remove(&next) {
                self.close_gap(Some(&record));
                drop(self.check.leaf(&record.id, hash, Some(&record)));
                self.last = Some((record.id.clone(), record.at()));
            } else if let Some((place, hash)) = self.skipped.remove(&next) {
                self.gap.get_or_insert(next);
                if !self.check.skip(place, hash) {
                    return Err(Error::Seal("it skips leaves that are not a subtree"));
                }
            } else {
                return Ok(());
            }
        }
    }

    fn compare(&mut self) -> Result<(), Error> {
        while let Some((name, head)) = self.milestones.pop_if(|(_, head)| head.size <= self.check.size()) {
            if head.size < self.check.size() {
                return Err(Error::Skipped(head.size));
            }
            self.check.checkpoint(name, head);
        }
        Ok(())
    }

    /// Leaves may only be left out for their time, so a run of them begins or ends near the export's edges.
    fn close_gap(&mut self, next: Option<&Record>) {
        let Some(from) = self.gap.take() else { return };
        let is_inside = |at: Option<DateTime<Utc>>| {
            at.is_some_and(|at| at >= self.since + SLACK && self.until.is_none_or(|until| at < until - SLACK))
        };
        let Some((event, at)) = &self.last else { return };
        let is_hole = is_inside(*at)
            && match next {
                Some(next) => is_inside(next.at()),
                None => self.until.is_none(),
            };
        if is_hole {
            let size = self.check.size();
            let what = format!("the {} event(s) after event {event} were left out or removed", size - from);
            self.check.note(from, what);
        }
    }

    fn end(mut self, exported: u64, wanted: u64) -> Result<Outcome, Error> {
        self.go_on()?;
        self.close_gap(None);
        if self.check.size() < wanted && self.waiting.is_empty() && self.check.size() == exported {
            return Err(Error::Older { exported, wanted });
        }
        if self.check.size() < wanted {
            let until = self.waiting.keys().next().copied().unwrap_or(wanted);
            self.check.gap(until);
        }
        for (name, head) in std::mem::take(&mut self.milestones) {
            // A gap says more than the checkpoints after it.
            if head.size > wanted {
                self.check.too_short(name, head);
            }
        }
        // Beyond the trusted checkpoint neither events nor skipped leaves are looked at.
        if self.check.size() >= wanted && self.skipped.keys().any(|first| *first < wanted) {
            return Err(Error::Seal("it skips leaves whose events are there"));
        }
        let range = Range { since: self.since, until: self.until };
        Ok(Outcome { range: Some(range), ..self.check.end() })
    }
}
