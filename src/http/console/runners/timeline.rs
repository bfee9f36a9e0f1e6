//! A runner's life, as the audit log has it.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde_json::Value;

use crate::http::console::frame::ui;
use crate::store::audit::Event;

/// Newest first, each with the way to its own page.
pub fn timeline(events: &[Event], now: DateTime<Utc>) -> Markup {
    html! {
        ol.timeline {
            @for event in events {
                li.failure[!event.success] {
                    div {
                        a href={ "/audit/" (event.id) } { (title(event)) }
                        " · " (ui::time(event.timestamp, now))
                        @if event.severity != "info" { " " (ui::severity(&event.severity)) }
                    }
                    div.soft { "by " (event.user_identity) @if let Some(note) = note(event) { " · " (note) } }
                    @if let Some(why) = &event.error_message {
                        div { (why) @if let Some(code) = &event.error_code { " (" code { (code) } ")" } }
                    }
                    @if let Some(comment) = text(event, "comment") { div { "“" (comment) "”" } }
                }
            }
        }
    }
}

fn text<'a>(event: &'a Event, field: &str) -> Option<&'a str> {
    event.event_data.get(field).and_then(Value::as_str)
}

/// What happened, in a few words; an event that has none is called by its name.
fn title(event: &Event) -> String {
    let known = match event.event_type.as_str() {
        "provision_requested" => "Asked for",
        "provisioned" => "Credential handed out",
        "provision_refused" => "Refused",
        "provision_failed" => "Could not be made",
        "deprovision_requested" => "Removal begun",
        "deprovisioned" => "Removed",
        "deprovision_refused" => "Removal refused: busy with a job",
        "deprovision_failed" => "Removal failed for now",
        "remove_token_issued" => "Remove token handed out",
        "remove_token_failed" => "No remove token",
        "access_refused" => "Somebody was refused",
        "orphan_removed" => "Removed as an orphan",
        "label_drift_detected" => "Its labels were changed on GitHub",
        "runner_state_changed" => {
            return match (text(event, "from"), text(event, "to")) {
                (Some(from), Some(to)) => format!("{from} → {to}"),
                _ => "State changed".to_owned(),
            };
        }
        other => return other.replace(['_', '.'], " "),
    };
    known.to_owned()
}

fn note(event: &Event) -> Option<String> {
    let reason = text(event, "reason").map(str::to_owned);
    let rule = event.policy_rule.as_ref().map(|rule| format!("by the rule “{rule}”"));
    reason.or(rule)
}
