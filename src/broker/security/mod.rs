//! Security events: which events of the log these are, how grave, and how somebody is told. There is no second
//! log: the type of an event follows from what the log says of it.

mod alerts;
mod bursts;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use metrics::counter;
use serde_json::Value;

use super::{Broker, Error};
use crate::store::audit::{self, Event, NewEvent};
use crate::store::security::{self, Cursor, Filter};
use crate::store::{self, Conn};

/// How grave something is, as `severity` spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Info,
    Warning,
    High,
}

impl Severity {
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::High];

    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::High => "high",
        }
    }
}

/// What kind of security event something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    LabelPolicyViolation,
    PolicyViolation,
    QuotaExceeded,
    LabelDriftDetected,
    UnmanagedRunnerDetected,
    LabelPolicyViolationWorkflow,
    InvalidTokenBurst,
    ProvisionBurst,
    WebhookSignatureInvalid,
    AuditLogTampered,
    AuditLogMoved,
    AccessRefused,
    IdentityRefused,
    IdentityDeactivated,
    IdentityActivated,
}

impl Type {
    pub const ALL: [Type; 15] = [
        Type::LabelPolicyViolation,
        Type::PolicyViolation,
        Type::QuotaExceeded,
        Type::LabelDriftDetected,
        Type::UnmanagedRunnerDetected,
        Type::LabelPolicyViolationWorkflow,
        Type::InvalidTokenBurst,
        Type::ProvisionBurst,
        Type::WebhookSignatureInvalid,
        Type::AuditLogTampered,
        Type::AuditLogMoved,
        Type::AccessRefused,
        Type::IdentityRefused,
        Type::IdentityDeactivated,
        Type::IdentityActivated,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Type::LabelPolicyViolation => "label_policy_violation",
            Type::PolicyViolation => "policy_violation",
            Type::QuotaExceeded => "quota_exceeded",
            Type::LabelDriftDetected => "label_drift_detected",
            Type::UnmanagedRunnerDetected => "unmanaged_runner_detected",
            Type::LabelPolicyViolationWorkflow => "label_policy_violation_workflow",
            Type::InvalidTokenBurst => "invalid_token_burst",
            Type::ProvisionBurst => "provision_burst",
            Type::WebhookSignatureInvalid => "webhook_signature_invalid",
            Type::AuditLogTampered => "audit_log_tampered",
            Type::AuditLogMoved => "audit_log_moved",
            Type::AccessRefused => "access_refused",
            Type::IdentityRefused => "identity_refused",
            Type::IdentityDeactivated => "identity_deactivated",
            Type::IdentityActivated => "identity_activated",
        }
    }

    /// High is what somebody should look at today: something ran, or was changed, that should not have been.
    pub fn severity(self) -> Severity {
        match self {
            Type::QuotaExceeded | Type::IdentityDeactivated | Type::IdentityActivated => Severity::Info,
            Type::LabelPolicyViolation
            | Type::PolicyViolation
            | Type::InvalidTokenBurst
            | Type::WebhookSignatureInvalid
            | Type::AuditLogMoved
            | Type::AccessRefused
            | Type::IdentityRefused => Severity::Warning,
            Type::LabelDriftDetected
            | Type::UnmanagedRunnerDetected
            | Type::LabelPolicyViolationWorkflow
            | Type::ProvisionBurst
            | Type::AuditLogTampered => Severity::High,
        }
    }

    /// What the broker does about it by itself, where that is always the same.
    fn usual_action(self) -> Option<&'static str> {
        match self {
            Type::LabelPolicyViolation
            | Type::PolicyViolation
            | Type::QuotaExceeded
            | Type::InvalidTokenBurst
            | Type::WebhookSignatureInvalid
            | Type::AccessRefused
            | Type::IdentityRefused => Some("refused"),
            Type::IdentityDeactivated => Some("deactivated"),
            Type::IdentityActivated => Some("activated"),
            Type::ProvisionBurst | Type::AuditLogMoved => Some("reported"),
            Type::LabelDriftDetected
            | Type::UnmanagedRunnerDetected
            | Type::LabelPolicyViolationWorkflow
            | Type::AuditLogTampered => None,
        }
    }

    /// What was done about this event: as it says itself, else as always.
    pub fn action_taken(self, event_data: &Value) -> Option<String> {
        let own = event_data.get("action_taken").and_then(Value::as_str);
        own.or(self.usual_action()).map(str::to_owned)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn listed(names: impl Iterator<Item = &'static str>) -> String {
    format!("one of {}", names.collect::<Vec<_>>().join(", "))
}

impl FromStr for Type {
    type Err = String;

    fn from_str(text: &str) -> Result<Type, String> {
        let found = Type::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| listed(Type::ALL.into_iter().map(Type::as_str)))
    }
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Severity, String> {
        let found = Severity::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| listed(Severity::ALL.into_iter().map(Severity::as_str)))
    }
}

