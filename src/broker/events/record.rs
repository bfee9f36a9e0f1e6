//! Writing events: each in the transaction of what it records. A security event also waits there to be posted, and
//! is counted and logged once the transaction is committed.

use metrics::counter;

use super::kind::classify;
use super::security_type::{Severity, Type};
use crate::broker::Error;
use crate::model::sha256_of_parts;
use crate::store::alerts::{self, NewAlert};
use crate::store::audit::{self, NewEvent};
use crate::store::{self, Conn};

/// Adds `event` in the transaction of what it records, and announces it if it is a security event.
pub(in crate::broker) async fn record(conn: &Conn, event: NewEvent) -> Result<(), Error> {
    match type_of(&event) {
        None => Ok(audit::append(conn, &event).await?),
        Some(_) => record_security(conn, vec![event]).await,
    }
}

/// As [`record`], for several at once, in this order.
pub(in crate::broker) async fn record_all(conn: &mut Conn, events: &[NewEvent]) -> Result<(), Error> {
    match events.iter().any(|event| type_of(event).is_some()) {
        false => Ok(audit::append_all(conn, events).await?),
        true => record_security(conn, events.to_vec()).await,
    }
}

fn type_of(event: &NewEvent) -> Option<Type> {
    classify(event.event_type, event.error_code.as_deref())
}

/// Adds events of which at least one is a security event. An alert joins the transaction; the service's log and the
/// metrics get them once that is committed.
async fn record_security(conn: &Conn, mut events: Vec<NewEvent>) -> Result<(), Error> {
    for event in &mut events {
        if let Some(kind) = type_of(event) {
            event.severity = kind.severity().as_str();
        }
    }
    let ids = audit::append_numbered(conn, &events).await?;
    let mut alerts = Vec::new();
    for (id, event) in ids.into_iter().zip(events) {
        let Some(kind) = type_of(&event) else { continue };
        if event.alert {
            alerts.push(alert(kind, id, &event));
        }
        store::after_commit(move || announce(kind, id, &event));
    }
    if !alerts.is_empty() {
        alerts::add(conn, &alerts).await?;
    }
    Ok(())
}

/// The event as it waits to be posted.
fn alert(kind: Type, event_id: i64, event: &NewEvent) -> NewAlert {
    NewAlert {
        event_id,
        kind: kind.as_str(),
        who: who(event),
        urgency: match kind.severity() {
            Severity::High => 2,
            Severity::Warning => 1,
            Severity::Info => 0,
        },
        action_taken: kind.action_taken(&event.event_data),
    }
}

/// A SHA-256 of who or what the event is about: the caller, or else the team, or else the target. Alerts that have it
/// in common are posted together; none of them waits for more than a day.
fn who(event: &NewEvent) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    match (&event.team, &event.target) {
        _ if event.issuer.is_some() || event.subject.is_some() => {
            sha256_of_parts(["caller", &text(&event.issuer), &text(&event.subject)])
        }
        (Some(team), _) => sha256_of_parts(["team", team]),
        (None, Some(target)) => sha256_of_parts(["target", target]),
        (None, None) => sha256_of_parts([""]),
    }
}

/// Counts the event and logs a line. Texts are given as texts, so that the log escapes what
/// callers chose: it cannot end the line.
fn announce(kind: Type, id: i64, event: &NewEvent) {
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
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

    fn announced(json: bool, event: &NewEvent) -> String {
        let lines = Lines::default();
        let builder = tracing_subscriber::fmt().with_ansi(false).with_writer(lines.clone());
        let announce = || announce(Type::LabelPolicyViolation, 7, event);
        match json {
            true => tracing::subscriber::with_default(builder.json().flatten_event(true).finish(), announce),
            false => tracing::subscriber::with_default(builder.finish(), announce),
        }
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn what_a_caller_chose_cannot_end_the_line() {
        let mut event = event_at(chrono::Utc::now(), Kind::ProvisionRefused, Actor::System("x"));
        let evil = "a\nERROR forged \u{1b}[31m\r\u{85}\u{2028}\", \"type\": \"b";
        event.user_identity = evil.into();
        event.team = Some("blue".into());
        event.runner_name = Some(evil.into());
        event.subject = Some(evil.into());
        event.target = Some(evil.into());
        let pretty = announced(false, &event);
        assert_eq!(pretty.matches(['\n', '\r', '\u{1b}', '\u{85}', '\u{2028}']).count(), 1, "{pretty:?}");
        assert!(pretty.contains("runner_broker::security") && pretty.contains("WARN"), "{pretty}");
        let json = announced(true, &event);
        assert_eq!(json.matches(['\n', '\r', '\u{1b}']).count(), 1, "{json:?}");
        let fields: Value = serde_json::from_str(&json).unwrap();
        let wanted = json!({ "type": "label_policy_violation", "severity": "warning", "runner": evil,
            "team": "blue", "user": evil, "event_id": 7, "action_taken": "refused" });
        for (field, value) in wanted.as_object().unwrap() {
            assert_eq!(&fields[field], value, "{field}");
        }
    }
}
