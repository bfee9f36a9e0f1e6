//! A team as a form: textareas with an entry a line, so that it works without scripts. Pure.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::broker::policy::teams::TeamPatch;
use crate::http::console::frame::filter::Form;
use crate::http::console::frame::form::Fields;
use crate::http::problem::{FieldError, Problem};
use crate::model::{GroupRef, Method};
use crate::policy::{Member, TeamEntry};

/// The fields that show this team.
pub fn fields_of(entry: &TeamEntry) -> Fields {
    let mut fields = vec![
        ("name".to_owned(), entry.name.clone()),
        ("description".to_owned(), entry.description.clone()),
        ("required_labels".to_owned(), entry.required_labels.join("\n")),
        ("allowed_labels".to_owned(), entry.allowed_labels.join("\n")),
        ("targets".to_owned(), entry.targets.clone().unwrap_or_default().join("\n")),
        ("runner_groups".to_owned(), groups_text(entry.runner_groups.as_deref().unwrap_or_default())),
        ("max_runners".to_owned(), entry.max_runners.map(|most| most.to_string()).unwrap_or_default()),
        (
            "requests_per_minute".to_owned(),
            entry.requests_per_minute.map(|most| most.to_string()).unwrap_or_default(),
        ),
        ("members".to_owned(), entry.member.iter().map(line_of).collect::<Vec<_>>().join("\n")),
    ];
    fields.extend(entry.methods.iter().map(|method| ("methods".to_owned(), method.to_string())));
    Fields::of(fields)
}