/// What kind of security event an event of the log is; `None`: none. The function `audit_security_type` in
/// the database says the same, for its index.
pub fn classify(event_type: &str, error_code: Option<&str>) -> Option<Type> {
    match (event_type, error_code) {
        ("provision_refused", Some("LABEL_POLICY_VIOLATION")) => Some(Type::LabelPolicyViolation),
        ("provision_refused", Some("QUOTA_EXCEEDED")) => Some(Type::QuotaExceeded),
        ("provision_refused", Some("IDENTITY_DEACTIVATED")) => Some(Type::IdentityRefused),
        (
            "provision_refused",
            Some("METHOD_NOT_ALLOWED_BY_POLICY" | "TARGET_NOT_ALLOWED" | "RUNNER_GROUP_NOT_ALLOWED"),
        ) => Some(Type::PolicyViolation),
        ("label_drift_detected", _) => Some(Type::LabelDriftDetected),
        ("unmanaged_runner_detected", _) => Some(Type::UnmanagedRunnerDetected),
        ("label_policy_violation_workflow", _) => Some(Type::LabelPolicyViolationWorkflow),
        ("invalid_token_burst", _) => Some(Type::InvalidTokenBurst),
        ("provision_burst", _) => Some(Type::ProvisionBurst),
        ("webhook_signature_invalid", _) => Some(Type::WebhookSignatureInvalid),
        ("audit_log_tampered", _) => Some(Type::AuditLogTampered),
        ("audit_log_moved", _) => Some(Type::AuditLogMoved),
        ("access_refused", _) => Some(Type::AccessRefused),
        ("identity_refused", _) => Some(Type::IdentityRefused),
        ("identity_deactivated", _) => Some(Type::IdentityDeactivated),
        ("identity_activated", _) => Some(Type::IdentityActivated),
        _ => None,
    }
}

pub(super) fn of(event: &NewEvent) -> Option<Type> {
    classify(event.event_type, event.error_code.as_deref())
}

/// Adds events of which at least one is a security event. An alert joins the transaction; the log and the
/// metrics hear of it once that is committed.
pub(super) async fn record(conn: &Conn, mut events: Vec<NewEvent>) -> Result<(), Error> {
    for event in &mut events {
        if let Some(kind) = of(event) {
            event.severity = kind.severity().as_str();
        }
    }
    let ids = audit::append_numbered(conn, &events).await?;
    let mut waiting = Vec::new();
    for (id, event) in ids.into_iter().zip(events) {
        let Some(kind) = of(&event) else { continue };
        if event.alert {
            waiting.push(alerts::waiting(kind, id, &event));
        }
        store::after_commit(move || tell(kind, id, &event));
    }
    if !waiting.is_empty() {
        store::alerts::add(conn, &waiting).await?;
    }
    Ok(())
}

