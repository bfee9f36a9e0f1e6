//! Whether events, leaves and checkpoints belong together. Takes the leaves in their order, wherever they come from, and
//! gathers what does not fit, sorted by the order of sealing.

use std::collections::HashMap;
use std::fmt;

use chrono::{DateTime, Utc};

use super::note::Head;
use super::record::Record;
use super::tree::{Frontier, Subtree};
use super::{Hash, SLACK};

/// How many findings are kept; all are counted.
const MAX_FINDINGS: usize = 20;

/// One thing that is not as it was sealed; its text is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where in the order of sealing; those that were never sealed come last.
    leaf: u64,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// The range of time that an export says it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Its beginning.
    pub since: DateTime<Utc>,
    /// Its end, which does not belong to it. `None`: it has none.
    pub until: Option<DateTime<Utc>>,
}

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Events that are as they were sealed.
    pub sealed: u64,
    /// Leaves of which the export has only the hash, because their events are outside of its range.
    pub skipped: u64,
    /// Events that are not sealed yet.
    pub unsealed: u64,
    /// The export's range. `None`: the check was of the whole log in the database.
    pub range: Option<Range>,
    /// The first findings, in the order of sealing; at most 20.
    pub findings: Vec<Finding>,
    /// How many findings there are.
    pub found: u64,
}

/// A leaf whose event hashes to something else.
struct Mismatch {
    leaf: u64,
    event: String,
    computed: Hash,
    claimed: Hash,
}

/// The first checkpoint that did not fit, and what it covers beyond the last that did.
struct Pending {
    name: String,
    size: u64,
    good: u64,
    events: Option<(String, String)>,
}

impl Pending {
    /// The first bad event, as closely as checkpoints tell.
    fn which(&self) -> String {
        let (first_leaf, last_leaf) = (self.good, self.size.max(1) - 1);
        match &self.events {
            Some((first, last)) if first == last => format!("event {first} (leaf {first_leaf})"),
            Some((first, last)) => {
                format!("one of the events {first} to {last} (leaves {first_leaf} to {last_leaf})")
            }
            None => format!("one of the leaves {first_leaf} to {last_leaf}"),
        }
    }
}

/// A check under way.
#[derive(Default)]
pub struct Check {
    tree: Frontier,
    good: u64,
    first_since_good: Option<String>,
    last: Option<String>,
    /// The latest time that a checkpoint so far calls settled.
    settled: Option<DateTime<Utc>>,
    pending: Option<Pending>,
    mismatches: Vec<Mismatch>,
    outcome: Outcome,
}

