//! A team as form fields: textareas with one entry per line, so the form works without scripts. Pure functions.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::broker::policy::teams::TeamPatch;
use crate::http::console::frame::filter::Form;
use crate::http::console::frame::form::Fields;
use crate::http::problem::{FieldError, Problem};
use crate::model::{GroupRef, Method};
use crate::policy::{Member, TeamEntry};

/// The form fields of this team.
pub fn fields_of(entry: &TeamEntry) -> Fields {
    let mut fields = vec![
        ("name".to_owned(), entry.name.clone()),
        ("description".to_owned(), entry.description.clone()),
        ("required_labels".to_owned(), lines_of(&entry.required_labels)),
        ("allowed_labels".to_owned(), lines_of(&entry.allowed_labels)),
        ("targets".to_owned(), lines_of(entry.targets.as_deref().unwrap_or_default())),
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

/// One entry per line.
fn lines_of(entries: &[String]) -> String {
    entries.iter().map(|entry| line(entry)).collect::<Vec<_>>().join("\n")
}

/// An entry as a line: as it is, or in quotes, as JSON has them, where reading the line would change it.
fn line(entry: &str) -> String {
    let is_plain = entry.trim() == entry && !entry.starts_with('"') && !entry.contains(char::is_control);
    if is_plain { entry.to_owned() } else { quoted(entry) }
}

/// Reads what [`line`] writes. A quote that does not begin a JSON string stands for itself.
fn entry(line: &str) -> String {
    let unquoted = line.starts_with('"').then(|| serde_json::from_str(line).ok()).flatten();
    unquoted.unwrap_or_else(|| line.to_owned())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// One group per line. A name that looks like an id is in quotes.
fn groups_text(groups: &[GroupRef]) -> String {
    let line = |group: &GroupRef| match group {
        GroupRef::Id(id) => id.to_string(),
        GroupRef::Name(name) if name.parse::<i64>().is_ok() => quoted(name),
        GroupRef::Name(name) => line(name),
    };
    groups.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A member rule as a line of the form: the issuer, a space, the claims as JSON.
pub fn line_of(member: &Member) -> String {
    let claims = serde_json::to_string(&member.claims).expect("a map of texts is JSON");
    let is_plain = !member.issuer.contains(char::is_whitespace) && !member.issuer.starts_with('"');
    let issuer = if is_plain { member.issuer.clone() } else { quoted(&member.issuer) };
    format!("{issuer} {claims}")
}

/// Reads what `line_of` writes.
pub fn member_of(line: &str) -> Result<Member, String> {
    const EXPECTED: &str = "expected: issuer {\"claim\": \"pattern\"}";
    let (issuer, claims) = issuer_and_claims(line.trim()).ok_or(EXPECTED)?;
    let claims: BTreeMap<String, String> =
        serde_json::from_str(claims.trim()).map_err(|err| format!("{err}; {EXPECTED}"))?;
    Ok(Member { issuer, claims })
}

/// The issuer, which is in quotes if it has blanks, and the rest of the line.
fn issuer_and_claims(line: &str) -> Option<(String, &str)> {
    if line.starts_with('"') {
        let mut texts = serde_json::Deserializer::from_str(line).into_iter::<String>();
        if let Some(Ok(issuer)) = texts.next() {
            return Some((issuer, line.get(texts.byte_offset()..)?));
        }
    }
    let (issuer, claims) = line.split_once(char::is_whitespace)?;
    Some((issuer.to_owned(), claims))
}

/// Reads the form and reports every fault at once. The broker checks the result against the rules of a policy.
pub fn entry_of(fields: &Fields) -> Result<TeamEntry, Problem> {
    let mut faults = Vec::new();
    let lines = |name: &str| -> Vec<String> {
        let text = fields.get(name).unwrap_or_default();
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let some = |all: Vec<String>| (!all.is_empty()).then_some(all);
    let mut entry = TeamEntry::named(fields.get("name").unwrap_or_default());
    entry.description = normalised(fields.get("description").unwrap_or_default());
    let entries = |name: &str| lines(name).iter().map(|line| self::entry(line)).collect::<Vec<_>>();
    entry.required_labels = entries("required_labels");
    entry.allowed_labels = entries("allowed_labels");
    entry.targets = some(entries("targets"));
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
            Err(_) => faults.push(FieldError::new(name, "a whole number, or empty for no limit")),
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

/// A number is an id; everything else, and a number in quotes, is a name.
fn group(line: String) -> GroupRef {
    line.parse().map_or_else(|_| GroupRef::Name(entry(&line)), GroupRef::Id)
}

/// A description as a textarea sends it: without blanks around it, with line feeds as its line ends.
fn normalised(description: &str) -> String {
    description.trim().replace("\r\n", "\n").replace('\r', "\n")
}

/// The fields that differ between the team as it was shown and the form. The others are left as they are by now.
pub fn patch(was: &TeamEntry, wanted: &TeamEntry) -> TeamPatch {
    fn changed<T: Clone + PartialEq>(was: &T, wanted: &T) -> Option<T> {
        (was != wanted).then(|| wanted.clone())
    }
    TeamPatch {
        // The form trims it and normalises its line ends, which is no change.
        description: changed(&normalised(&was.description), &wanted.description),
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

/// The inputs. The name of an existing team cannot be changed.
pub fn inputs(form: Form<'_>, is_new: bool) -> Markup {
    let ticked = |method: &Method| form.fields.all("methods").any(|one| one == method.as_str());
    html! {
        div.fields {
            @if is_new { (form.text("name", "Name", "ml")) }
            (form.area("description", "Description", "What the team is for"))
        }
        fieldset {
            legend { "Permissions" }
            div.fields {
                @for method in Method::ALL {
                    label.check {
                        input type="checkbox" name="methods" value=(method) checked[ticked(method)];
                        (method)
                    }
                }
                (form.text("max_runners", "Max. live runners (empty: no limit)", ""))
                (form.text("requests_per_minute", "Max. provisions per minute (empty: no limit)", ""))
            }
            div.fields {
                (form.area("allowed_labels", "Allowed labels: one pattern per line", "gpu\ncuda-[0-9]+"))
                (form.area("required_labels", "Required labels (on every runner): one per line", ""))
            }
            div.fields {
                (form.area("targets", "Targets: one per line (empty: default)", "octo-org\nocto-org/ml-*"))
                (form.area("runner_groups", "Runner groups: one name or id per line (empty: default)", ""))
            }
        }
        fieldset {
            legend { "Members" }
            p.hint {
                "One rule per line: the issuer, a space, and the claims as JSON, each with a pattern for its whole value. "
                "A token from that issuer that matches all claims of a rule makes its holder a member."
            }
            (form.area("members", "Member rules", "https://issuer.example.com {\"repository\": \"octo-org/ml-.*\"}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Target;
    use crate::policy::{Defaults, Document, Rules};

    fn sample() -> TeamEntry {
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
    fn a_team_is_the_same_after_its_form() {
        assert_eq!(entry_of(&fields_of(&sample())).unwrap(), sample());
    }

    #[test]
    fn every_fault_of_a_form_is_reported_at_its_field() {
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
        let mut wanted = sample();
        wanted.max_runners = None;
        let expected = TeamPatch { max_runners: Some(None), ..TeamPatch::default() };
        assert_eq!(patch(&sample(), &wanted), expected);
    }

    #[test]
    fn a_group_whose_name_is_a_number_stays_a_name() {
        let groups = vec![GroupRef::Name("123".to_owned()), GroupRef::Id(123)];
        let entry = TeamEntry { runner_groups: Some(groups), ..sample() };
        assert_eq!(entry_of(&fields_of(&entry)).unwrap(), entry);
        assert_eq!(fields_of(&entry).get("runner_groups"), Some("\"123\"\n123"));
    }

    fn is_valid(entry: &TeamEntry) -> bool {
        let document = Document { team: vec![entry.clone()], ..Document::default() };
        let defaults = Defaults { target: "octo-org".parse::<Target>().unwrap(), group_id: 1 };
        Rules::compile(&document, &defaults).is_ok()
    }

    fn member() -> impl Strategy<Value = Member> {
        let issuer = r#"https://[a-z]{1,3}/?|"|[\PC]{1,6}|" "|[a-z] "#;
        let claims = prop::collection::btree_map("[a-z/~ \"]{1,5}", r#"[a-z.*+\n" ]{0,6}"#, 1..3);
        (issuer, claims).prop_map(|(issuer, claims)| Member { issuer, claims })
    }

    prop_compose! {
        /// Teams of which most are valid, with texts that a line of a form could change.
        fn team()(
            description in r"[\PC\t\r\n]{0,12}",
            required_labels in prop::collection::vec(r#"[ -+\--~]{1,5}|"[a-z]""#, 0..3),
            allowed_labels in prop::collection::vec(r#"[a-z0-9 "]{1,5}|[\PC]{1,4}|\\n"#, 0..3),
            methods in prop::sample::subsequence(Method::ALL.to_vec(), 1..=Method::ALL.len()),
            targets in prop::option::of(prop::collection::vec(r"[a-z]{1,3}(/[a-z]{0,2}\*?)?", 1..3)),
            runner_groups in prop::option::of(prop::collection::vec(
                prop_oneof![
                    (1i64..1000).prop_map(GroupRef::Id),
                    r#" ?-?\+?[0-9]{1,3} ?|"?[0-9a-z]{1,3}"?|[\PC]{1,4}"#.prop_map(GroupRef::Name),
                ],
                1..4,
            )),
            limits in (prop::option::of(0i64..), prop::option::of(0i64..)),
            member in prop::collection::vec(member(), 0..3),
        ) -> TeamEntry {
            TeamEntry {
                description, required_labels, allowed_labels, methods, targets, runner_groups,
                max_runners: limits.0, requests_per_minute: limits.1, member, ..TeamEntry::named("ml")
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(512) })]

        #[test]
        fn every_valid_team_is_the_same_after_its_form(entry in team().prop_filter("a valid team", is_valid)) {
            let read = entry_of(&fields_of(&entry)).unwrap();
            prop_assert_eq!(patch(&entry, &read), TeamPatch::default());
            let description = normalised(&entry.description);
            prop_assert_eq!(read, TeamEntry { description, ..entry });
        }
    }
}