/// A count, and a line for whoever watches the log. Texts are given as texts, so that the log escapes what
/// callers chose: it cannot end the line.
fn tell(kind: Type, id: i64, event: &NewEvent) {
    let severity = kind.severity();
    counter!("broker_security_events_total", "type" => kind.as_str(), "severity" => severity.as_str())
        .increment(1);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let action = kind.action_taken(&event.event_data).unwrap_or_default();
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "runner_broker::security",
                event_id = id,
                "type" = kind.as_str(),
                severity = severity.as_str(),
                user = event.user_identity.as_str(),
                issuer = text(&event.issuer),
                subject = text(&event.subject),
                team = text(&event.team),
                runner = text(&event.runner_name),
                on = text(&event.target),
                request_ip = text(&event.request_ip),
                error_code = text(&event.error_code),
                action_taken = action,
                "security event"
            )
        };
    }
    match severity {
        Severity::Info => line!(info),
        Severity::Warning | Severity::High => line!(warn),
    }
}

/// A security event as it is shown.
#[derive(Debug)]
pub struct SecurityEvent {
    pub kind: Type,
    pub event: Event,
}

/// One page of security events, newest first.
#[derive(Debug)]
pub struct SecurityPage {
    pub events: Vec<SecurityEvent>,
    pub next: Option<Cursor>,
}

/// Which security events to show; `None` filters nothing.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub kind: Option<Type>,
    pub severity: Option<Severity>,
    pub team: Option<String>,
    pub since: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
}

impl Broker {
    pub async fn security_events(
        &self,
        wanted: Wanted,
        after: Option<Cursor>,
        limit: i64,
    ) -> Result<SecurityPage, Error> {
        let fits = |kind: &Type| {
            wanted.kind.is_none_or(|one| one == *kind)
                && wanted.severity.is_none_or(|severity| severity == kind.severity())
        };
        let filter = Filter {
            types: Type::ALL.into_iter().filter(fits).map(Type::as_str).collect(),
            team: wanted.team,
            since: wanted.since,
            until: wanted.until,
        };
        let mut conn = self.store.conn().await?;
        let mut events = security::page(&mut conn, &filter, after, limit + 1).await?;
        let more = events.len() as i64 > limit;
        events.truncate(limit as usize);
        let next = events.last().filter(|_| more).map(|event| (event.timestamp, event.id));
        let events = events.into_iter().filter_map(|event| {
            let kind = classify(&event.event_type, event.error_code.as_deref())?;
            Some(SecurityEvent { kind, event })
        });
        Ok(SecurityPage { events: events.collect(), next })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::broker::events::{Actor, Kind, event_at};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Lines;

        fn make_writer(&'a self) -> Lines {
            self.clone()
        }
    }

    fn told(json: bool, event: &NewEvent) -> String {
        let lines = Lines::default();
        let builder = tracing_subscriber::fmt().with_ansi(false).with_writer(lines.clone());
        let tell = || tell(Type::LabelPolicyViolation, 7, event);
        match json {
            true => tracing::subscriber::with_default(builder.json().flatten_event(true).finish(), tell),
            false => tracing::subscriber::with_default(builder.finish(), tell),
        }
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn what_a_caller_chose_cannot_end_the_line() {
        let mut event = event_at(Utc::now(), Kind::ProvisionRefused, Actor::System("x"));
        let evil = "a\nERROR forged \u{1b}[31m\r\u{85}\u{2028}\", \"type\": \"b";
        event.user_identity = evil.into();
        event.team = Some("blue".into());
        event.runner_name = Some(evil.into());
        event.subject = Some(evil.into());
        event.target = Some(evil.into());
        let pretty = told(false, &event);
        assert_eq!(pretty.matches(['\n', '\r', '\u{1b}', '\u{85}', '\u{2028}']).count(), 1, "{pretty:?}");
        assert!(pretty.contains("runner_broker::security") && pretty.contains("WARN"), "{pretty}");
        let json = told(true, &event);
        assert_eq!(json.matches(['\n', '\r', '\u{1b}']).count(), 1, "{json:?}");
        let fields: Value = serde_json::from_str(&json).unwrap();
        let wanted = json!({ "type": "label_policy_violation", "severity": "warning", "runner": evil,
            "team": "blue", "user": evil, "event_id": 7, "action_taken": "refused" });
        for (field, value) in wanted.as_object().unwrap() {
            assert_eq!(&fields[field], value, "{field}");
        }
    }
}
