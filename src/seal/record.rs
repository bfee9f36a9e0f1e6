//! The bytes of an event that are hashed: RFC 8785 JSON of all its columns as texts. Each difference that
//! Postgres could show makes other bytes; numbers in `event_data` are never read as such.

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

use super::Hash;

/// All columns of a row of `audit_log` as texts. `None` is NULL. The fields are in the order of their names, as RFC 8785
/// demands of the members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The code of a refusal or failure.
    pub error_code: Option<String>,
    /// Its text.
    pub error_message: Option<String>,
    /// `jsonb` as Postgres prints it, to the character.
    pub event_data: String,
    /// Such as `provisioned`.
    pub event_type: Option<String>,
    /// The number of the row.
    pub id: String,
    /// The caller's issuer.
    pub issuer: Option<String>,
    /// The rule that let the caller in.
    pub policy_rule: Option<String>,
    /// The request that it belongs to.
    pub request_id: Option<String>,
    /// Where the request came from.
    pub request_ip: Option<String>,
    /// The runner's UUID.
    pub runner_id: Option<String>,
    /// The runner's name.
    pub runner_name: Option<String>,
    /// Such as `info` or `warning`.
    pub severity: Option<String>,
    /// The caller's subject.
    pub subject: Option<String>,
    /// Whether it was done.
    pub success: Option<bool>,
    /// The organisation or repository.
    pub target: Option<String>,
    /// The team's name.
    pub team: Option<String>,
    /// When it happened, as [`time`] writes it.
    pub timestamp: String,
    /// The caller's program.
    pub user_agent: Option<String>,
    /// The caller's display name.
    pub user_identity: Option<String>,
    /// The transaction that wrote the row.
    pub xid: String,
}

impl Record {
    /// The bytes that are hashed. serde_json escapes what RFC 8785 escapes, in the same way.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// SHA-256(0x00 ‖ bytes), the leaf of RFC 6962.
    pub fn leaf_hash(&self) -> Hash {
        tlog_tiles::record_hash(&self.bytes())
    }

    /// When it happened. `None`: not a time that the service writes, such as `infinity`.
    pub fn at(&self) -> Option<DateTime<Utc>> {
        DateTime::parse_from_rfc3339(&self.timestamp).ok().map(|at| at.to_utc())
    }
}

/// A time as Postgres prints it in UTC, or as RFC 3339 has it, with exactly six digits and `Z`. What is neither
/// (years before Christ, `infinity`, more digits than Postgres keeps) stays as it is, and equals no honest one.
pub fn time(text: &str) -> String {
    let at = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"));
    match at.map(|at| at.to_utc()) {
        Ok(at) if at == at.trunc_subsecs(6) => at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_rfc_8785_json() {
        let record = Record {
            id: "7".into(),
            xid: "742".into(),
            timestamp: time("2026-11-22 10:00:00.1+00"),
            event_type: Some("provisioned".into()),
            severity: Some("info".into()),
            success: Some(true),
            user_identity: Some("a\"\\\u{1}\u{7f}\n€\u{1F600}".into()),
            event_data: r#"{"n": 9007199254740993.0}"#.into(),
            ..Record::default()
        };
        let wanted = concat!(
            r#"{"error_code":null,"error_message":null,"event_data":"{\"n\": 9007199254740993.0}","#,
            r#""event_type":"provisioned","id":"7","issuer":null,"policy_rule":null,"request_id":null,"#,
            r#""request_ip":null,"runner_id":null,"runner_name":null,"severity":"info","subject":null,"#,
            r#""success":true,"target":null,"team":null,"timestamp":"2026-11-22T10:00:00.100000Z","#,
            "\"user_agent\":null,\"user_identity\":\"a\\\"\\\\\\u0001\u{7f}\\n€😀\",\"xid\":\"742\"}"
        );
        assert_eq!(String::from_utf8(record.bytes()).unwrap(), wanted);
    }

    #[test]
    fn the_members_stand_in_the_order_of_their_names() {
        let value: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&Record::default().bytes()).unwrap();
        assert_eq!(value.len(), 20);
        let text = String::from_utf8(Record::default().bytes()).unwrap();
        let mut names: Vec<(usize, &String)> =
            value.keys().map(|name| (text.find(&format!("\"{name}\":")).unwrap(), name)).collect();
        names.sort();
        assert!(names.is_sorted_by_key(|(_, name)| name.encode_utf16().collect::<Vec<_>>()), "{names:?}");
    }

    #[test]
    fn a_time_has_one_spelling_and_no_two_times_share_it() {
        for text in ["2026-11-22 10:00:00.12+00", "2026-11-22T10:00:00.120Z", "2026-11-22T12:00:00.12+02:00"]
        {
            assert_eq!(time(text), "2026-11-22T10:00:00.120000Z");
        }
        assert_eq!(time("2026-11-22 10:00:00+00"), "2026-11-22T10:00:00.000000Z");
        for text in ["2026-11-22 10:00:00.12+00 BC", "infinity", "2026-11-22T10:00:00.120000001Z", ""] {
            assert_eq!(time(text), text);
        }
    }
}
