//! The elements that pages are made of, as pure functions of what they show.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use maud::{Markup, html};

use crate::http::problem::FieldError;
use crate::model::Status;

/// A moment relative to now; the exact time is in `datetime` and `title`.
pub fn time(at: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    let exact = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    html! { time datetime=(exact) title=(exact) { (ago(at, now)) } }
}

/// As `time`, or a dash for what has not happened.
pub fn maybe_time(at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Markup {
    match at {
        Some(at) => time(at, now),
        None => html! { span.none { "–" } },
    }
}

fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let past = now >= at;
    let apart = if past { now - at } else { at - now };
    let (number, unit) = match apart {
        apart if apart < TimeDelta::seconds(1) => return "now".into(),
        apart if apart < TimeDelta::minutes(1) => (apart.num_seconds(), "s"),
        apart if apart < TimeDelta::hours(1) => (apart.num_minutes(), "min"),
        apart if apart < TimeDelta::days(1) => (apart.num_hours(), "h"),
        apart if apart < TimeDelta::days(14) => (apart.num_days(), "d"),
        _ => return at.format("%Y-%m-%d").to_string(),
    };
    if past { format!("{number} {unit} ago") } else { format!("in {number} {unit}") }
}

/// A whole number, in groups of three.
pub fn number(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    if number < 0 { format!("−{text}") } else { text }
}

/// A count with its noun: "1 rule", "2 rules". The noun is in the singular and takes an s.
pub fn counted(count: i64, noun: &str) -> String {
    format!("{} {noun}{}", number(count), if count == 1 { "" } else { "s" })
}

/// A length of time in its two largest units: "45 s", "9 min 30 s", "2 h 5 min".
pub fn duration(length: TimeDelta) -> String {
    let seconds = length.num_seconds().max(0);
    let (large, small) = match seconds {
        0..60 => return format!("{seconds} s"),
        60..3600 => ((seconds / 60, "min"), (seconds % 60, "s")),
        3600..86_400 => ((seconds / 3600, "h"), (seconds % 3600 / 60, "min")),
        _ => ((seconds / 86_400, "d"), (seconds % 86_400 / 3600, "h")),
    };
    match small.0 {
        0 => format!("{} {}", number(large.0), large.1),
        rest => format!("{} {} {rest} {}", number(large.0), large.1, small.1),
    }
}

/// The type of an event in words; the type itself is in `title`.
pub fn event_type(kind: &str) -> Markup {
    html! { span title=(kind) { (words(kind)) } }
}

/// A name like `label_drift_detected` in words.
pub fn words(name: &str) -> String {
    name.replace(['_', '.'], " ")
}

/// A state of a runner.
pub fn status(status: Status, busy: bool) -> Markup {
    html! {
        span class={ "badge " (status.as_str()) } { (status.as_str()) }
        @if busy { " " span.badge.busy { "busy" } }
    }
}

/// The severity of an event: `info`, `warning` or `high`.
pub fn severity(severity: &str) -> Markup {
    html! { span class={ "badge severity-" (severity) } { (severity) } }
}

/// A text as one step of a path.
pub fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Labels, each by itself.
pub fn labels(labels: &[String]) -> Markup {
    html! { span.labels { @for label in labels { code.label { (label) } " " } } }
}

/// The text in place of an empty list: why it is empty, and what to do.
pub fn empty(title: &str, explanation: Markup) -> Markup {
    html! { div.empty { h2 { (title) } p { (explanation) } } }
}

/// The result of an action; screen readers announce it.
pub fn notice(kind: Notice, content: Markup) -> Markup {
    let (class, role) = match kind {
        Notice::Done => ("notice done", "status"),
        Notice::Warning => ("notice warning", "status"),
        Notice::Fault => ("notice fault", "alert"),
    };
    html! { div class=(class) role=(role) { (content) } }
}

/// The kind of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    Done,
    Warning,
    Fault,
}

/// The link to the next page of a list; the script fetches it when it scrolls into view.
pub fn older(next: Option<&str>) -> Markup {
    html! {
        @if let Some(next) = next {
            p.older { a.button rel="next" href=(next) data-older { "Older" } }
        }
    }
}

/// Names and values.
pub fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, Markup)>) -> Markup {
    html! { dl.facts { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } } }
}

