//! Events as a table for spreadsheets: the fields of the API, in the order in which it has them.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::store::audit::Event;

/// The columns, in order; JSON has the same names.
const COLUMNS: [&str; 19] = [
    "id",
    "timestamp",
    "event_type",
    "severity",
    "success",
    "user_identity",
    "issuer",
    "subject",
    "team",
    "runner_id",
    "runner_name",
    "target",
    "request_id",
    "request_ip",
    "user_agent",
    "policy_rule",
    "event_data",
    "error_code",
    "error_message",
];

/// Writes the first line.
///
/// # Errors
///
/// What `out` answers.
pub fn csv_header(out: impl Write) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(COLUMNS)?;
    csv.flush()
}

/// Writes a line for each of these.
///
/// # Errors
///
/// What `out` answers.
pub fn csv_rows<'a>(out: impl Write, events: impl IntoIterator<Item = &'a Event>) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    for event in events {
        csv.write_record(values(event).map(|value| as_field(&value)))?;
    }
    csv.flush()
}

/// In the order of [`COLUMNS`].
fn values(event: &Event) -> [Value; 19] {
    [
        json!(event.id),
        json!(event.timestamp),
        json!(event.event_type),
        json!(event.severity),
        json!(event.success),
        json!(event.user_identity),
        json!(event.issuer),
        json!(event.subject),
        json!(event.team),
        json!(event.runner_id),
        json!(event.runner_name),
        json!(event.target),
        json!(event.request_id),
        json!(event.request_ip),
        json!(event.user_agent),
        json!(event.policy_rule),
        event.event_data.clone(),
        json!(event.error_code),
        json!(event.error_message),
    ]
}

/// A field. What a spreadsheet would take for a formula is quoted: callers choose some of these texts.
fn as_field(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => format!("'{text}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
