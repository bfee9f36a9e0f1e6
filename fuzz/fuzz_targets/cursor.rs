//! Query strings of all lists: their cursors, times and limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runner_broker::http::inputs::{
    AuditQuery, IdentityQuery, JobsQuery, ListQuery, SecurityQuery, TeamQuery, to_cursor,
};
use runner_broker::http::time;
use serde::de::DeserializeOwned;

fuzz_target!(|query: &str| {
    if let Ok(at) = time(query) {
        assert_eq!(time(&at.to_rfc3339()), Ok(at));
    }
    let runners = |query: &str| as_query(query).and_then(|query: ListQuery| query.parse().ok());
    let audit = |query: &str| as_query(query).and_then(|query: AuditQuery| query.parse().ok());
    let jobs = |query: &str| as_query(query).and_then(|query: JobsQuery| query.parse().ok());
    let people = |query: &str| as_query(query).and_then(|query: IdentityQuery| query.parse().ok());
    let teams = |query: &str| as_query(query).and_then(|query: TeamQuery| query.parse().ok());
    let security = |query: &str| as_query(query).and_then(|query: SecurityQuery| query.parse().ok());

    if let Some((_, Some(cursor), limit)) = runners(query) {
        assert_eq!(runners(&page(&cursor.to_string(), limit)).map(|(_, again, _)| again), Some(Some(cursor)));
    }
    if let Some((filter, cursor, limit)) = audit(query) {
        for at in filter.since.iter().chain(&filter.until) {
            assert_eq!(time(&at.to_rfc3339()), Ok(*at));
        }
        if let Some(cursor) = cursor {
            assert_eq!(
                audit(&page(&cursor.to_string(), limit)).map(|(_, again, _)| again),
                Some(Some(cursor))
            );
        }
    }
    if let Some((_, Some(cursor), limit)) = jobs(query) {
        assert_eq!(jobs(&page(&cursor.to_string(), limit)).map(|(_, again, _)| again), Some(Some(cursor)));
    }
    if let Some((_, Some(cursor), limit)) = people(query) {
        assert_eq!(people(&page(&cursor.to_string(), limit)).map(|(_, again, _)| again), Some(Some(cursor)));
    }
    if let Some((_, Some(cursor), limit)) = teams(query) {
        assert_eq!(teams(&page(&cursor, limit)).map(|(_, again, _)| again), Some(Some(cursor)));
    }
    if let Some((_, Some(cursor), limit)) = security(query) {
        assert_eq!(security(&page(&to_cursor(cursor), limit)).map(|(_, again, _)| again), Some(Some(cursor)));
    }
});

fn as_query<T: DeserializeOwned>(query: &str) -> Option<T> {
    serde_urlencoded::from_str(query).ok()
}

/// How the next page is asked for.
fn page(cursor: &str, limit: i64) -> String {
    assert!((1..=200).contains(&limit));
    serde_urlencoded::to_string([("cursor", cursor), ("limit", &limit.to_string())]).expect("two texts")
}
