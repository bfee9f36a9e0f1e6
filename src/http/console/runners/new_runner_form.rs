//! The form for a new runner: its fields, the permissions of the teams, and the decision of the policy.

use maud::{Markup, html};

use crate::broker::people::sessions::Session;
use crate::broker::provision::explain::Explanation;
use crate::http::console::frame::form::Fields;
use crate::http::console::frame::{layout, ui};
use crate::http::problem::{FieldError, Problem};
use crate::model::{Arch, Method, Os};
use crate::policy::{Membership, Team};

/// The result of a check or of an attempt to create the runner.
pub enum Decision {
    Explained(Explanation),
    Problem(Problem),
}

/// The form as it is shown.
pub struct Shown<'a> {
    pub fields: &'a Fields,
    /// The idempotency key.
    pub key: &'a str,
    pub decision: Option<&'a Decision>,
}

impl Shown<'_> {
    /// Whether the form has not been sent yet.
    fn is_new(&self) -> bool {
        !self.fields.has("key")
    }

    fn is_ticked(&self, name: &str, default: bool) -> bool {
        if self.is_new() { default } else { self.fields.has(name) }
    }

    fn errors(&self) -> &[FieldError] {
        match self.decision {
            Some(Decision::Problem(problem)) => problem.errors(),
            _ => &[],
        }
    }
}

pub fn render(session: &Session, shown: &Shown<'_>) -> Markup {
    let teams = &session.caller.memberships.teams;
    html! {
        h1 { "New runner" }
        div.cards {
            form.card method="post" action="/runners/new" data-decide="/runners/new/check" data-once {
                (layout::csrf(session))
                input type="hidden" name="key" value=(shown.key);
                (team_and_method(teams, shown))
                (name_and_labels(shown))
                (target_and_system(teams, shown))
                (details(shown))
                div #decision data-part aria-live="polite" { @if let Some(decision) = shown.decision { (decision_notice(decision)) } }
                div.actions {
                    button { "Create runner" }
                    button.quiet formaction="/runners/new/check" { "Check" }
                }
            }
            section aria-labelledby="allowed" {
                h2 #allowed { "Your permissions" }
                @for membership in teams { (allowed(&membership.team)) }
            }
        }
    }
}

fn team_and_method(teams: &[Membership], shown: &Shown<'_>) -> Markup {
    let chosen = shown.fields.get("team");
    let has = |method| teams.iter().any(|of| of.team.methods().contains(&method));
    let methods = [
        (
            Method::Jit,
            "Just in time (JIT): labels and group are fixed before the runner starts; it runs one job",
        ),
        (Method::RegistrationToken, "Registration token: the runner registers itself and can be persistent"),
    ];
    let default =
        methods.iter().map(|(method, _)| *method).find(|method| has(*method)).unwrap_or(Method::Jit);
    let picked = shown.fields.get("method").unwrap_or(default.as_str());
    html! {
        @match teams {
            [only] => p { "Team " strong { (only.team.name()) } input type="hidden" name="team" value=(only.team.name()); },
            _ => { (ui::choose("team", "Team", None, teams.iter().map(|of| (of.team.name(), of.team.name())), chosen)) },
        }
        fieldset {
            legend { "Registration method" }
            @for (method, text) in methods {
                @if has(method) {
                    label.check {
                        input type="radio" name="method" value=(method) checked[picked == method.as_str()];
                        (text)
                    }
                }
            }
        }
    }
}

fn name_and_labels(shown: &Shown<'_>) -> Markup {
    let errors = shown.errors();
    let name = ui::Input {
        name: "name",
        label: "Name",
        value: shown.fields.get("name"),
        hint: "1 to 64 characters (A-Z a-z 0-9 . _ -); at most 50 with a suffix.",
        also: &["runner_name", "runner_name_prefix"],
    };
    let labels = ui::Input {
        name: "labels",
        label: "Labels",
        value: shown.fields.get("labels"),
        hint: "Separated by commas. System labels and the required labels of the team are added.",
        also: &[],
    };
    html! {
        (name.render(errors))
        label.check {
            input type="checkbox" name="suffix" value="true" checked[shown.is_ticked("suffix", true)];
            "Add a unique suffix"
        }
        (labels.render(errors))
    }
}

