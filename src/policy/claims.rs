//! Whether a token's claims match those of a member entry. Knows only verified claims, not their token.

use serde_json::{Map, Value};

use super::pattern::Pattern;

/// Where in a token's claims to look.
#[derive(Clone, Debug)]
enum ClaimPath {
    /// A claim of this very name.
    Claim(String),
    /// A JSON Pointer (RFC 6901) in its unescaped steps; never empty.
    Pointer { first: String, rest: Vec<String> },
}

/// One claim that has to match.
#[derive(Clone, Debug)]
pub(super) struct ClaimRule {
    path: ClaimPath,
    pattern: Pattern,
}

impl ClaimRule {
    /// A key that begins with `/` is a JSON Pointer, any other is literal.
    pub fn compile(key: &str, pattern: &str) -> Result<ClaimRule, String> {
        let path = claim_path(key)?;
        let pattern =
            Pattern::exact(pattern).map_err(|why| format!("'{key}': bad pattern '{pattern}': {why}"))?;
        Ok(ClaimRule { path, pattern })
    }

    /// The value that is looked at.
    pub fn found<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        match &self.path {
            ClaimPath::Claim(name) => claims.get(name),
            ClaimPath::Pointer { first, rest } => {
                claims.get(first).and_then(|value| rest.iter().try_fold(value, step))
            }
        }
    }

    pub fn matches(&self, claims: &Map<String, Value>) -> bool {
        match self.found(claims) {
            Some(Value::Array(items)) => items.iter().any(|item| self.matches_one(item)),
            Some(value) => self.matches_one(value),
            None => false,
        }
    }

    /// Numbers and booleans by their JSON text. Nothing nested matches: its text has no fixed form.
    fn matches_one(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.pattern.matches(text),
            Value::Number(number) => self.pattern.matches(&number.to_string()),
            Value::Bool(yes) => self.pattern.matches(if *yes { "true" } else { "false" }),
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        }
    }
}

fn claim_path(key: &str) -> Result<ClaimPath, String> {
    let Some(pointer) = key.strip_prefix('/') else {
        return match key {
            "" => Err("a claim's name is empty".to_owned()),
            _ => Ok(ClaimPath::Claim(key.to_owned())),
        };
    };
    let mut steps = pointer.split('/').map(|text| {
        unescaped(text)
            .ok_or_else(|| format!("'{key}' is no JSON Pointer: ~ is written ~0 and / is written ~1"))
    });
    let first = steps.next().transpose()?.unwrap_or_default();
    Ok(ClaimPath::Pointer { first, rest: steps.collect::<Result<_, _>>()? })
}

fn unescaped(step: &str) -> Option<String> {
    let mut parts = step.split('~');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        text.push(match part.chars().next()? {
            '0' => '~',
            '1' => '/',
            _ => return None,
        });
        text.push_str(&part[1..]);
    }
    Some(text)
}

fn step<'v>(value: &'v Value, step: &String) -> Option<&'v Value> {
    match value {
        Value::Object(map) => map.get(step),
        // RFC 6901: digits without a leading zero.
        Value::Array(items) if step == "0" || step.starts_with(|c: char| ('1'..='9').contains(&c)) => {
            items.get(step.parse::<usize>().ok()?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(key: &str, pattern: &str, claims: Value) -> bool {
        ClaimRule::compile(key, pattern).unwrap().matches(claims.as_object().unwrap())
    }

    #[test]
    fn a_key_is_literal_unless_it_is_a_pointer() {
        let claims =
            json!({ "a.b": "dots", "https://x/groups": ["g"], "a": { "b": { "/~": [7, 8] } }, "": "e" });
        assert!(matches("a.b", "dots", claims.clone()));
        assert!(matches("https://x/groups", "g", claims.clone()));
        assert!(matches("/a/b/~1~0", "8", claims.clone()));
        assert!(matches("/a/b/~1~0/0", "7", claims.clone()));
        assert!(!matches("/a/b/~1~0/00", "7", claims.clone()));
        assert!(!matches("/a/b/~1~0/+0", "7", claims.clone()));
        assert!(matches("/a.b", "dots", claims.clone()));
        assert!(!matches("a", ".*", claims.clone()));
        assert!(matches("/", "e", claims));
    }

    #[test]
    fn values_match_by_their_text_and_arrays_by_one_element() {
        assert!(matches("n", "42", json!({ "n": 42 })));
        assert!(matches("n", "true", json!({ "n": true })));
        assert!(matches("n", "b", json!({ "n": ["a", "b"] })));
        assert!(!matches("n", "a,b", json!({ "n": ["a", "b"] })));
        for nothing in [json!(null), json!({}), json!([]), json!([null, {}, ["x"]])] {
            assert!(!matches("n", ".*", json!({ "n": nothing })));
        }
        assert!(!matches("n", ".*", json!({})));
    }

    #[test]
    fn a_bad_pointer_is_refused() {
        for bad in ["", "/a~", "/a~2", "/~é"] {
            assert!(ClaimRule::compile(bad, "x").is_err(), "{bad}");
        }
    }
}
