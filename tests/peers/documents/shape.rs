//! Whether an output is what a document shows: the same keys, kinds and lengths; texts without a digit or an ellipsis
//! to the letter.

use regex::Regex;
use serde_json::{Deserializer, Value};

/// The first difference between the JSON that a document shows and the last JSON that was printed.
pub fn differs_from_json(shown: &str, printed: &str) -> Option<String> {
    let shown: Value = serde_json::from_str(shown).expect("blocks are JSON by another test");
    let mut last = None;
    for value in Deserializer::from_str(printed).into_iter::<Value>() {
        match value {
            Ok(value) => last = Some(value),
            Err(err) => return Some(format!("no JSON was printed: {err}")),
        }
    }
    match last {
        Some(printed) => difference(&shown, &printed, "$"),
        None => Some("nothing was printed".into()),
    }
}

/// An entry `"…": "…"` stands for any further entries, a list `["…"]` for any list; of a list's objects the first is shown for all.
fn difference(shown: &Value, printed: &Value, at: &str) -> Option<String> {
    match (shown, printed) {
        (Value::Object(shown), Value::Object(printed)) => {
            let open = shown.contains_key("…");
            let foreign = printed.keys().find(|key| !open && !shown.contains_key(*key));
            if let Some(key) = foreign {
                return Some(format!("{at}: '{key}' is not shown"));
            }
            shown.iter().filter(|(key, _)| *key != "…").find_map(|(key, value)| match printed.get(key) {
                Some(found) => difference(value, found, &format!("{at}.{key}")),
                None => Some(format!("{at}: there is no '{key}'")),
            })
        }
        (Value::Array(shown), Value::Array(_)) if *shown == ["…"] => None,
        (Value::Array(shown), Value::Array(printed)) => {
            let objects = shown.first().is_some_and(Value::is_object);
            if objects && !printed.is_empty() {
                return printed
                    .iter()
                    .enumerate()
                    .take(shown.len())
                    .find_map(|(i, found)| difference(&shown[i], found, &format!("{at}[{i}]")));
            }
            if shown.len() != printed.len() {
                return Some(format!("{at}: {} entries, not {}", printed.len(), shown.len()));
            }
            let mut pairs = shown.iter().zip(printed).enumerate();
            pairs.find_map(|(i, (shown, found))| difference(shown, found, &format!("{at}[{i}]")))
        }
        (Value::String(shown), Value::String(printed)) => {
            let loose = shown.contains('…') || shown.chars().any(|c| c.is_ascii_digit());
            (!loose && shown != printed).then(|| format!("{at}: '{printed}', not '{shown}'"))
        }
        (Value::Bool(shown), Value::Bool(printed)) if shown != printed => Some(format!("{at}: {printed}")),
        (Value::Bool(_), Value::Bool(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Null, Value::Null) => None,
        _ => Some(format!("{at}: {printed}, not {shown}")),
    }
}

/// The first line of what a document shows that was not printed, in this order. `…` stands for anything, and a word
/// with a digit for any word.
pub fn differs_from_text(shown: &str, printed: &str) -> Option<String> {
    let mut lines = printed.lines();
    shown.lines().filter(|line| !line.trim().is_empty() && line.trim() != "…").find_map(|line| {
        let words = line.split_whitespace().map(|word| {
            let loose = word.chars().any(|c| c.is_ascii_digit()) && !word.contains('…');
            if loose { r"\S+".to_owned() } else { regex::escape(word).replace('…', ".*") }
        });
        let pattern = format!(r"^\s*{}\s*$", words.collect::<Vec<_>>().join(r"\s+"));
        let pattern = Regex::new(&pattern).expect("a pattern");
        (!lines.any(|found| pattern.is_match(found))).then(|| format!("'{line}' was not printed"))
    })
}

#[test]
fn an_output_of_another_shape_is_told() {
    let shown = r#"{"name": "ci-1", "status": "pending", "labels": ["a"], "count": 3, "gone": null}"#;
    let same = r#"{} {"name": "ci-77", "status": "pending", "labels": ["a"], "count": 4, "gone": null}"#;
    assert_eq!(differs_from_json(shown, same), None);
    for other in [
        r#"{"name": "ci-1", "status": "active", "labels": ["a"], "count": 3, "gone": null}"#,
        r#"{"name": "ci-1", "status": "pending", "labels": ["a", "b"], "count": 3, "gone": null}"#,
        r#"{"name": "ci-1", "status": "pending", "labels": ["a"], "count": "3", "gone": null}"#,
        r#"{"name": "ci-1", "status": "pending", "labels": ["a"], "count": 3, "gone": "now"}"#,
        r#"{"name": "ci-1", "status": "pending", "labels": ["a"], "count": 3, "gone": null, "more": 1}"#,
        r#"{"name": "ci-1", "status": "pending", "labels": ["a"], "count": 3}"#,
        "",
        "curl: (7)",
    ] {
        assert!(differs_from_json(shown, other).is_some(), "{other}");
    }
    assert_eq!(differs_from_json(r#"{"name": "…", "…": "…"}"#, r#"{"name": "x", "more": 1}"#), None);
    assert_eq!(differs_from_json(r#"{"path": ["…"]}"#, r#"{"path": ["a", 1]}"#), None);
    assert_eq!(differs_from_text("ok   database\n…\n2 faults", "ok  database\nx\n3 faults\n"), None);
    assert!(differs_from_text("ok database\n2 faults", "3 faults\nok database\n").is_some());
}