/// A text to copy; the button appears where scripts run.
pub fn copyable(id: &str, text: &str) -> Markup {
    html! {
        div.copyable {
            pre id=(id) tabindex="0" { code { (text) } }
            button.quiet type="button" data-copy=(id) hidden { "Copy" }
        }
    }
}

/// A choice; the first option, `any`, sends nothing.
pub fn select<'a>(
    name: &str,
    label: &str,
    any: &str,
    choices: impl IntoIterator<Item = &'a str>,
    chosen: Option<&str>,
) -> Markup {
    html! {
        label.field {
            span { (label) }
            select name=(name) {
                option value="" { (any) }
                @for choice in choices {
                    option value=(choice) selected[chosen == Some(choice)] { (choice) }
                }
            }
        }
    }
}

/// As [`select`], for pairs of the value that is sent and the text that is shown.
pub fn choose<'a>(
    name: &str,
    label: &str,
    any: Option<&str>,
    choices: impl IntoIterator<Item = (&'a str, &'a str)>,
    chosen: Option<&str>,
) -> Markup {
    html! {
        label.field {
            span { (label) }
            select name=(name) {
                @if let Some(any) = any { option value="" { (any) } }
                @for (value, text) in choices {
                    option value=(value) selected[chosen == Some(value)] { (text) }
                }
            }
        }
    }
}

/// The faults of a form, by field.
pub fn field_errors(errors: &[FieldError]) -> Markup {
    html! {
        @if !errors.is_empty() {
            ul { @for error in errors { li { strong { (error.field) } ": " (error.message) } } }
        }
    }
}

/// A line of text in a form, with its faults.
pub struct Input<'a> {
    pub name: &'a str,
    pub label: &'a str,
    pub value: Option<&'a str>,
    pub hint: &'a str,
    /// Names of API fields whose faults belong here too.
    pub also: &'a [&'a str],
}

impl Input<'_> {
    pub fn render(&self, errors: &[FieldError]) -> Markup {
        let own = |error: &&FieldError| {
            let field = error.field.split(['[', '.']).next().unwrap_or_default();
            field == self.name || self.also.contains(&field)
        };
        let faults: Vec<&FieldError> = errors.iter().filter(own).collect();
        let (hint, fault) = (format!("{}-hint", self.name), format!("{}-fault", self.name));
        let described = if faults.is_empty() { hint.clone() } else { format!("{fault} {hint}") };
        html! {
            div.field.long {
                label for=(self.name) { (self.label) }
                input type="text" id=(self.name) name=(self.name) value=(self.value.unwrap_or_default())
                    autocomplete="off" spellcheck="false" aria-describedby=(described)
                    aria-invalid=[(!faults.is_empty()).then_some("true")];
                @if !faults.is_empty() {
                    span.faulty id=(fault) { @for fault in &faults { (fault.message) " " } }
                }
                span.hint id=(hint) { (self.hint) }
            }
        }
    }
}

/// A line of text.
pub fn text(name: &str, label: &str, value: Option<&str>, placeholder: &str) -> Markup {
    html! {
        label.field {
            span { (label) }
            input type="text" name=(name) value=(value.unwrap_or_default()) placeholder=(placeholder)
                autocomplete="off" spellcheck="false";
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_relative_to_now() {
        let now = Utc::now();
        let shown = |seconds| ago(now + TimeDelta::seconds(seconds), now);
        assert_eq!(
            [shown(0), shown(-59), shown(-3600), shown(120)],
            ["now", "59 s ago", "1 h ago", "in 2 min"]
        );
    }

    #[test]
    fn counts_and_lengths_of_time_agree_with_their_nouns() {
        assert_eq!(
            [counted(1, "rule"), counted(0, "rule"), counted(12, "rule")],
            ["1 rule", "0 rules", "12 rules"]
        );
        let shown = |seconds| duration(TimeDelta::seconds(seconds));
        assert_eq!([shown(-1), shown(59), shown(60), shown(570)], ["0 s", "59 s", "1 min", "9 min 30 s"]);
        assert_eq!([shown(7_500), shown(90_000)], ["2 h 5 min", "1 d 1 h"]);
    }

    #[test]
    fn large_numbers_are_grouped_by_thousands() {
        assert_eq!([number(1_234_567), number(-999), number(0)], ["1\u{202f}234\u{202f}567", "−999", "0"]);
    }
}
