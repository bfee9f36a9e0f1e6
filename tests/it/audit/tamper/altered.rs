//! An export that was altered anywhere is never taken for the one that was made, without any database.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use runner_broker::seal::Hash;
use runner_broker::seal::check::Outcome;
use runner_broker::seal::export::{Removed, Seal, SealLine, Skipped, line};
use runner_broker::seal::note::{self, Head};
use runner_broker::seal::offline;
use runner_broker::seal::record::{Record, time};
use runner_broker::seal::tree::{Frontier, Subtree, fold};
use serde_json::value::RawValue;

const MINUTE: TimeDelta = TimeDelta::minutes(1);

fn at(event: usize) -> DateTime<Utc> {
    DateTime::from_timestamp(1_780_000_000, 0).unwrap() + MINUTE * event as i32
}

fn record(event: usize) -> Record {
    Record {
        id: (event + 1).to_string(),
        xid: (700 + event).to_string(),
        timestamp: time(&at(event).to_rfc3339()),
        event_type: Some(format!("e{event}")),
        success: Some(event.is_multiple_of(2)),
        severity: Some("info".into()),
        user_identity: Some("u".into()),
        event_data: format!("{{\"n\": {event}}}"),
        ..Record::default()
    }
}

/// An export of the events from `from` up to `until` of a log of `sealed` events, and of `unsealed` ones after them.
#[derive(Debug)]
struct Export {
    events: Vec<String>,
    unsealed: Vec<String>,
    seal: Seal,
    trusted: Head,
}

impl Export {
    fn new(sealed: usize, unsealed: usize, from: usize, until: usize) -> Export {
        let hashes: Vec<Hash> = (0..sealed).map(|event| record(event).leaf_hash()).collect();
        let mut tree = Frontier::default();
        for hash in &hashes {
            tree.push(0, *hash).unwrap();
        }
        let trusted = Head { size: sealed as u64, root: tree.root(), settled: None };
        let line = |event: usize, leaf| line(event as i64 + 1, at(event), record(event), leaf).unwrap();
        let gaps = [0..from as u64, until as u64..sealed as u64];
        let skipped = gaps.into_iter().flat_map(Subtree::covering).map(|Subtree { level, index }| {
            let leaves = (index << level) as usize..((index + 1) << level) as usize;
            Skipped { level, index, hash: fold(hashes[leaves].to_vec()).unwrap().to_string() }
        });
        Export {
            events: (from..until).map(|event| line(event, Some((event as u64, hashes[event])))).collect(),
            unsealed: (sealed..sealed + unsealed).map(|event| line(event, None)).collect(),
            seal: Seal {
                tree_size: sealed as u64,
                checkpoint: note::write(trusted, None).unwrap(),
                since: at(from),
                until: (until < sealed).then(|| at(until)),
                horizon_id: sealed as i64,
                skipped: skipped.collect(),
                removed: Vec::new(),
            },
            trusted,
        }
    }

    fn text(&self) -> String {
        let seal = serde_json::to_string(&SealLine { seal: self.seal.clone() }).unwrap();
        let lines = self.events.iter().chain(&self.unsealed);
        lines.cloned().chain([seal]).map(|line| line + "\n").collect()
    }

    fn verified(&self) -> Result<Outcome, offline::Error> {
        verified(&self.text(), self.trusted)
    }
}

fn verified(text: &str, trusted: Head) -> Result<Outcome, offline::Error> {
    offline::verify(|| Ok(text.as_bytes()), trusted, None)
}

fn export() -> impl Strategy<Value = Export> {
    (1..70_usize, 0..3_usize, any::<[Index; 2]>(), any::<bool>()).prop_map(
        |(sealed, unsealed, ends, is_whole)| {
            let mut ends = ends.map(|end| end.index(sealed + 1));
            ends.sort_unstable();
            let [from, until] = ends;
            match is_whole || from == until {
                true => Export::new(sealed, unsealed, 0, sealed),
                false => Export::new(sealed, 0, from, until),
            }
        },
    )
}

type Fields = BTreeMap<String, Box<RawValue>>;

fn fields(line: &str) -> Fields {
    serde_json::from_str(line).unwrap()
}

/// Another value of the same type.
fn other(name: &str, value: &RawValue) -> Box<RawValue> {
    let text = match value.get() {
        "true" => "false".to_owned(),
        "false" => "true".to_owned(),
        "null" => "\"x\"".to_owned(),
        text if name == "event_data" => text.replace(": ", ":"),
        text if name == "leaf_hash" => {
            text.replace(&text[1..3], if &text[1..3] == "AA" { "BB" } else { "AA" })
        }
        text if text.starts_with('"') => format!("{}1\"", &text[..text.len() - 1]),
        number => format!("{}", number.parse::<u64>().unwrap() + 1),
    };
    RawValue::from_string(text).unwrap()
}

const FIELDS: &[&str] = &[
    "error_code",
    "error_message",
    "event_data",
    "event_type",
    "id",
    "issuer",
    "leaf_hash",
    "leaf_index",
    "policy_rule",
    "request_id",
    "request_ip",
    "runner_id",
    "runner_name",
    "severity",
    "subject",
    "success",
    "target",
    "team",
    "timestamp",
    "user_agent",
    "user_identity",
    "xid",
];

