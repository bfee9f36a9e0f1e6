//! The lines of an export: events as the API shows them with their leaves, and the seal at the end.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Hash;
use super::record::{Record, time};

/// The last entry of an export: what a verifier needs beside the events.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The number of leaves of the exported tree.
    pub tree_size: u64,
    /// The signed note of exactly this tree. For people: an auditor brings a checkpoint that they trust.
    pub checkpoint: String,
    /// Events before this time are not in the export.
    pub since: DateTime<Utc>,
    /// Events from this time on are not in the export. `None`: there is no such bound.
    pub until: Option<DateTime<Utc>>,
    /// Every event with this id or a smaller one has its leaf.
    pub horizon_id: i64,
    /// The largest complete subtrees of all leaves that are not in the export, from left to right.
    pub skipped: Vec<Skipped>,
    /// Leaves whose events were no longer in the table when the export was made.
    pub removed: Vec<Removed>,
}

/// A complete subtree of leaves that are not in the export.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// It has 2^`level` leaves, the first of which is `index` · 2^`level`.
    pub level: u8,
    /// Among the subtrees of this level.
    pub index: u64,
    /// In base64, as in checkpoints.
    pub hash: String,
}

/// A leaf whose event is no longer in the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removed {
    /// From 0.
    pub leaf_index: u64,
    /// The id that the event had.
    pub event_id: i64,
}

/// The seal as an export's line, which cannot be taken for an event.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealLine {
    /// The seal.
    pub seal: Seal,
}

/// An event as exported: as the API shows it and, if it is sealed, what its hash needs besides. Every field is a part of
/// what is hashed, or says which leaf it is. Not a flattened [`Record`]: `id` and `event_data` are spelled differently,
/// and serde cannot refuse unknown fields of a flattened struct.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line<'a> {
    pub(super) id: i64,
    pub(super) timestamp: String,
    pub(super) event_type: Option<String>,
    pub(super) severity: Option<String>,
    pub(super) success: Option<bool>,
    pub(super) user_identity: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) team: Option<String>,
    pub(super) runner_id: Option<String>,
    pub(super) runner_name: Option<String>,
    pub(super) target: Option<String>,
    pub(super) request_id: Option<String>,
    pub(super) request_ip: Option<String>,
    pub(super) user_agent: Option<String>,
    pub(super) policy_rule: Option<String>,
    #[serde(borrow)]
    pub(super) event_data: &'a RawValue,
    pub(super) error_code: Option<String>,
    pub(super) error_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) xid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) leaf_index: Option<u64>,
    /// In base64, as in checkpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) leaf_hash: Option<String>,
}

/// Makes a struct of the columns that [`Record`] and [`Line`] spell alike, and of the fields that are given.
macro_rules! with_columns {
    ($from:ident => $into:ident { $($own:tt)* }) => {
        $into {
            error_code: $from.error_code,
            error_message: $from.error_message,
            event_type: $from.event_type,
            issuer: $from.issuer,
            policy_rule: $from.policy_rule,
            request_id: $from.request_id,
            request_ip: $from.request_ip,
            runner_id: $from.runner_id,
            runner_name: $from.runner_name,
            severity: $from.severity,
            subject: $from.subject,
            success: $from.success,
            target: $from.target,
            team: $from.team,
            user_agent: $from.user_agent,
            user_identity: $from.user_identity,
            $($own)*
        }
    };
}

/// The line of an event, with its leaf (index and hash) if it has one. `None`: `event_data` is not JSON.
pub fn line(id: i64, at: DateTime<Utc>, record: Record, leaf: Option<(u64, Hash)>) -> Option<String> {
    let line = with_columns!(record => Line {
        id,
        timestamp: at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        event_data: serde_json::from_str(&record.event_data).ok()?,
        xid: leaf.is_some().then_some(record.xid),
        leaf_index: leaf.map(|(index, _)| index),
        leaf_hash: leaf.map(|(_, hash)| hash.to_string()),
    });
    serde_json::to_string(&line).ok()
}

impl Line<'_> {
    /// What was hashed when the event was sealed.
    pub(super) fn record(self) -> Record {
        with_columns!(self => Record {
            event_data: self.event_data.get().to_owned(),
            id: self.id.to_string(),
            timestamp: time(&self.timestamp),
            xid: self.xid.unwrap_or_default(),
        })
    }
}
