//! The form above a list: each field as it was asked for and, where it cannot be, why.

use maud::{Markup, html};

use super::form::Fields;
use super::ui::{self, Notice};
use crate::http::problem::Problem;

/// A form with what is in it, and what is wrong with that.
#[derive(Clone, Copy)]
pub struct Form<'a> {
    pub fields: &'a Fields,
    pub problem: Option<&'a Problem>,
}

impl Form<'_> {
    /// What is wrong with a field, or with an entry of it (`name[2]`).
    fn fault(&self, name: &str) -> Option<&str> {
        let is_of = |field: &str| {
            let rest = field.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('[') || rest.starts_with('.'))
        };
        let mut errors = self.problem?.errors().iter();
        errors.find(|error| is_of(&error.field)).map(|error| error.message.as_str())
    }

    /// What is wrong, above the form; nothing if nothing is.
    pub fn notice(&self) -> Markup {
        html! {
            @if let Some(problem) = self.problem {
                (ui::notice(Notice::Fault, html! {
                    @if problem.errors().is_empty() { p { (problem.detail()) } }
                    @else {
                        p { "This cannot be done as it was asked for:" }
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
                // A first line's end is no part of what a textarea holds.
                textarea name=(name) placeholder=(placeholder) spellcheck="false"
                    aria-invalid=[fault.map(|_| "true")] aria-describedby=[fault.map(|_| &told)] {
                    "\n" (self.fields.get(name).unwrap_or_default())
                }
                @if let Some(fault) = fault { span.faulty id=(told) { (fault) } }
            }
        }
    }

    /// A choice among few, each as it is sent and as it is shown; first none of them.
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

    /// The form itself: asked for by GET, so that the address says it all.
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