impl Check {
    /// The number of leaves so far.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    fn find(&mut self, leaf: u64, what: String) {
        self.outcome.found += 1;
        let findings = &mut self.outcome.findings;
        findings.push(Finding { leaf, what });
        findings.sort_by_key(|finding| finding.leaf);
        findings.truncate(MAX_FINDINGS);
    }

    /// The next leaf with its event; `None`: the event is not there.
    /// Answers with the nodes of the kept levels that it makes complete.
    pub fn leaf(&mut self, event: &str, claimed: Hash, record: Option<&Record>) -> Vec<(Subtree, Hash)> {
        let leaf = self.tree.size();
        if let Some(record) = record.filter(|record| self.is_early(record)) {
            let id = &record.id;
            let what =
                "was added later: it is dated before what a checkpoint that does not have it calls settled";
            self.find(leaf, format!("event {id} (leaf {leaf}) {what}"));
        }
        match record.map(Record::leaf_hash) {
            Some(computed) if computed == claimed => self.outcome.sealed += 1,
            Some(computed) if self.mismatches.len() < 1_000 => {
                self.mismatches.push(Mismatch { leaf, event: event.to_owned(), computed, claimed });
            }
            Some(_) => self.outcome.found += 1,
            None => self.find(leaf, format!("event {event} (leaf {leaf}) was removed")),
        }
        self.first_since_good.get_or_insert_with(|| event.to_owned());
        self.last = Some(event.to_owned());
        self.tree.push(0, claimed).unwrap_or_default()
    }

    /// Leaves of which only the hash of their subtree is there; whether they can stand here.
    pub fn skip(&mut self, place: Subtree, hash: Hash) -> bool {
        let fits = place.index.checked_shl(place.level.into()) == Some(self.tree.size())
            && self.tree.push(place.level, hash).is_some();
        if fits {
            self.outcome.skipped += 1 << place.level;
        }
        fits
    }

    /// A checkpoint of exactly the leaves so far.
    pub fn checkpoint(&mut self, name: &str, head: Head) {
        self.settled = self.settled.max(head.settled);
        if self.tree.root() == head.root {
            if let Some(pending) = self.pending.take() {
                let (which, name, size) = (pending.which(), &pending.name, pending.size);
                let what = format!(
                    "{which} is not what {name} (size {size}) says, though later ones fit: the log was rolled \
                     back before it grew on, or that checkpoint was changed"
                );
                self.find(pending.good, what);
            }
            self.good = head.size;
            self.first_since_good = None;
        } else if self.pending.is_none() {
            let events = self.first_since_good.clone().zip(self.last.clone());
            self.pending = Some(Pending { name: name.to_owned(), size: head.size, good: self.good, events });
        }
    }

    /// A checkpoint of more leaves than there are.
    pub fn too_short(&mut self, name: &str, head: Head) {
        let (leaf, size) = (self.tree.size(), head.size);
        let after = self.after();
        self.find(
            leaf,
            format!(
                "the log was rolled back or cut off{after}: {name} has {size} leaves and there are {leaf}; \
                 the first event that was removed is that of leaf {leaf}"
            ),
        );
    }

    /// A leaf is not there, nor anything in its place: nothing after it can be checked against checkpoints.
    pub fn gap(&mut self, until: u64) {
        let (leaf, after) = (self.tree.size(), self.after());
        let last = until.saturating_sub(1).max(leaf);
        let leaves = if last == leaf { format!("leaf {leaf}") } else { format!("leaves {leaf} to {last}") };
        self.find(leaf, format!("the event of {leaves} was removed, with its leaf{after}"));
    }

    fn after(&self) -> String {
        self.last.as_ref().map(|event| format!(" after event {event}")).unwrap_or_default()
    }

    /// Adds a finding of the caller's.
    pub fn note(&mut self, leaf: u64, what: String) {
        self.find(leaf, what);
    }

    /// Whether an event is dated before it can have been written, given what had been settled by then.
    pub fn is_early(&self, record: &Record) -> bool {
        self.settled.is_some_and(|settled| record.at().is_none_or(|at| at < settled - SLACK))
    }

    /// Takes a time up to which everything is settled from elsewhere than a checkpoint.
    pub fn settle(&mut self, at: Option<DateTime<Utc>>) {
        self.settled = self.settled.max(at);
    }

    /// An event without a leaf. `because`: it cannot be one that the sealer only has not come to yet.
    pub fn unsealed(&mut self, event: &str, because: Option<&str>) {
        match because {
            None => self.outcome.unsealed += 1,
            Some(why) => self.find(u64::MAX, format!("event {event} was added and never sealed: {why}")),
        }
    }

    /// Ends the check.
    pub fn end(mut self) -> Outcome {
        let claimed: HashMap<[u8; 32], u64> =
            self.mismatches.iter().map(|mismatch| (mismatch.claimed.0, mismatch.leaf)).collect();
        for Mismatch { leaf, event, computed, .. } in std::mem::take(&mut self.mismatches) {
            let how = match claimed.get(&computed.0) {
                Some(from) => format!("was moved: it was sealed as leaf {from}"),
                None => "was changed".to_owned(),
            };
            self.find(leaf, format!("event {event} (leaf {leaf}) {how}"));
        }
        if let Some(pending) = self.pending.take() {
            let (which, name, size) = (pending.which(), &pending.name, pending.size);
            let what = format!(
                "{which} is not what was sealed, and its leaf was changed with it, or one was added, removed or \
                 moved there: {name} (size {size}) has another root"
            );
            self.find(pending.good, what);
        }
        self.outcome
    }
}
