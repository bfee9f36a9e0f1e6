//! The bytes of an event that are hashed: RFC 8785 JSON of all its columns as texts. Each difference that
//! Postgres could show makes other bytes; numbers in `event_data` are never read as such.

use chrono::{DateTime, SubsecRound, Utc};
use serde::Serialize;

use super::Hash;

/// All columns of an event. The order of the fields is the one that RFC 8785 demands of the members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Record {
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    /// `jsonb` as Postgres prints it, to the character.
    pub event_data: String,
    pub event_type: Option<String>,
    pub id: String,
    pub issuer: Option<String>,
    pub policy_rule: Option<String>,
    pub request_id: Option<String>,
    pub request_ip: Option<String>,
    pub runner_id: Option<String>,
    pub runner_name: Option<String>,
    pub severity: Option<String>,
    pub subject: Option<String>,
    pub success: Option<bool>,
    pub target: Option<String>,
    pub team: Option<String>,
    /// As `time` writes it.
    pub timestamp: String,
    pub user_agent: Option<String>,
    pub user_identity: Option<String>,
    pub xid: String,
}

impl Record {
    /// What is hashed. serde_json escapes what RFC 8785 escapes, in the same way.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// SHA-256(0x00 ‖ bytes), the leaf of RFC 6962.
    pub fn leaf_hash(&self) -> Hash {
        tlog_tiles::record_hash(&self.bytes())
    }

    /// When it happened; `None` for what is no time of ours, such as `infinity`.
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