fn groups_text(groups: &[GroupRef]) -> String {
    groups.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A member as the form has him: the issuer, a space, his claims as JSON.
pub fn line_of(member: &Member) -> String {
    let claims = serde_json::to_string(&member.claims).unwrap_or_default();
    format!("{} {claims}", member.issuer)
}

/// Reads what `line_of` writes.
pub fn member_of(line: &str) -> Result<Member, String> {
    const WANTED: &str = "wanted: issuer {\"claim\": \"pattern\"}";
    let (issuer, claims) = line.trim().split_once(char::is_whitespace).ok_or(WANTED)?;
    let claims: BTreeMap<String, String> =
        serde_json::from_str(claims.trim()).map_err(|err| format!("{err}; {WANTED}"))?;
    Ok(Member { issuer: issuer.to_owned(), claims })
}

/// Reads the form; every fault at once. What the policy says of it is the broker's to find.
pub fn entry_of(fields: &Fields) -> Result<TeamEntry, Problem> {
    let mut faults = Vec::new();
    let lines = |name: &str| -> Vec<String> {
        let text = fields.get(name).unwrap_or_default();
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let some = |all: Vec<String>| (!all.is_empty()).then_some(all);
    let mut entry = TeamEntry::named(fields.get("name").unwrap_or_default());
    entry.description = fields.get("description").unwrap_or_default().replace("\r\n", "\n");
    entry.required_labels = lines("required_labels");
    entry.allowed_labels = lines("allowed_labels");
    entry.targets = some(lines("targets"));
    entry.runner_groups = some(lines("runner_groups")).map(|all| all.into_iter().map(group).collect());
    entry.methods = Vec::new();
    for method in fields.all("methods") {
        match method.parse::<Method>() {
            Ok(method) => entry.methods.push(method),
            Err(err) => faults.push(FieldError::new("methods", err)),
        }
    }
    for (name, limit) in
        [("max_runners", &mut entry.max_runners), ("requests_per_minute", &mut entry.requests_per_minute)]
    {
        match fields.get(name).map(str::parse::<i64>).transpose() {
            Ok(read) => *limit = read,
            Err(_) => faults.push(FieldError::new(name, "a whole number, or nothing for no limit")),
        }
    }
    for (place, line) in lines("members").iter().enumerate() {
        match member_of(line) {
            Ok(member) => entry.member.push(member),
            Err(why) => faults.push(FieldError::new(format!("members[{place}]"), why)),
        }
    }
    if faults.is_empty() { Ok(entry) } else { Err(Problem::invalid(faults)) }
}

fn group(text: String) -> GroupRef {
    text.parse().map_or(GroupRef::Name(text), GroupRef::Id)
}

/// What somebody changed of the team that he saw; what he left alone stays whatever it has become.
pub fn patch(was: &TeamEntry, wanted: &TeamEntry) -> TeamPatch {
    fn changed<T: Clone + PartialEq>(was: &T, wanted: &T) -> Option<T> {
        (was != wanted).then(|| wanted.clone())
    }
    TeamPatch {
        description: changed(&was.description, &wanted.description),
        required_labels: changed(&was.required_labels, &wanted.required_labels),
        allowed_labels: changed(&was.allowed_labels, &wanted.allowed_labels),
        methods: changed(&was.methods, &wanted.methods),
        targets: changed(&was.targets, &wanted.targets),
        runner_groups: changed(&was.runner_groups, &wanted.runner_groups),
        max_runners: changed(&was.max_runners, &wanted.max_runners),
        requests_per_minute: changed(&was.requests_per_minute, &wanted.requests_per_minute),
        members: changed(&was.member, &wanted.member),
    }
}

/// The fields for people; of a team that is there the name stays.
pub fn inputs(form: Form<'_>, is_new: bool) -> Markup {
    let ticked = |method: &Method| form.fields.all("methods").any(|one| one == method.as_str());
    html! {
        div.fields {
            @if is_new { (form.text("name", "Name", "ml")) }
            (form.area("description", "Description", "What the team is for"))
        }
        fieldset {
            legend { "What it may" }
            div.fields {
                @for method in Method::ALL {
                    label.check {
                        input type="checkbox" name="methods" value=(method) checked[ticked(method)];
                        (method)
                    }
                }
                (form.text("max_runners", "Live runners at most (empty: no limit)", ""))
                (form.text("requests_per_minute", "Provisions a minute at most (empty: no limit)", ""))
            }
            div.fields {
                (form.area("allowed_labels", "Labels that it may ask for: a pattern a line", "gpu\ncuda-[0-9]+"))
                (form.area("required_labels", "Labels that every runner gets: one a line", ""))
            }
            div.fields {
                (form.area("targets", "Targets: one a line (empty: the default)", "octo-org\nocto-org/ml-*"))
                (form.area("runner_groups", "Runner groups: a name or id a line (empty: the default)", ""))
            }
        }
        fieldset {
            legend { "Who is in" }
            p.hint {
                "A line each: the issuer, a space, and claims as JSON, each with a pattern for its whole value. "
                "Whoever has a token of that issuer with all of these claims is in."
            }
            (form.area("members", "Members", "https://issuer.example.com {\"repository\": \"octo-org/ml-.*\"}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> TeamEntry {
        let claims = BTreeMap::from([("repository".to_owned(), "octo-org/\"ml\" .*".to_owned())]);
        TeamEntry {
            description: "two\nlines".to_owned(),
            required_labels: vec!["linux".to_owned()],
            allowed_labels: vec!["gpu".to_owned(), "cuda-[0-9]+".to_owned()],
            methods: vec![Method::Jit, Method::RegistrationToken],
            targets: Some(vec!["octo-org/*".to_owned()]),
            runner_groups: Some(vec![GroupRef::Id(3), GroupRef::Name("gpus".to_owned())]),
            max_runners: Some(0),
            requests_per_minute: None,
            member: vec![Member { issuer: "https://issuer".to_owned(), claims }],
            ..TeamEntry::named("ml")
        }
    }

    #[test]
    fn a_team_survives_its_form() {
        assert_eq!(entry_of(&fields_of(&entry())).unwrap(), entry());
    }

    #[test]
    fn every_fault_of_a_form_is_told_at_its_field() {
        let fields = Fields::of(vec![
            ("max_runners".to_owned(), "many".to_owned()),
            ("members".to_owned(), "https://issuer\n\nhttps://issuer {\"a\": 1}".to_owned()),
            ("methods".to_owned(), "magic".to_owned()),
        ]);
        let problem = entry_of(&fields).unwrap_err();
        let named: Vec<_> = problem.errors().iter().map(|error| error.field.as_str()).collect();
        assert_eq!(named, ["methods", "max_runners", "members[0]", "members[1]"]);
    }

    #[test]
    fn only_what_was_changed_is_patched() {
        let mut wanted = entry();
        wanted.max_runners = None;
        let expected = TeamPatch { max_runners: Some(None), ..TeamPatch::default() };
        assert_eq!(patch(&entry(), &wanted), expected);
    }
}
