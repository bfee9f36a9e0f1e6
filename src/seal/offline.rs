//! Checks an export against checkpoints with nothing else: no database, no network. Reads the file twice, line by
//! line, and keeps only what is out of order.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::check::{Check, Outcome};
use super::note::Head;
use super::record::{Record, time};
use super::tree::Subtree;
use super::{Hash, SLACK, TAMPERED};

/// Why a file could not be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Read(#[source] io::Error),
    #[error("line {line}: not an event of this log: {why}")]
    Line { line: usize, why: String },
    #[error(
        "nothing in this file was sealed: it has no 'seal', which a json or jsonl export has as its last entry"
    )]
    NoSeal,
    #[error("the export was made of a tree of {exported} leaves, too few for a checkpoint of {wanted}")]
    Older { exported: u64, wanted: u64 },
    #[error(
        "the export leaves out what is needed to compare it with a checkpoint of size {0}: \
         export from the log's beginning"
    )]
    Skipped(u64),
}

/// The last entry of an export: what is needed to check the rest of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    pub tree_size: u64,
    /// The checkpoint of exactly this tree, to look at; the auditor brings one that he trusts.
    pub checkpoint: String,
    pub since: DateTime<Utc>,
    pub until: Option<DateTime<Utc>>,
    /// Up to this id every event has its leaf.
    pub horizon_id: i64,
    /// Subtrees of leaves that the export's time leaves out.
    pub skipped: Vec<Skipped>,
    /// Leaves whose events were not there when the export was made.
    pub removed: Vec<Removed>,
}

/// A subtree of leaves that are not in the export.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    pub level: u8,
    pub index: u64,
    pub hash: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removed {
    pub leaf_index: u64,
    pub event_id: i64,
}

/// How an export spells it, so that it cannot be taken for an event.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealLine {
    pub seal: Seal,
}

/// An event as exported: as the API shows it and, if it is sealed, what its hash needs besides. A field that is
/// not sealed has no place here.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line<'a> {
    pub id: i64,
    pub timestamp: String,
    pub event_type: Option<String>,
    pub severity: Option<String>,
    pub success: Option<bool>,
    pub user_identity: Option<String>,
    pub issuer: Option<String>,
    pub subject: Option<String>,
    pub team: Option<String>,
    pub runner_id: Option<String>,
    pub runner_name: Option<String>,
    pub target: Option<String>,
    pub request_id: Option<String>,
    pub request_ip: Option<String>,
    pub user_agent: Option<String>,
    pub policy_rule: Option<String>,
    #[serde(borrow)]
    pub event_data: &'a RawValue,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_index: Option<u64>,
    /// Base64, as everywhere in checkpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_hash: Option<String>,
}

/// An event with its leaf, if it has one, as a line of an export. `None`: `event_data` is no JSON.
pub fn line(id: i64, at: DateTime<Utc>, record: Record, leaf: Option<(u64, Hash)>) -> Option<String> {
    let line = Line {
        id,
        timestamp: at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        event_type: record.event_type,
        severity: record.severity,
        success: record.success,
        user_identity: record.user_identity,
        issuer: record.issuer,
        subject: record.subject,
        team: record.team,
        runner_id: record.runner_id,
        runner_name: record.runner_name,
        target: record.target,
        request_id: record.request_id,
        request_ip: record.request_ip,
        user_agent: record.user_agent,
        policy_rule: record.policy_rule,
        event_data: serde_json::from_str(&record.event_data).ok()?,
        error_code: record.error_code,
        error_message: record.error_message,
        xid: leaf.is_some().then_some(record.xid),
        leaf_index: leaf.map(|(index, _)| index),
        leaf_hash: leaf.map(|(_, hash)| hash.to_string()),
    };
    serde_json::to_string(&line).ok()
}

impl Line<'_> {
    fn record(self) -> Record {
        Record {
            error_code: self.error_code,
            error_message: self.error_message,
            event_data: self.event_data.get().to_owned(),
            event_type: self.event_type,
            id: self.id.to_string(),
            issuer: self.issuer,
            policy_rule: self.policy_rule,
            request_id: self.request_id,
            request_ip: self.request_ip,
            runner_id: self.runner_id,
            runner_name: self.runner_name,
            severity: self.severity,
            subject: self.subject,
            success: self.success,
            target: self.target,
            team: self.team,
            timestamp: time(&self.timestamp),
            user_agent: self.user_agent,
            user_identity: self.user_identity,
            xid: self.xid.unwrap_or_default(),
        }
    }
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

/// What the first reading finds out.
#[derive(Default)]
struct Overview {
    seal: Option<Seal>,
    reported: HashSet<i64>,
}

/// The ids of the events that a report of the sealer's names.
pub fn reported_ids(event_data: &str) -> Vec<i64> {
    #[derive(Deserialize)]
    struct Report {
        #[serde(default)]
        event_ids: Vec<i64>,
    }
    serde_json::from_str::<Report>(event_data).map(|report| report.event_ids).unwrap_or_default()
}

fn overview(file: impl BufRead) -> Result<Overview, Error> {
    let mut found = Overview::default();
    entries(file, |number, entry| {
        if entry.starts_with("{\"seal\":") {
            found.seal = Some(parsed::<SealLine>(number, entry)?.seal);
            return Ok(());
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

/// Checks a file, which `open` opens, against a checkpoint and perhaps an older one.
pub fn verify<R: BufRead>(
    mut open: impl FnMut() -> io::Result<R>,
    checkpoint: Head,
    previous: Option<Head>,
) -> Result<Outcome, Error> {
    let overview = overview(open().map_err(Error::Read)?)?;
    let seal = overview.seal.ok_or(Error::NoSeal)?;
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
        let hash = hash.ok_or_else(|| Error::Line { line: 0, why: "a hash that is none".into() })?;
        let place = Subtree { level: *level, index: *index };
        reading.skipped.insert(index.checked_shl((*level).into()).unwrap_or(u64::MAX), (place, hash));
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
                    return Err(Error::Line { line: 0, why: "the seal skips leaves that cannot be".into() });
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
        Ok(self.check.end())
    }
}
