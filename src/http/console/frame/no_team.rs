//! The page for somebody who is signed in but is in no team: the details to send to an administrator.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::{layout, ui};
use crate::broker::people::sessions::Session;

/// Claims about the token or the sign-in rather than about the person.
const OF_THE_TOKEN: &[&str] = &[
    "acr",
    "amr",
    "at_hash",
    "aud",
    "auth_time",
    "azp",
    "c_hash",
    "exp",
    "iat",
    "iss",
    "jti",
    "nbf",
    "nonce",
    "s_hash",
    "sid",
    "typ",
    "ver",
];

/// Longer values are not quoted, nor more of a list.
const LONGEST: usize = 200;
const MOST: usize = 50;

pub fn page(session: &Session) -> Markup {
    let identity = &session.caller.identity;
    let said = quotable(&session.claims);
    layout::page(
        session,
        "",
        "You are in no team yet",
        html! {
            h1 { "You are in no team yet" }
            p {
                "You are signed in, but no team includes you. Send the details below to an administrator "
                "(they contain no secrets)."
            }
            section.card {
                h2 { "Rule for an administrator" }
                p { "An administrator adds this below the team in the policy, or on the page of the team:" }
                (ui::copyable("member", &member(&identity.issuer, &identity.subject, &said)))
            }
            section.card {
                h2 { "Your sign-in" }
                (ui::facts([
                    ("Issuer", html! { code { (identity.issuer) } }),
                    ("Subject", html! { code { (identity.subject) } }),
                    ("Signed in with", html! { (session.provider) }),
                ]))
                div.table {
                    table {
                        caption { "Claims that a rule can match" }
                        thead { tr { th scope="col" { "Claim" } th scope="col" { "Value" } } }
                        tbody {
                            @for (name, values) in &said {
                                tr {
                                    th scope="row" { code { (name) } }
                                    td data-name="Value" { @for value in values { code.label { (value) } " " } }
                                }
                            }
                        }
                    }
                }
            }
            p { a href="/" { "Check again" } " once you have been added. You do not need to sign in again." }
        },
    )
}

/// Texts, numbers and booleans, and lists of them, as a policy compares them.
fn quotable(claims: &Map<String, Value>) -> Vec<(&str, Vec<String>)> {
    let text = |value: &Value| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(yes) => yes.to_string(),
            _ => return None,
        };
        let fits = (1..=LONGEST).contains(&text.len()) && !text.chars().any(char::is_control);
        fits.then_some(text)
    };
    let values = |value: &Value| match value {
        Value::Array(items) => items.iter().filter_map(text).take(MOST).collect(),
        one => text(one).into_iter().collect::<Vec<_>>(),
    };
    let plain = |name: &str| !name.is_empty() && !name.chars().any(char::is_control);
    let of_the_person =
        claims.iter().filter(|(name, _)| plain(name) && !OF_THE_TOKEN.contains(&name.as_str()));
    let said = of_the_person.map(|(name, value)| (name.as_str(), values(value)));
    said.filter(|(_, values)| !values.is_empty()).take(MOST).collect()
}

/// A member rule for this person, with comments that match whole groups instead.
fn member(issuer: &str, subject: &str, said: &[(&str, Vec<String>)]) -> String {
    let mut toml =
        format!("[[team.member]]\nissuer = {}\nclaims = {{ sub = {} }}\n", quoted(issuer), pattern(subject));
    let others = said.iter().filter(|(name, _)| *name != "sub");
    let wider = others.flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    for (at, (name, value)) in wider.take(MOST).enumerate() {
        if at == 0 {
            toml.push_str("# or match a whole group:\n");
        }
        toml.push_str(&format!("# claims = {{ {} = {} }}\n", key(name), pattern(value)));
    }
    toml
}

/// A pattern that matches this value alone.
fn pattern(value: &str) -> String {
    quoted(&regex::escape(value))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A claim's name that begins with a slash would be a JSON Pointer.
fn key(name: &str) -> String {
    let is_bare = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    match name.starts_with('/') {
        true => quoted(&format!("/{}", name.replace('~', "~0").replace('/', "~1"))),
        false if is_bare => name.to_owned(),
        false => quoted(name),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Target;
    use crate::policy::{Defaults, Document, Rules};

    /// A token with these claims is matched by the entry, and by each of its alternatives.
    fn let_in(issuer: &str, claims: &Value) {
        let claims = claims.as_object().unwrap();
        let subject = claims["sub"].as_str().unwrap();
        let entry = member(issuer, subject, &quotable(claims));
        let head = "[[team]]\nname = \"blue\"\nallowed_labels = [\"x\"]\n";
        let defaults = Defaults { target: "octo-org".parse::<Target>().unwrap(), group_id: 1 };
        let begin = entry.split("claims").next().unwrap();
        let ways = entry.lines().filter_map(|line| line.trim_start_matches("# ").strip_prefix("claims = "));
        let mut tried = 0;
        for way in ways {
            let toml = format!("{head}{begin}claims = {way}\n");
            let document = Document::parse(&toml).unwrap_or_else(|faults| panic!("{toml}: {faults:?}"));
            let rules =
                Rules::compile(&document, &defaults).unwrap_or_else(|faults| panic!("{toml}: {faults:?}"));
            assert_eq!(rules.memberships(issuer, claims).teams.len(), 1, "{toml}");
            tried += 1;
        }
        assert!(tried > 1, "{entry}");
        let document = Document::parse(&format!("{head}{entry}")).unwrap();
        let rules = Rules::compile(&document, &defaults).unwrap();
        let other = json!({ "sub": "somebody else" });
        assert!(rules.memberships(issuer, other.as_object().unwrap()).teams.is_empty(), "{entry}");
    }

    #[test]
    fn what_it_says_to_ask_for_lets_exactly_this_person_in() {
        let_in(
            "https://login.example.com",
            &json!({ "sub": "a.b+c", "groups": ["x", "y z"], "team": "blue" }),
        );
        let_in(
            "https://login.example.com/\"x'",
            &json!({ "sub": "'''\"\\d.*", "/odd~name": "1|2", "https://x/roles": [7, true], "a b": "[\"" }),
        );
    }

    #[test]
    fn nothing_of_the_token_itself_is_quoted_and_nothing_that_would_end_a_line() {
        let claims = json!({ "sub": "s", "nonce": "n", "at_hash": "h", "jti": "j", "bad": "a\nclaims = {}", "x\n": "y" });
        let said = quotable(claims.as_object().unwrap());
        assert_eq!(said, [("sub", vec!["s".to_owned()])]);
    }
}