#[derive(Clone, Copy, Debug)]
enum Edit {
    Drop,
    Duplicate,
    Change(&'static str),
    Swap(&'static str),
    DropUnsealed,
    Size,
    CheckpointOfAnotherSize,
    CheckpointOfAnotherTree,
    NoCheckpoint,
    Since,
    Until,
    Horizon,
    DropSkipped,
    DuplicateSkipped,
    SkippedHash,
    SkippedLevel,
    SkippedIndex,
    SkipWhatIsThere,
    SkipInsteadOfAnEvent,
    Removed,
    SecondSeal,
}

fn edit() -> impl Strategy<Value = Edit> {
    use Edit::*;
    prop_oneof![
        6 => select(FIELDS).prop_map(Change),
        6 => select(FIELDS).prop_map(Swap),
        12 => select(vec![
            Drop, Duplicate, DropUnsealed, Size, CheckpointOfAnotherSize, CheckpointOfAnotherTree, NoCheckpoint, Since,
            Until, Horizon, DropSkipped, DuplicateSkipped, SkippedHash, SkippedLevel, SkippedIndex, SkipWhatIsThere,
            SkipInsteadOfAnEvent, Removed, SecondSeal,
        ]),
    ]
}

/// Makes the edit. `None`: this export has nothing to edit in this way.
fn edited(export: &mut Export, edit: Edit, one: Index, two: Index) -> Option<String> {
    let events = export.events.len();
    let (one, two) = (one.index(events), two.index(events));
    let skipped = export.seal.skipped.len();
    match edit {
        Edit::Drop => drop(export.events.remove(one)),
        Edit::Duplicate => export.events.insert(two, export.events[one].clone()),
        Edit::Change(name) => {
            let mut fields = fields(&export.events[one]);
            let value = other(name, &fields[name]);
            fields.insert(name.into(), value);
            export.events[one] = serde_json::to_string(&fields).unwrap();
        }
        Edit::Swap(name) => {
            let (mut a, mut b) = (fields(&export.events[one]), fields(&export.events[two]));
            let (x, y) = (a[name].clone(), b[name].clone());
            if x.get() == y.get() {
                return None;
            }
            a.insert(name.into(), y);
            b.insert(name.into(), x);
            export.events[one] = serde_json::to_string(&a).unwrap();
            export.events[two] = serde_json::to_string(&b).unwrap();
        }
        Edit::DropUnsealed => drop(export.unsealed.pop()?),
        Edit::Size => export.seal.tree_size += 1,
        Edit::CheckpointOfAnotherSize => {
            let other = Head { size: export.trusted.size + 1, ..export.trusted };
            export.seal.checkpoint = note::write(other, None).unwrap();
        }
        Edit::CheckpointOfAnotherTree => {
            let other = Head { root: record(99).leaf_hash(), ..export.trusted };
            export.seal.checkpoint = note::write(other, None).unwrap();
        }
        Edit::NoCheckpoint => export.seal.checkpoint.clear(),
        Edit::Since => export.seal.since += MINUTE,
        Edit::Until => export.seal.until = Some(export.seal.until.unwrap_or_else(|| at(200)) + MINUTE),
        // A smaller one cannot be disproved: it says less.
        Edit::Horizon if export.unsealed.is_empty() => return None,
        Edit::Horizon => export.seal.horizon_id += 1,
        Edit::Removed => export.seal.removed.push(Removed { leaf_index: 0, event_id: 1 }),
        Edit::SkipWhatIsThere => {
            let fields = fields(&export.events[one]);
            let index = fields["leaf_index"].get().parse().unwrap();
            let hash = serde_json::from_str(fields["leaf_hash"].get()).unwrap();
            export.seal.skipped.push(Skipped { level: 0, index, hash });
        }
        Edit::SkipInsteadOfAnEvent => {
            edited_to_skip(export, one);
        }
        Edit::SecondSeal => {
            let first = export.text();
            export.seal.until = Some(at(1));
            return Some(export.text().lines().last().unwrap().to_owned() + "\n" + &first);
        }
        _ if skipped == 0 => return None,
        Edit::DropSkipped => drop(export.seal.skipped.remove(one % skipped)),
        Edit::DuplicateSkipped => export.seal.skipped.push(export.seal.skipped[one % skipped].clone()),
        Edit::SkippedHash => export.seal.skipped[one % skipped].hash = record(99).leaf_hash().to_string(),
        Edit::SkippedLevel => export.seal.skipped[one % skipped].level += 1,
        Edit::SkippedIndex => export.seal.skipped[one % skipped].index += 1,
    }
    Some(export.text())
}

/// What nothing in the file can disprove when it happens at its edge; the numbers say it.
fn edited_to_skip(export: &mut Export, event: usize) {
    let fields = fields(&export.events.remove(event));
    let index = fields["leaf_index"].get().parse().unwrap();
    let hash = serde_json::from_str(fields["leaf_hash"].get()).unwrap();
    export.seal.skipped.push(Skipped { level: 0, index, hash });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn an_altered_export_is_refused_or_says_something_else(
        mut export in export(), edit in edit(), one: Index, two: Index,
    ) {
        let outcome = export.verified().unwrap();
        prop_assert!(outcome.findings.is_empty(), "{outcome:?}");
        prop_assert_eq!(outcome.sealed, export.events.len() as u64);
        let trusted = export.trusted;
        let text = edited(&mut export, edit, one, two);
        prop_assume!(text.is_some());
        match verified(&text.unwrap(), trusted) {
            Err(_) => {}
            Ok(altered) => prop_assert!(altered.found > 0 || altered != outcome, "{altered:?}"),
        }
    }

    #[test]
    fn the_order_of_the_lines_says_nothing(mut export in export(), one: Index, two: Index) {
        let outcome = export.verified().unwrap();
        let events = export.events.len();
        export.events.swap(one.index(events), two.index(events));
        prop_assert_eq!(export.verified().unwrap(), outcome);
    }
}
