//! The filter form above a list: each field with its value and its fault.

use maud::{Markup, html};

use super::form::Fields;
use super::ui::{self, Notice};
use crate::http::problem::Problem;

/// The values of a form and what is wrong with them.
#[derive(Clone, Copy)]
pub struct Form<'a> {
    pub fields: &'a Fields,
    pub problem: Option<&'a Problem>,
}

impl Form<'_> {
    /// The fault of a field, or of an entry of it (`name[2]`).
    fn fault(&self, name: &str) -> Option<&str> {
        let is_of = |field: &str| {
            let rest = field.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('[') || rest.starts_with('.'))
        };
        let mut errors = self.problem?.errors().iter();
        errors.find(|error| is_of(&error.field)).map(|error| error.message.as_str())
    }

    /// The faults, above the form; empty if there are none.
    pub fn notice(&self) -> Markup {
        html! {
            @if let Some(problem) = self.problem {
                (ui::notice(Notice::Fault, html! {
                    @if problem.errors().is_empty() { p { (problem.detail()) } }
                    @else {
                        p { "Please correct:" }
                        ul { @for error in problem.errors() { li { code { (error.field) } ": " (error.message) } } }
                    }
                }))
            }
        }
    }

    /// A line of text.
    pub fn text(&self, name: &str, label: &str, placeholder: &str) -> Markup {
        let (fault, told) = (self.fault(name), format!("fault-{name}"));
        html! {
            label.field {
                span { (label) }
                input type="text" name=(name) value=(self.fields.get(name).unwrap_or_default())
                    placeholder=(placeholder) autocomplete="off" spellcheck="false"
                    aria-invalid=[fault.map(|_| "true")] aria-describedby=[fault.map(|_| &told)];
                @if let Some(fault) = fault { span.faulty id=(told) { (fault) } }
            }
        }
    }

    /// Lines of text.
    pub fn area(&self, name: &str, label: &str, placeholder: &str) -> Markup {
        let (fault, told) = (self.fault(name), format!("fault-{name}"));
        html! {
            label.field.long {
                span { (label) }
                // A browser drops the first line feed of a textarea.
                textarea name=(name) placeholder=(placeholder) spellcheck="false"
                    aria-invalid=[fault.map(|_| "true")] aria-describedby=[fault.map(|_| &told)] {
                    "\n" (self.fields.get(name).unwrap_or_default())
                }
                @if let Some(fault) = fault { span.faulty id=(told) { (fault) } }
            }
        }
    }

    /// A choice: pairs of the value that is sent and the text that is shown. The first option, `any`, sends nothing.
    pub fn choice<'c>(
        &self,
        name: &str,
        label: &str,
        any: &str,
        choices: impl IntoIterator<Item = (&'c str, &'c str)>,
    ) -> Markup {
        let (fault, chosen) = (self.fault(name), self.fields.get(name));
        html! {
            label.field {
                span { (label) }
                select name=(name) aria-invalid=[fault.map(|_| "true")] {
                    option value="" { (any) }
                    @for (value, shown) in choices {
                        option value=(value) selected[chosen == Some(value)] { (shown) }
                    }
                }
                @if let Some(fault) = fault { span.faulty { (fault) } }
            }
        }
    }

    /// The form. It is sent by GET, so the address holds the filters.
    pub fn get(&self, path: &str, inner: Markup) -> Markup {
        html! {
            (self.notice())
            form.filters method="get" action=(path) role="search" {
                (inner)
                button { "Show" }
                a.button.quiet href=(path) { "Clear" }
            }
        }
    }
}

/// A name as a part of a path.
pub fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}
