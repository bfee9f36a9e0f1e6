//! Events as CSV, with the fields of the API in its order.

use std::io::{self, Write};

use serde_json::Value;

use super::audit::Event;
use crate::store::audit;

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

/// The first line.
pub fn csv_header(out: impl Write) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(COLUMNS)?;
    csv.flush()
}

/// A line for each of these.
pub fn csv_rows<'a>(out: impl Write, events: impl IntoIterator<Item = &'a audit::Event>) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    for event in events {
        let fields = serde_json::to_value(Event::from(event.clone()))?;
        csv.write_record(COLUMNS.map(|column| as_field(&fields[column])))?;
    }
    csv.flush()
}

/// A field. Texts that a spreadsheet would take for a formula are quoted, since callers choose some of them.
fn as_field(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => format!("'{text}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
