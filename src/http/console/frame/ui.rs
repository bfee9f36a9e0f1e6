//! The pieces that pages are made of. What is shown is a parameter; none asks anything.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use maud::{Markup, html};

use crate::http::problem::FieldError;
use crate::model::Status;

/// A moment, as people say it; the exact time is in its `datetime` and shows on pointing at it.
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

/// A state of a runner.
pub fn status(status: Status, busy: bool) -> Markup {
    html! {
        span class={ "badge " (status.as_str()) } { (status.as_str()) }
        @if busy { " " span.badge.busy { "busy" } }
    }
}

/// How grave an event is: `info`, `warning` or `high`.
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

/// Where a list would be, if there were anything in it: what that means, and what can be done.
pub fn empty(title: &str, explanation: Markup) -> Markup {
    html! { div.empty { h2 { (title) } p { (explanation) } } }
}

/// What an action did, or why it did not; announced to whoever cannot see it appear.
pub fn notice(kind: Notice, content: Markup) -> Markup {
    let (class, role) = match kind {
        Notice::Done => ("notice done", "status"),
        Notice::Warning => ("notice warning", "status"),
        Notice::Fault => ("notice fault", "alert"),
    };
    html! { div class=(class) role=(role) { (content) } }
}

/// How a notice is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    Done,
    Warning,
    Fault,
}

/// The way to the next page of a list; scripts fetch it when it comes into sight.
pub fn older(next: Option<&str>) -> Markup {
    html! {
        @if let Some(next) = next {
            p.older { a.button rel="next" href=(next) data-older { "Older" } }
        }
    }
}

/// Names and values, a line each.
pub fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, Markup)>) -> Markup {
    html! { dl.facts { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } } }
}

/// A text to be taken elsewhere; the button appears where scripts run.
pub fn copyable(id: &str, text: &str) -> Markup {
    html! {
        div.copyable {
            pre id=(id) tabindex="0" { code { (text) } }
            button.quiet type="button" data-copy=(id) hidden { "Copy" }
        }
    }
}

/// A choice among few, empty first: «any».
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

/// As `select`, where the value is not what people read: value, name.
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

/// What is wrong with the fields of a form, by their names.
pub fn field_errors(errors: &[FieldError]) -> Markup {
    html! {
        @if !errors.is_empty() {
            ul { @for error in errors { li { strong { (error.field) } ": " (error.message) } } }
        }
    }
}

/// A line of text in a form that may be sent back, with what is wrong with it.
pub struct Input<'a> {
    pub name: &'a str,
    pub label: &'a str,
    pub value: Option<&'a str>,
    pub hint: &'a str,
    /// The API's names for it, besides its own.
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
    fn moments_read_as_people_say_them() {
        let now = Utc::now();
        let said = |seconds| ago(now + TimeDelta::seconds(seconds), now);
        assert_eq!([said(0), said(-59), said(-3600), said(120)], ["now", "59 s ago", "1 h ago", "in 2 min"]);
    }

    #[test]
    fn large_numbers_are_read_in_groups_of_three() {
        assert_eq!([number(1_234_567), number(-999), number(0)], ["1\u{202f}234\u{202f}567", "−999", "0"]);
    }
}
