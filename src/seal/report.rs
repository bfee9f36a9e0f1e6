//! The sealer's report of rows that nobody can have added in an honest way.

use serde::Deserialize;

/// The ids of the events that a report of the sealer's names.
pub fn reported_ids(event_data: &str) -> Vec<i64> {
    #[derive(Deserialize)]
    struct Report {
        #[serde(default)]
        event_ids: Vec<i64>,
    }
    serde_json::from_str::<Report>(event_data).map(|report| report.event_ids).unwrap_or_default()
}
