//! The history of a runner: its events in the audit log.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde_json::Value;

use crate::http::console::frame::ui;
use crate::store::audit::Event;

/// Newest first, each with a link to its page.
pub fn timeline(events: &[Event], now: DateTime<Utc>) -> Markup {
    html! {
        ol.timeline {
            @for event in events {
                li.failure[!event.success] {
                    div {
                        a href={ "/audit/" (event.id) } title=(event.event_type) { (title(event)) }
                        " · " (ui::time(event.timestamp, now))
                        @if event.severity != "info" { " " (ui::severity(&event.severity)) }
                    }
                    div.soft { "by " (event.user_identity) @if let Some(note) = note(event) { " · " (note) } }
                    @if let Some(why) = &event.error_message {
                        div { (why) @if let Some(code) = &event.error_code { " (" code { (code) } ")" } }
                    }
                    @if let Some(comment) = text(event, "comment") { div { "Comment: " (comment) } }
                }
            }
        }
    }
}

fn text<'a>(event: &'a Event, field: &str) -> Option<&'a str> {
    event.event_data.get(field).and_then(Value::as_str)
}

/// The event in a few words; for other types the type in words.
fn title(event: &Event) -> String {
    let known = match event.event_type.as_str() {
        "provision_requested" => "Requested",
        "provisioned" => "Credential issued",
        "provision_refused" => "Refused",
        "provision_failed" => "Creation failed",
        "deprovision_requested" => "Removal started",
        "deprovisioned" => "Removed",
        "deprovision_refused" => "Removal refused: busy with a job",
        "deprovision_failed" => "Removal failed, will be retried",
        "remove_token_issued" => "Remove token issued",
        "remove_token_failed" => "Remove token failed",
        "access_refused" => "Access refused",
        "orphan_removed" => "Removed as an orphan",
        "label_drift_detected" => "Labels changed on GitHub",
        "runner_state_changed" => {
            return match (text(event, "from"), text(event, "to")) {
                (Some(from), Some(to)) => format!("{from} → {to}"),
                _ => "State changed".to_owned(),
            };
        }
        other => return ui::words(other),
    };
    known.to_owned()
}

fn note(event: &Event) -> Option<String> {
    let reason = text(event, "reason").map(str::to_owned);
    let rule = event.policy_rule.as_ref().map(|rule| format!("matched rule {rule}"));
    reason.or(rule)
}