fn target_and_system(teams: &[Membership], shown: &Shown<'_>) -> Markup {
    let exact = |target: &&str| !target.contains('*');
    let targets: std::collections::BTreeSet<&str> =
        teams.iter().flat_map(|of| of.team.targets()).filter(exact).take(100).collect();
    let faulty = shown
        .errors()
        .iter()
        .find(|error| matches!(error.field.as_str(), "organization" | "repository" | "target"));
    html! {
        div.fields {
            div.field.long {
                label for="target" { "Target: organisation or repository" }
                input type="text" id="target" name="target" list="targets" autocomplete="off" spellcheck="false"
                    value=(shown.fields.get("target").unwrap_or_default()) aria-describedby="target-hint"
                    aria-invalid=[faulty.map(|_| "true")];
                datalist #targets { @for target in &targets { option value=(target) {} } }
                @if let Some(error) = faulty { span.faulty { (error.message) } }
                span.hint #target-hint { "Empty: the default organisation." }
            }
            (ui::choose("os", "System", None, Os::ALL.iter().map(|os| (os.as_str(), os.as_str())), shown.fields.get("os")))
            (ui::choose("arch", "Processor", None, Arch::ALL.iter().map(|arch| (arch.as_str(), arch.as_str())), shown.fields.get("arch")))
        }
    }
}

fn details(shown: &Shown<'_>) -> Markup {
    let errors = shown.errors();
    let group = ui::Input {
        name: "runner_group",
        label: "Runner group",
        value: shown.fields.get("runner_group"),
        hint: "Name or GitHub id. Empty: the default group of the team.",
        also: &["runner_group_id"],
    };
    let folder = ui::Input {
        name: "work_folder",
        label: "Work folder",
        value: shown.fields.get("work_folder").or(Some("_work")),
        hint: "Relative to the folder of the runner.",
        also: &[],
    };
    let is_open =
        errors.iter().any(|error| error.field.starts_with("runner_group") || error.field == "work_folder");
    html! {
        details open[is_open] {
            summary { "More options" }
            (group.render(errors))
            (folder.render(errors))
            label.check {
                input type="checkbox" name="ephemeral" value="true" checked[shown.is_ticked("ephemeral", true)];
                "Ephemeral: run one job (registration token only; JIT runners always are)"
            }
            label.check {
                input type="checkbox" name="disable_update" value="true" checked[shown.is_ticked("disable_update", false)];
                "Disable automatic updates (registration token only)"
            }
        }
    }
}

/// The permissions of one team.
fn allowed(team: &Team) -> Markup {
    let code = |texts: Vec<String>| ui::labels(&texts);
    let limit =
        |limit: Option<i64>| html! { @match limit { Some(most) => (ui::number(most)), None => "no limit" } };
    html! {
        div.card data-team=(team.name()) {
            h3 { "Team " (team.name()) }
            @if !team.description().is_empty() { p { (team.description()) } }
            (ui::facts([
                ("Allowed labels (patterns)", code(team.allowed_labels().map(str::to_owned).collect())),
                ("Required labels (on every runner)", code(team.required_labels().iter().map(ToString::to_string).collect())),
                ("Targets", code(team.targets().map(str::to_owned).collect())),
                ("Runner groups", code(team.runner_groups().iter().map(ToString::to_string).collect())),
                ("Methods", html! { (team.methods().iter().map(|method| method.as_str().replace('_', " ")).collect::<Vec<_>>().join(", ")) }),
                ("Max. live runners", limit(team.max_runners())),
                ("Max. provisions per minute", limit(team.requests_per_minute())),
            ]))
        }
    }
}

fn decision_notice(decision: &Decision) -> Markup {
    match decision {
        Decision::Explained(Explanation { refusal: None, team, labels }) => ui::notice(
            ui::Notice::Done,
            html! {
                p { strong { "Allowed" } @if let Some(team) = team { " for team " (team) } ", with these labels:" }
                p { @for label in labels { code.label { (label) } " " } }
            },
        ),
        Decision::Explained(Explanation { refusal: Some(refusal), .. }) => ui::notice(
            ui::Notice::Warning,
            html! { p { strong { "Not allowed: " } (refusal) " (" code { (refusal.code()) } ")" } },
        ),
        Decision::Problem(problem) => ui::notice(
            ui::Notice::Fault,
            html! {
                p { strong { (problem.title()) ": " } (problem.detail()) " (" code { (problem.error_code()) } ")" }
                (ui::field_errors(problem.errors()))
                @if problem.errors().is_empty() && !problem.request_id().is_empty() {
                    p { "Request id " code { (problem.request_id()) } }
                }
            },
        ),
    }
}
